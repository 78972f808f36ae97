"""The batch page: a folder of scans in, a folder of masks out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from napari_llm4seg.gui.views.abstract.common import ButtonState, Message, ProgressState


@dataclass(frozen=True)
class BatchRow:
    """One case of the table: ``status`` and ``found`` in words; ``details`` say why it failed."""

    name: str
    status: str = ""
    found: str = ""
    details: str = ""
    openable: bool = False


@dataclass(frozen=True)
class BatchState:
    """Everything the batch page shows at one moment."""

    source: str = ""
    source_words: str = ""
    out: str = ""
    rows: tuple[BatchRow, ...] = ()
    start: ButtonState = field(default_factory=ButtonState)
    cancel: ButtonState = field(default_factory=ButtonState)
    progress: ProgressState | None = None
    message: Message | None = None
    busy: bool = False


class BatchActions(Protocol):
    """What a person can do on the batch page."""

    def choose_source(self, folder: Path) -> None: ...

    def choose_out(self, folder: Path) -> None: ...

    def start_batch(self) -> None: ...

    def cancel_batch(self) -> None: ...

    def open_case(self, name: str) -> None: ...

    def dismiss_message(self) -> None: ...


class BatchView(Protocol):
    """Draws a ``BatchState`` and calls ``BatchActions``."""

    def attach(self, actions: BatchActions) -> None: ...

    def show_state(self, state: BatchState) -> None: ...
