"""The Clean up section: one class of the mask made tidy, each step one that can be undone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState

Where = Literal["slice", "volume"]


@dataclass(frozen=True)
class CleanUpState:
    """Everything the section shows at one moment.

    Parameters
    ----------
    classes, chosen
        The classes of the mask; keys are label values.
    where : {"slice", "volume"}
    flat : bool
        The mask is one slice: there is nothing to choose, and nothing between slices.
    smallest, smallest_unit, smallest_decimals
        Islands below it are removed.
    radius, radius_unit, radius_decimals
        Of the smoothing.
    busy : bool
        A step is being computed.
    """

    shown: bool = False
    classes: tuple[Choice, ...] = ()
    chosen: str | None = None
    where: Where = "volume"
    where_words: str = ""
    flat: bool = False
    smallest: float = 100.0
    smallest_unit: str = "mm³"
    smallest_decimals: int = 0
    radius: float = 1.0
    radius_unit: str = "mm"
    radius_decimals: int = 1
    keep_largest: ButtonState = field(default_factory=ButtonState)
    fill_holes: ButtonState = field(default_factory=ButtonState)
    remove_islands: ButtonState = field(default_factory=ButtonState)
    smooth: ButtonState = field(default_factory=ButtonState)
    fill_between: ButtonState = field(default_factory=ButtonState)
    cancel: ButtonState = field(default_factory=ButtonState)
    busy: bool = False
    progress: ProgressState | None = None
    message: Message | None = None


class CleanUpActions(Protocol):
    """What a person can do in the section."""

    def choose_class(self, key: str) -> None: ...

    def choose_where(self, where: Where) -> None: ...

    def set_smallest(self, value: float) -> None: ...

    def set_radius(self, value: float) -> None: ...

    def keep_largest(self) -> None: ...

    def fill_holes(self) -> None: ...

    def remove_islands(self) -> None: ...

    def smooth(self) -> None: ...

    def fill_between(self) -> None: ...

    def cancel(self) -> None: ...

    def dismiss_message(self) -> None: ...


class CleanUpView(Protocol):
    """Draws a ``CleanUpState`` and calls ``CleanUpActions``."""

    def attach(self, actions: CleanUpActions) -> None: ...

    def show_state(self, state: CleanUpState) -> None: ...
