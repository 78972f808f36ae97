"""From what is the case to what the Segment dock shows, disabled buttons with their reasons included. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.ports import ScanInfo
from napari_llm4seg.gui.state.session import ModelEntry
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState
from napari_llm4seg.gui.views.abstract.segment import OptionsState, SegmentState
from napari_llm4seg.modalities import mismatch


@dataclass(frozen=True)
class Facts:
    """Everything that decides what is shown."""

    scans: tuple[ScanInfo, ...]
    scan: ScanInfo | None
    entries: tuple[ModelEntry, ...]
    entry: ModelEntry | None
    devices: tuple[tuple[str, str], ...]
    device: str
    head: str
    config: PredictConfig
    settings: Settings
    ready: bool
    volumetric: bool
    listed: bool
    loading: bool
    opening: bool
    pending: bool
    running: bool
    undoable: str
    elsewhere: str
    progress: ProgressState | None
    message: Message | None


def present(facts: Facts) -> SegmentState:
    """Return the state to draw."""
    scan = facts.scan
    single = scan is None or scan.n_slices * scan.frames == 1
    whole = facts.volumetric and not single
    frames = scan.frame_words if scan is not None else ""
    reason = blocked(facts)
    waiting = facts.pending and not facts.running
    progress = facts.progress
    if waiting:
        progress = ProgressState(0, 0, "loading the model")
    active = facts.running or waiting
    return SegmentState(
        scans=tuple(Choice(item.id, item.name) for item in facts.scans),
        scan=scan.id if scan is not None else None,
        scan_words=(scan.problem or scan.words) if scan is not None else "",
        scan_problem=scan is not None and bool(scan.problem),
        models=tuple(Choice(item.key, item.name, str(item.path)) for item in facts.entries),
        model=facts.entry.key if facts.entry is not None else None,
        model_lines=_model_lines(facts),
        model_tooltip=words.card_text(facts.entry),
        devices=tuple(Choice(key, label) for key, label in facts.devices),
        device=facts.device,
        options=_options(facts),
        segment_slice=ButtonState(
            not reason, reason or _first_tooltip(single, whole, frames), _first_text(single, whole, frames)
        ),
        segment_all=ButtonState(
            not reason,
            reason or _all_tooltip(frames),
            f"Segment all {frames}" if whole and frames else "Segment whole scan",
            visible=not single and (not whole or bool(frames)),
        ),
        cancel=_cancel(active, facts.opening),
        undo=ButtonState(
            bool(facts.undoable) and not active,
            f"Take back the last run into '{facts.undoable}'"
            if facts.undoable and not active
            else ("Wait until the run has ended." if active else "There is no result to take back."),
        ),
        progress=progress,
        message=facts.message or _hint(facts),
        busy=active,
    )


def _cancel(active: bool, opening: bool) -> ButtonState:
    if active:
        return ButtonState(True, "Stop; finished slices are kept")
    return ButtonState(opening, "Stop reading" if opening else "Nothing is running.")


def _first_text(single: bool, whole: bool, frames: str) -> str:
    if single:
        return "Segment"
    return "Segment slice" if not whole else "Segment this volume" if frames else "Segment whole scan"


def _first_tooltip(single: bool, whole: bool, frames: str) -> str:
    if whole:
        every = "This model sees whole volumes, so it segments every slice, those around the one on show first"
        return f"{every}; of the {frames}, the one on show" if frames else every
    return "Segment this image" if single else "Segment the slice on show"


def _all_tooltip(frames: str) -> str:
    if frames:
        return f"Segment every slice of the {frames}, each on its own, what is on show first"
    return "Segment every slice, the one on show first"


def blocked(facts: Facts) -> str:
    """Return why nothing can be segmented now, or an empty string."""
    if facts.running or facts.pending:
        return "A segmentation is running; cancel it first."
    if facts.elsewhere:
        return f"{facts.elsewhere} Wait until it has ended."
    if facts.scan is None:
        return "Open a scan first."
    if facts.scan.problem:
        return facts.scan.problem
    if facts.volumetric and facts.scan.stack_of:
        return f"The slices of this scan are {facts.scan.stack_of}s and this model sees volumes; choose one of slices."
    if facts.entry is None:
        # While the list is still being made a click may wait for it.
        return "" if not facts.listed and facts.loading else "Choose a model first: + adds one from a file or folder."
    if not facts.ready and not facts.loading:
        return "The chosen model could not be loaded; choose another one."
    return ""


def _model_lines(facts: Facts) -> tuple[str, ...]:
    if facts.entry is None:
        return ("Looking for models…",) if not facts.listed and facts.loading else ("No model found; + adds one.",)
    lines = words.model_lines(facts.entry)
    if facts.ready or not facts.loading:
        return lines
    # in a line that is there anyway: the buttons below must not jump away under the mouse
    return (*lines[:-1], f"{lines[-1]} · loading…")


def _options(facts: Facts) -> OptionsState:
    config = facts.config
    return OptionsState(
        probability=facts.settings.probability,
        mode=config.mode,
        overlap=config.overlap,
        threshold=config.threshold,
        flips=config.flips,
        min_area=config.min_area,
        threshold_reason="This model picks the likeliest class; it has no threshold."
        if facts.head == "softmax"
        else "",
        mode_reason="This model sees volumes, always in overlapping patches." if facts.volumetric else "",
        overlap_reason="" if config.mode == "tiles" or facts.volumetric else "Only tiles overlap.",
        axis=config.axis,
        axis_reason=_no_other_slices(facts),
        changed=bool(facts.settings.options) or facts.settings.probability,
    )


def _no_other_slices(facts: Facts) -> str:
    """Return why slices cannot be cut along another axis, or an empty string."""
    if facts.volumetric:
        return "This model sees volumes, whatever their slices."
    if facts.scan is not None and facts.scan.stack_of:
        return f"The slices of this scan are {facts.scan.stack_of}s."
    return "" if facts.scan is None or facts.scan.n_slices > 1 else "A single image has no other slices."


def _hint(facts: Facts) -> Message | None:
    """Say calmly when model and scan come from different modalities."""
    if facts.scan is None or facts.entry is None or facts.entry.card is None:
        return None
    text = mismatch(facts.scan.modality, facts.entry.card.modality)
    return Message("warning", text) if text else None
