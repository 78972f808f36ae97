"""The Export section: the chosen mask as a file that other programs read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState


@dataclass(frozen=True)
class ExportState:
    """``line`` says what the chosen format keeps, or why it cannot hold this mask; ``suggested`` is a file name."""

    formats: tuple[Choice, ...] = ()
    format: str = ""
    line: str = ""
    suggested: str = ""
    save: ButtonState = field(default_factory=ButtonState)
    progress: ProgressState | None = None
    message: Message | None = None


class ExportActions(Protocol):
    """What a person can do in the Export section."""

    def choose_format(self, suffix: str) -> None: ...

    def save(self, path: Path) -> None: ...

    def dismiss_message(self) -> None: ...


class ExportView(Protocol):
    """Draws an ``ExportState`` and calls ``ExportActions``."""

    def attach(self, actions: ExportActions) -> None: ...

    def show_state(self, state: ExportState) -> None: ...
