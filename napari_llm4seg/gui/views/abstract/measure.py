"""The Measure section: how large, how bright and how alike what is in the mask is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState


@dataclass(frozen=True)
class Table:
    """Cells as text, the first of each row a class's name; ``colours`` are "#RRGGBB", one per row."""

    heading: tuple[str, ...]
    tooltips: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    colours: tuple[str, ...]


@dataclass(frozen=True)
class MeasureState:
    """Everything the section shows at one moment.

    Parameters
    ----------
    summary : str
        What stands beside the section's title while it is closed.
    measures, agreement : Table or None
        Of the mask alone, and against the other one.
    note : str
        How far the tables can be trusted: on which scan, out of date, from another grid.
    others : tuple of Choice
        Masks to compare with; ``other`` "" is none.
    tolerance, unit
        Of the surface Dice.
    """

    shown: bool = False
    summary: str = ""
    measures: Table | None = None
    agreement: Table | None = None
    note: str = ""
    out_of_date: bool = False
    others: tuple[Choice, ...] = ()
    other: str = ""
    tolerance: float = 1.0
    unit: str = "mm"
    measure: ButtonState = field(default_factory=ButtonState)
    copy: ButtonState = field(default_factory=ButtonState)
    save: ButtonState = field(default_factory=ButtonState)
    cancel: ButtonState = field(default_factory=ButtonState)
    suggested: str = "measures.csv"
    progress: ProgressState | None = None
    message: Message | None = None


class MeasureActions(Protocol):
    """What a person can do in the section."""

    def measure(self) -> None: ...

    def choose_other(self, mask_id: str) -> None: ...

    def set_tolerance(self, value: float) -> None: ...

    def copy(self) -> None: ...

    def save_csv(self, path: Path) -> None: ...

    def cancel(self) -> None: ...

    def dismiss_message(self) -> None: ...


class MeasureView(Protocol):
    """Draws a ``MeasureState`` and calls ``MeasureActions``."""

    def attach(self, actions: MeasureActions) -> None: ...

    def show_state(self, state: MeasureState) -> None: ...

    def put_on_clipboard(self, text: str) -> None: ...
