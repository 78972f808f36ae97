"""The Correct & Retrain dock down to its training: the mask, its slices, what comes next, where it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message

SliceMark = Literal["untouched", "edited", "confirmed"]


@dataclass(frozen=True)
class StripState:
    """The slices along the stack: ``here`` is on the screen, ``suggested`` is to come next; -1 where there is none.

    Of a folder's images these are the images, with their ``names``; ``title`` says which of both.
    """

    marks: tuple[SliceMark, ...] = ()
    here: int = -1
    suggested: int = -1
    names: tuple[str, ...] = ()
    title: str = "Slices"


@dataclass(frozen=True)
class OfferState:
    """What an earlier session left: shown while ``text`` is not empty."""

    text: str = ""
    restore: ButtonState = field(default_factory=ButtonState)
    anew: ButtonState = field(default_factory=ButtonState)


@dataclass(frozen=True)
class ProjectState:
    """``line`` names the project, ``tooltip`` its folder; ``saved`` says how far it is, ``trouble`` what is wrong.

    ``kind`` says how it came to be this one: "shared" by single images of one folder, a scan's "own", or "chosen".
    """

    line: str = ""
    tooltip: str = ""
    saved: str = ""
    trouble: str = ""
    kind: Literal["shared", "own", "chosen"] = "shared"
    enabled: bool = True
    export: ButtonState = field(default_factory=ButtonState)


@dataclass(frozen=True)
class CorrectState:
    """Everything that part of the dock shows at one moment; ``hint`` stands in the place of slices that are not there.

    ``drawn`` says that there is a mask to draw in. ``keys`` are (key, what it does), for the foot of the dock.
    """

    masks: tuple[Choice, ...] = ()
    mask: str | None = None
    hint: str = ""
    strip: StripState = field(default_factory=StripState)
    counts: str = ""
    next_words: str = ""
    next_tooltip: str = ""
    go: ButtonState = field(default_factory=ButtonState)
    confirm: ButtonState = field(default_factory=ButtonState)
    drawn: bool = False
    partial: bool = False
    partial_tooltip: str = ""
    offer: OfferState = field(default_factory=OfferState)
    project: ProjectState = field(default_factory=ProjectState)
    keys: tuple[tuple[str, str], ...] = ()
    message: Message | None = None


class CorrectActions(Protocol):
    """What a person can do there."""

    def choose_mask(self, mask_id: str) -> None: ...

    def show_slice(self, z: int) -> None: ...

    def go_to_next(self) -> None: ...

    def confirm(self) -> None:
        """Confirm the slice on show, or take that back."""

    def set_partial(self, partial: bool) -> None: ...

    def restore(self) -> None: ...

    def start_anew(self) -> None: ...

    def shared_project(self) -> None:
        """Let the single images of one folder share a project."""

    def own_project(self) -> None: ...

    def new_project(self, folder: Path) -> None: ...

    def open_project(self, folder: Path) -> None: ...

    def export_project(self, path: Path) -> None: ...

    def import_project(self, path: Path) -> None: ...

    def dismiss_message(self) -> None: ...


class CorrectView(Protocol):
    """Draws a ``CorrectState`` and calls ``CorrectActions``."""

    def attach(self, actions: CorrectActions) -> None: ...

    def show_state(self, state: CorrectState) -> None: ...
