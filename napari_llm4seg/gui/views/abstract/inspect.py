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
class WordsState:
    """The clicked token's nearest words; ``problem`` says what is missing."""

    on: bool = False
    warning: str = ""
    problem: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeaturesState:
    """What the features tab shows: ``pictures`` side by side, ``picked`` the one that lies on the scan."""

    problem: str = ""
    kinds: tuple[Choice, ...] = ()
    kind: str = "norm"
    number: int = 0
    most: int = 0
    least: int = 0
    number_name: str = ""
    pictures: tuple[Picture, ...] = ()
    picked: str = ""
    notes: tuple[str, ...] = ()
    view: str = "features"
    words: WordsState = field(default_factory=WordsState)


@dataclass(frozen=True, eq=False)
class Curve:
    """A line of a plot: ``x`` and ``y`` are arrays (n,)."""

    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PlotState:
    """A plot with its axes named; ``log`` for a logarithmic ordinate."""

    x_name: str
    y_name: str
    curves: tuple[Curve, ...]
    log: bool = False


@dataclass(frozen=True)
class SpectrumState:
    """What the spectrum tab shows; rows are (point, effective rank, log inverse top share) in words."""

    problem: str = ""
    centred: bool = False
    plot: PlotState | None = None
    rows: tuple[tuple[str, str, str], ...] = ()
    tooltips: tuple[str, str] = ("", "")
    stack: ButtonState = field(default_factory=ButtonState)
    stack_plot: PlotState | None = None
    compare: ButtonState = field(default_factory=ButtonState)
    versions: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class EffectRow:
    """A changed run in the table: ``dice`` in [0, 1] with the normal mask, ``pixels`` that changed their label."""

    key: str
    name: str
    dice: float
    pixels: int
    entropy: float | None = None


@dataclass(frozen=True)
class WhatIfState:
    """What the what-if tab shows; ``picked`` is the key of the row whose difference lies on the scan."""

    problem: str = ""
    changes: tuple[Choice, ...] = ()
    change: str = ""
    head: int = 0
    heads: int = 0
    needs_head: bool = False
    run: ButtonState = field(default_factory=ButtonState)
    rows: tuple[EffectRow, ...] = ()
    picked: str = ""
    table: ButtonState = field(default_factory=ButtonState)
    table_rows: tuple[EffectRow, ...] = ()
    maps: tuple[Choice, ...] = ()
    map: str = ""
    test: ButtonState = field(default_factory=ButtonState)
    verdicts: tuple[str, ...] = ()


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
    features: FeaturesState = field(default_factory=FeaturesState)
    spectrum: SpectrumState = field(default_factory=SpectrumState)
    what_if: WhatIfState = field(default_factory=WhatIfState)


class InspectActions(Protocol):
    """What a person can do in the dock."""

    def shown_changed(self) -> None:
        """Take note that the dock came into view or left it."""

    def show_tab(self, key: str) -> None: ...

    def choose(self, what: str, value: Any) -> None:
        """Change one choice of the present tab, such as "head" or "way"."""

    def act(self, what: str, value: Any = None) -> None:
        """Start something in the present tab, such as "table" or "stack"."""

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
