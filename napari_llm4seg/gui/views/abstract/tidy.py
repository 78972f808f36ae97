"""One line on the pieces of a new result, with a button that keeps the largest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from napari_llm4seg.gui.views.abstract.common import ButtonState


@dataclass(frozen=True)
class TidyState:
    """``words`` are empty where there is nothing to say; the button is hidden where there is nothing to remove."""

    words: str = ""
    keep: ButtonState = field(default_factory=lambda: ButtonState(visible=False))


class TidyActions(Protocol):
    """What a person can do there."""

    def keep_largest(self) -> None: ...

    def dismiss(self) -> None: ...


class TidyView(Protocol):
    """Draws a ``TidyState`` and calls ``TidyActions``."""

    def attach(self, actions: TidyActions) -> None: ...

    def show_state(self, state: TidyState) -> None: ...
