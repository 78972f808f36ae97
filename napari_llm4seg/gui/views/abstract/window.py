"""The choice of which values of the scan are shown from black to white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from napari_llm4seg.gui.views.abstract.common import Choice


@dataclass(frozen=True)
class WindowState:
    """Nothing is shown without ``choices``: for pictures in colour or of 8 bits.

    ``centre`` and ``width`` are those on show, in ``unit`` ("HU", or nothing); ``editing`` shows them to be changed.
    """

    choices: tuple[Choice, ...] = ()
    current: str | None = None
    editing: bool = False
    centre: float = 0.0
    width: float = 1.0
    unit: str = ""


class WindowActions(Protocol):
    """What a person can do with the choice."""

    def choose_window(self, key: str) -> None: ...

    def use_own(self, centre: float, width: float) -> None: ...


class WindowView(Protocol):
    """Draws a ``WindowState`` and calls ``WindowActions``."""

    def attach(self, actions: WindowActions) -> None: ...

    def show_state(self, state: WindowState) -> None: ...
