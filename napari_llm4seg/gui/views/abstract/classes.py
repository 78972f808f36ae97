"""The classes of the chosen mask: what its colours mean, and which one is painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from napari_llm4seg.gui.views.abstract.common import Message


@dataclass(frozen=True)
class ClassRow:
    """One class; ``colour`` is "#RRGGBB"."""

    value: int
    name: str
    colour: str


@dataclass(frozen=True)
class ClassesState:
    """``shown`` is False while there is no mask; ``selected`` is the label that the brush paints."""

    shown: bool = False
    classes: tuple[ClassRow, ...] = ()
    selected: int | None = None
    message: Message | None = None


class ClassesActions(Protocol):
    """What a person can do with the classes."""

    def select_class(self, value: int) -> None: ...

    def rename_class(self, value: int, name: str) -> None: ...

    def recolour_class(self, value: int, colour: str) -> None: ...

    def add_class(self) -> None: ...

    def dismiss_message(self) -> None: ...


class ClassesView(Protocol):
    """Draws a ``ClassesState`` and calls ``ClassesActions``."""

    def attach(self, actions: ClassesActions) -> None: ...

    def show_state(self, state: ClassesState) -> None: ...
