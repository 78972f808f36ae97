"""What a controller needs from the viewer, the models and the runners: the seams at which tests put fakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.gui.state.look import Look
from napari_llm4seg.gui.state.session import ModelEntry
from napari_llm4seg.io import Progress, SeriesInfo, TimeStack
from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ScanInfo:
    """One image layer: ``words`` are its shape and spacing; ``problem`` says why it cannot be segmented.

    ``look`` is None where it would take time to find out. ``frames`` are the time points or channels before space, each
    a scan of ``n_slices`` of its own; ``frame_words`` say what and how many, ``frame_kind`` what one is. ``stack_of``
    says what the slices of a stack are where they are no slices of a volume: "time point", "channel". ``notes`` are
    what reading the file had to say, in sentences.
    """

    id: str
    name: str
    words: str
    n_slices: int
    modality: str = ""
    problem: str = ""
    look: Look | None = None
    frames: int = 1
    frame_words: str = ""
    frame_kind: str = "frame"
    stack_of: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultSpec:
    """What a result layer must know about the model that fills it.

    Parameters
    ----------
    model, digest : str
        Name for the layer, and what tells two models of the same name apart.
    classes : tuple of (value, name, "#RRGGBB")
    slices : tuple of int or None
        Slices that will be written, counted through all frames; None for all.
    channels : tuple of str
        Names of the head's probability channels in order; empty when no probability layer is wanted.
    axis : int
        Axis of (z, y, x) along which the slices follow one another.
    """

    model: str
    digest: str
    classes: tuple[tuple[int, str, str], ...]
    slices: tuple[int, ...] | None = None
    channels: tuple[str, ...] = ()
    axis: int = 0


@dataclass(frozen=True)
class SlicePart:
    """One finished slice: ``labels`` (Y, X) integer, ``probabilities`` (K, Y, X) float in [0, 1] or None.

    ``evidence`` is what the probabilities say of where the model is unsure (``corrections.suggest.Evidence``).
    ``z`` counts along the axis of the run's ``ResultSpec``, through all frames: frame times slices of a frame, plus
    slice. The arrays have the two other axes of space, in their order.
    """

    z: int
    labels: Array
    probabilities: Array | None = None
    evidence: Any = None


class ResultHandle(Protocol):
    """The layers that one run writes to."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def kept(self) -> Sequence[int]:
        """Slices left as they were because the person painted there while the run went on."""

    def alive(self) -> bool:
        """Return whether the labels layer is in the viewer, or on its way there."""

    @property
    def ready(self) -> bool:
        """Whether slices can be written."""

    def prepare(self) -> bool:
        """Do the next part of making the layers; return whether more are to be done."""

    def write(self, part: SlicePart) -> None: ...

    def finish(self, provenance: Mapping[str, Any]) -> None: ...

    def undo(self) -> bool:
        """Take the run back; return False, and change nothing, where the person has edited its result."""


class ViewerPort(Protocol):
    """The viewer as the controller sees it."""

    def scans(self) -> list[ScanInfo]: ...

    def selected_scan(self) -> str | None: ...

    def on_show(self, scan_id: str, axis: int = 0) -> tuple[int, int]:
        """Return which frame, and which of its slices along ``axis``, the viewer is at."""

    def volume(self, scan_id: str, frame: int = 0) -> Volume:
        """Return a frame of the layer as a volume without copying; raises ``InputError`` where it is none."""

    def begin_result(self, scan_id: str, spec: ResultSpec) -> ResultHandle: ...

    def add_volumes(self, volumes: Sequence[Volume]) -> None: ...

    def connect(self, on_change: Callable[[], None]) -> None:
        """Call ``on_change`` whenever layers come, go, are renamed or get selected."""

    def disconnect(self) -> None: ...


@dataclass(frozen=True)
class MaskInfo:
    """One labels layer.

    ``classes`` are (value, name, "#RRGGBB"), empty where nobody named them; ``scan_id`` is the image layer it was made
    for, None where that is not known or closed; ``words`` are its shape and spacing.
    """

    id: str
    name: str
    words: str
    n_slices: int
    classes: tuple[tuple[int, str, str], ...] = ()
    scan_id: str | None = None
    in_mm: bool = False
    from_dicom: bool = False


@dataclass(frozen=True)
class ExportSource:
    """A mask to be written: its labels with classes and provenance, the scan it lies on, whether a person edited it."""

    labels: Volume
    scan: Volume | None
    edited: bool


