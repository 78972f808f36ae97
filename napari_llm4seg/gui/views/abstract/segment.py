"""The Segment dock from the scan to the button."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState


@dataclass(frozen=True)
class OptionsState:
    """Values of the collapsed options; a reason, where given, says why that option has no effect now."""

    probability: bool = False
    mode: str = "whole"
    overlap: float = 0.5
    threshold: float = 0.5
    flips: bool = False
    min_area: float = 0.0
    axis: str = "stored"
    axis_reason: str = ""
    mode_reason: str = ""
    threshold_reason: str = ""
    overlap_reason: str = ""
    changed: bool = False


@dataclass(frozen=True)
class SegmentState:
    """Everything the Segment dock shows at one moment."""

    scans: tuple[Choice, ...] = ()
    scan: str | None = None
    scan_words: str = ""
    scan_problem: bool = False
    models: tuple[Choice, ...] = ()
    model: str | None = None
    model_lines: tuple[str, ...] = ()
    model_tooltip: str = ""
    devices: tuple[Choice, ...] = ()
    device: str = "auto"
    options: OptionsState = field(default_factory=OptionsState)
    segment_slice: ButtonState = field(default_factory=ButtonState)
    segment_all: ButtonState = field(default_factory=ButtonState)
    cancel: ButtonState = field(default_factory=ButtonState)
    undo: ButtonState = field(default_factory=ButtonState)
    progress: ProgressState | None = None
    message: Message | None = None
    busy: bool = False


class SegmentActions(Protocol):
    """What a person can do in the Segment dock."""

    def choose_scan(self, scan_id: str) -> None: ...

    def choose_model(self, key: str) -> None: ...

    def add_model(self, path: Path) -> None: ...

    def choose_device(self, key: str) -> None: ...

    def set_option(self, name: str, value: Any) -> None: ...

    def reset_options(self) -> None: ...

    def open_scan(self, path: Path) -> None: ...

    def open_sample(self, key: str) -> None: ...

    def segment_slice(self) -> None: ...

    def segment_all(self) -> None: ...

    def cancel(self) -> None: ...

    def undo(self) -> None: ...

    def dismiss_message(self) -> None: ...


class SegmentView(Protocol):
    """Draws a ``SegmentState`` and calls ``SegmentActions``."""

    def attach(self, actions: SegmentActions) -> None: ...

    def show_state(self, state: SegmentState) -> None: ...

    def choose_series(self, name: str, lines: Sequence[str], first: int) -> Sequence[int]:
        """Ask which of the series in ``name`` to open, ``first`` being ticked at the beginning.

        Returns their places in ``lines``, none to open nothing.
        """
