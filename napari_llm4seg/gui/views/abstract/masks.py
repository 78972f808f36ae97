"""The choice of the mask that the parts below it work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from napari_llm4seg.gui.views.abstract.common import Choice


@dataclass(frozen=True)
class MaskState:
    """Nothing is shown while there is no labels layer."""

    masks: tuple[Choice, ...] = ()
    mask: str | None = None


class MaskActions(Protocol):
    """What a person can do with the choice."""

    def choose_mask(self, mask_id: str) -> None: ...


class MaskView(Protocol):
    """Draws a ``MaskState`` and calls ``MaskActions``."""

    def attach(self, actions: MaskActions) -> None: ...

    def show_state(self, state: MaskState) -> None: ...