class MaskPort(Protocol):
    """The viewer's labels layers as controllers see them."""

    def masks(self) -> list[MaskInfo]: ...

    def selected_mask(self) -> str | None: ...

    def current_slice(self, layer_id: str) -> int: ...

    def volume(self, layer_id: str) -> Volume:
        """Return an image or labels layer as a volume without copying; raises ``InputError`` where it is none.

        Of a layer with several time points or channels it is the one on the screen.
        """

    def frame_on_show(self, layer_id: str) -> tuple[int, str]:
        """Return which time point or channel is on the screen, and "time point 3 of 4"; 0 and "" without any."""

    def export_source(self, mask_id: str) -> ExportSource:
        """Return what an export needs; the labels are a copy, which painting does not change any more."""

    def plane_on_show(self, layer_id: str) -> tuple[int, int] | None:
        """Return (axis, index), of (z, y, x), of the layer's slice on the screen; None while it is seen in 3-D."""

    def replace_labels(
        self, mask_id: str, labels: Array, box: tuple[slice, slice, slice] | None = None, frame: int = 0
    ) -> int:
        """Make the mask's voxels, or those in ``box``, ``labels`` in one undo step; return how many changed."""

    def note_step(self, mask_id: str, words: str) -> None:
        """Keep with the mask what its newest undo step did, until that is taken back."""

    def connect(self, on_change: Callable[[], None], on_edit: Callable[[str], None]) -> None:
        """Call ``on_change`` when layers come, go or get selected, and ``on_edit(mask_id)`` when voxels change."""

    def disconnect(self) -> None: ...


class ClassPort(Protocol):
    """The classes of labels layers as controllers see them."""

    def classes(self, mask_id: str) -> tuple[tuple[int, str, str], ...]:
        """Return what was named, as (value, name, "#RRGGBB")."""

    def set_classes(self, mask_id: str, classes: tuple[tuple[int, str, str], ...]) -> None: ...

    def colour(self, mask_id: str, value: int) -> str:
        """Return the "#RRGGBB" in which a label is drawn."""

    def largest(self, mask_id: str) -> int:
        """Return the highest value that the mask can hold."""

    def selected(self, mask_id: str) -> int:
        """Return the label that the brush paints."""

    def select(self, mask_id: str, value: int) -> None:
        """Make the mask the layer that is painted on, and ``value`` what is painted."""

    def connect(self, on_select: Callable[[], None]) -> None:
        """Call ``on_select`` when another label is painted from now on."""

    def disconnect(self) -> None: ...


@dataclass(frozen=True)
class WindowInfo:
    """What a scan's layer shows: whether its values are CT numbers, from where to where, and whether that is all."""

    ct: bool
    limits: tuple[float, float]
    full: bool


class WindowPort(Protocol):
    """The display of the scan's layer as a controller sees it."""

    def window(self, scan_id: str) -> WindowInfo | None:
        """Return what is shown; None where there is no choice: in colour, of 8 bits, or gone."""

    def show_window(self, scan_id: str, limits: tuple[float, float]) -> None: ...

    def show_full(self, scan_id: str) -> tuple[float, float]:
        """Show every value; return from where to where."""

    def show_percentiles(self, scan_id: str) -> tuple[float, float]:
        """Show all but the extreme 0.5 % on either side; return from where to where."""

    def connect(self, on_change: Callable[[], None]) -> None:
        """Call ``on_change`` whenever layers come or go, or one shows another window."""

    def disconnect(self) -> None: ...


@dataclass(frozen=True)
class Catalogue:
    """What can be chosen on this machine: ``devices`` as (key, label), "auto" first and saying what it is."""

    models: tuple[ModelEntry, ...]
    devices: tuple[tuple[str, str], ...]
    samples: tuple[tuple[str, str], ...] = field(default=())


class ModelSource(Protocol):
    """Lists and loads models. Every method may take seconds: call it in a job, never in the window's thread."""

    def catalogue(self) -> Catalogue: ...

    def load(self, entry: ModelEntry, device: str) -> Any:
        """Return a ready ``Predictor``."""

    def configured(self, predictor: Any, config: PredictConfig) -> Any:
        """Return a predictor of the same model that runs with ``config``."""

    def series(self, path: Path, progress: Progress | None = None) -> Sequence[SeriesInfo]:
        """Return what can be chosen from at ``path``; nothing where it holds one scan."""

    def read_scan(
        self, path: Path, numbers: Sequence[int | None] = (None,), progress: Progress | None = None
    ) -> Sequence[Volume | TimeStack]:
        """Return the series of these numbers, None standing for all there is; what ``progress`` raises stops it."""

    def read_sample(self, key: str) -> Sequence[Volume]: ...


class Runner(Protocol):
    """``napari_llm4seg.jobs`` runners; starting a job supersedes the runner's previous one."""

    def start(
        self,
        fn: Callable[[Any], Any],
        *,
        on_progress: Callable[[Any], None] | None = None,
        on_partial: Callable[[Any], None] | None = None,
        on_result: Callable[[Any], None] | None = None,
        on_error: Callable[[Any], None] | None = None,
        on_cancelled: Callable[[], None] | None = None,
    ) -> Any: ...

    @property
    def current(self) -> Any:
        """The newest job's handle, or None."""
