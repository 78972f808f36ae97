"""What the docks of one viewer share: scan, checkpoint, device, result and whether something runs. No Qt, no napari."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_llm4seg.config import Card
from napari_llm4seg.gui.state.look import Look
from napari_llm4seg.gui.state.settings import Settings


@dataclass(frozen=True)
class ModelEntry:
    """One checkpoint that can be chosen.

    Parameters
    ----------
    key : str
        Starter name or the path as given: what the settings remember.
    name : str
        What a person reads.
    path : Path
        Folder or file of the checkpoint.
    card : Card or None
        None until a checkpoint given by path has been read.
    starter : bool
        Whether it was shipped with the package.
    look : Look or None
        What its training images looked like, where that is known without its weights.
    """

    key: str
    name: str
    path: Path
    card: Card | None = None
    starter: bool = False
    look: Look | None = None


@dataclass(frozen=True)
class Tidy:
    """What is to be said of the pieces of a mask that a model has just written.

    Parameters
    ----------
    mask_id : str
    words : str
    values : tuple of int
        The classes of which all but the largest piece may be removed, none once that was done.
    names : str
        Those classes, in words.
    """

    mask_id: str
    words: str
    values: tuple[int, ...] = ()
    names: str = ""


class Session:
    """Shared choices of one viewer; setting an attribute to another value emits its signal.

    Attributes
    ----------
    scan_id : str or None
        Identifier of the chosen image layer.
    model : ModelEntry or None
    predictor : object or None
        The loaded model (``napari_llm4seg.predict.Predictor``), None while it loads.
    device : str
        "auto", "cpu", "cuda" or "mps".
    result_id : str or None
        Identifier of the newest result layer.
    mask_id : str or None
        Identifier of the labels layer that is measured, cleaned up, exported and corrected.
    busy : str
        What is running, in words; empty when nothing is.
    tidy : Tidy or None
        What is to be said of the pieces of the newest result.
    settings : Settings
        The choices that are kept; every dock changes the same.
    docks : set of str
        Names of the plugin's docks that are open.

    ``mask_edited`` is emitted with the identifier of a labels layer whose voxels changed, whoever changed them, and
    ``classes_changed`` with that of one whose classes were named or coloured anew. ``masks_changed`` is emitted when
    labels layers came, went or were renamed, ``painted_changed`` when another label of the mask is painted from now on.
    ``model_wanted`` is emitted with a ``ModelEntry`` and its predictor, or None where it is not loaded yet: the Segment
    dock chooses it as if a person had. ``segment_wanted`` asks that dock to segment the scan. ``stack_written`` is
    emitted with the identifier of a mask whose slices, several of one volume, a model has written. ``tidy_wanted`` asks
    to do what ``tidy`` says.
    """

    scan_changed = Signal(object)
    model_changed = Signal(object)
    predictor_changed = Signal(object)
    device_changed = Signal(str)
    result_changed = Signal(object)
    mask_changed = Signal(object)
    mask_edited = Signal(str)
    masks_changed = Signal()
    classes_changed = Signal(str)
    painted_changed = Signal()
    busy_changed = Signal(str)
    tidy_changed = Signal(object)
    model_wanted = Signal(object, object)
    segment_wanted = Signal()
    stack_written = Signal(str)
    tidy_wanted = Signal()

    def __init__(self) -> None:
        self.docks: set[str] = set()
        self._settings: Settings | None = None
        self._values: dict[str, Any] = {
            "scan": None,
            "model": None,
            "predictor": None,
            "device": "auto",
            "result": None,
            "mask": None,
            "busy": "",
            "tidy": None,
        }

    def _set(self, name: str, value: Any) -> None:
        if self._values[name] is value or self._values[name] == value:
            return
        self._values[name] = value
        getattr(self, f"{name}_changed").emit(value)

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            self._settings = Settings.load()
        return self._settings

    @property
    def scan_id(self) -> str | None:
        value: str | None = self._values["scan"]
        return value

    @scan_id.setter
    def scan_id(self, value: str | None) -> None:
        self._set("scan", value)

    @property
    def model(self) -> ModelEntry | None:
        value: ModelEntry | None = self._values["model"]
        return value

    @model.setter
    def model(self, value: ModelEntry | None) -> None:
        self._set("model", value)

    @property
    def predictor(self) -> Any:
        return self._values["predictor"]

    @predictor.setter
    def predictor(self, value: Any) -> None:
        self._set("predictor", value)

    @property
    def device(self) -> str:
        value: str = self._values["device"]
        return value

    @device.setter
    def device(self, value: str) -> None:
        self._set("device", value)

    @property
    def result_id(self) -> str | None:
        value: str | None = self._values["result"]
        return value

    @result_id.setter
    def result_id(self, value: str | None) -> None:
        self._set("result", value)

    @property
    def mask_id(self) -> str | None:
        value: str | None = self._values["mask"]
        return value

    @mask_id.setter
    def mask_id(self, value: str | None) -> None:
        self._set("mask", value)

    @property
    def tidy(self) -> Tidy | None:
        value: Tidy | None = self._values["tidy"]
        return value

    @tidy.setter
    def tidy(self, value: Tidy | None) -> None:
        self._set("tidy", value)

    @property
    def busy(self) -> str:
        value: str = self._values["busy"]
        return value

    @busy.setter
    def busy(self, value: str) -> None:
        self._set("busy", value)


_SESSIONS: dict[int, Session] = {}


def session_for(viewer: object) -> Session:
    """Return the one session of ``viewer``; it is forgotten when the viewer is."""
    # A viewer handed to a plugin may be a proxy; both must give the same session.
    owner = getattr(viewer, "__wrapped__", viewer)
    key = id(owner)
    if key not in _SESSIONS:
        _SESSIONS[key] = Session()
        weakref.finalize(owner, _SESSIONS.pop, key, None)
    return _SESSIONS[key]
