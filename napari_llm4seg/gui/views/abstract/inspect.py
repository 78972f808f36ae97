"""The Inspect dock: one slice recorded, and views of what the network held while it made the mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState


@dataclass(frozen=True, eq=False)
class Picture:
    """A small picture to look at and pick.

    Parameters
    ----------
    key : str
        What the controller gets back when it is picked.
    title : str
    pixels : array (Y, X, 3), uint8
        One pixel for each token; drawn as squares.
    tooltip : str
    """

    key: str
    title: str
    pixels: npt.NDArray[np.uint8]
    tooltip: str = ""


@dataclass(frozen=True)
class ProofState:
    """One line; ``ok`` is None while nothing was recorded."""

    text: str = ""
    tooltip: str = ""
    ok: bool | None = None


@dataclass(frozen=True)
class AttentionState:
    """What the attention tab shows; ``problem`` says why there is nothing to show."""

    problem: str = ""
    heads: tuple[Choice, ...] = ()
    head: str = "mean"
    way: str = "from"
    layers: tuple[Choice, ...] = ()
    layer: str = "1"
    thumbnails: tuple[Picture, ...] = ()
    title: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class InspectState:
    """Everything the dock shows at one moment."""

    tab: str = "attention"
    hint: str = ""
    about: str = ""
    proof: ProofState = field(default_factory=ProofState)
    hover: str = ""
    progress: ProgressState | None = None
    cancel: ButtonState = field(default_factory=ButtonState)
    export: ButtonState = field(default_factory=ButtonState)
    message: Message | None = None
    attention: AttentionState = field(default_factory=AttentionState)


class InspectActions(Protocol):
    """What a person can do in the dock."""

    def shown_changed(self) -> None:
        """Take note that the dock came into view or left it."""

    def show_tab(self, key: str) -> None: ...

    def choose(self, what: str, value: Any) -> None:
        """Change one choice of the present tab, such as "head" or "way"."""

    def cancel(self) -> None: ...

    def export_to(self, folder: Path) -> None: ...

    def dismiss_message(self) -> None: ...


class InspectView(Protocol):
    """Draws an ``InspectState`` and calls ``InspectActions``."""

    def attach(self, actions: InspectActions) -> None: ...

    def show_state(self, state: InspectState) -> None: ...

    def show_hover(self, text: str) -> None:
        """Change the hovered value alone: it comes with every move of the mouse."""

    def in_view(self) -> bool:
        """Return whether the dock is on the screen, not closed or behind another tab."""
