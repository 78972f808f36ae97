"""Training on what was corrected: parts, progress with its curve, before and after, the versions there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class CurveState:
    """Loss of every step told, and IoU on the training slices at every validation, over the epochs."""

    loss: Points = ()
    score: Points = ()


@dataclass(frozen=True)
class VerdictState:
    """What held-back slices, or a cross-check, say: ``lines`` are figures, ``words`` how far they can be trusted.

    ``check`` starts a cross-check.
    """

    lines: tuple[str, ...] = ()
    words: str = ""
    worse: bool = False
    changes: str = ""
    check: ButtonState = field(default_factory=lambda: ButtonState(visible=False))
    keep: ButtonState = field(default_factory=ButtonState)
    roll_back: ButtonState = field(default_factory=ButtonState)


@dataclass(frozen=True)
class VersionRow:
    """One checkpoint of the project; ``score`` is of slices that it, or the trainings that judged it, did not see."""

    number: int
    name: str
    score: str = ""
    current: bool = False
    tooltip: str = ""


@dataclass(frozen=True)
class NewModelState:
    """What a new model can be made of, and what is chosen; ``summary`` says that in one line."""

    sizes: tuple[Choice, ...] = ()
    backbones: tuple[Choice, ...] = ()
    layers: tuple[Choice, ...] = ()
    size: str = ""
    backbone: str = ""
    layer: str = ""
    enabled: bool = True
    summary: str = ""


@dataclass(frozen=True)
class RetrainState:
    """Everything the training part shows at one moment.

    ``new_name`` and ``new_classes`` are what "New model…" proposes and says, ``made`` is what it is made of.
    ``verdict`` is None while nothing was trained. ``compared`` is what two chosen versions differ in. ``trains`` says
    which model is trained further.
    """

    parts: str = "adapters+decoder"
    trains: str = ""
    parts_enabled: bool = True
    train: ButtonState = field(default_factory=ButtonState)
    new: ButtonState = field(default_factory=ButtonState)
    new_name: str = ""
    new_classes: str = ""
    made: NewModelState = field(default_factory=NewModelState)
    progress: ProgressState | None = None
    stop: ButtonState = field(default_factory=ButtonState)
    cancel: ButtonState = field(default_factory=ButtonState)
    curve: CurveState | None = None
    verdict: VerdictState | None = None
    versions: tuple[VersionRow, ...] = ()
    compared: str = ""
    message: Message | None = None
    busy: bool = False


class RetrainActions(Protocol):
    """What a person can do there."""

    def choose_parts(self, parts: str) -> None: ...

    def retrain(self) -> None: ...

    def new_model(self, name: str) -> None: ...

    def choose_new(self, name: str, key: str) -> None:
        """Choose a new model's "preset", "backbone" or "layer"."""

    def look_for_layers(self) -> None:
        """Look which frozen layers are at hand."""

    def stop(self) -> None:
        """End the training now and keep its best weights."""

    def cancel(self) -> None: ...

    def cross_check(self) -> None:
        """Judge all corrected slices, each by a training without it."""

    def keep(self) -> None: ...

    def roll_back(self) -> None: ...

    def use_version(self, number: int) -> None: ...

    def rename_version(self, number: int, name: str) -> None: ...

    def compare_versions(self, a: int, b: int) -> None: ...

    def dismiss_message(self) -> None: ...


class RetrainView(Protocol):
    """Draws a ``RetrainState`` and calls ``RetrainActions``."""

    def attach(self, actions: RetrainActions) -> None: ...

    def show_state(self, state: RetrainState) -> None: ...
