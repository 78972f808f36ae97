"""From what is the case to what the Correct & Retrain dock shows above its training. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from napari_llm4seg.corrections.review import SliceState
from napari_llm4seg.corrections.suggest import Suggestion
from napari_llm4seg.gui.controllers.homes import AUTOMATIC, ProjectChoice, folder_title
from napari_llm4seg.gui.controllers.image_set import Row
from napari_llm4seg.gui.controllers.ports import MaskInfo
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message
from napari_llm4seg.gui.views.abstract.correct import CorrectState, OfferState, ProjectState, StripState

KEYS = (
    ("K", "confirm the slice or image on show, or take that back"),
    ("N", "go to the suggested one"),
    ("H", "hide or show the mask"),
    ("Shift+R", "retrain"),
)
PARTIAL = "Only what you drew in an edited slice counts: scribble where the mask is wrong and leave the rest"


@dataclass(frozen=True)
class Facts:
    """Everything that decides what is shown; ``here`` None: no slice of the stack's own is on the screen.

    ``row`` are the images that a single image lies among.
    """

    masks: tuple[MaskInfo, ...] = ()
    mask: str | None = None
    hint: str = ""
    states: tuple[SliceState, ...] = ()
    here: int | None = None
    row: Row | None = None
    suggestion: Suggestion | None = None
    enough: bool = False
    looking: bool = False
    partial: bool = False
    offer: str = ""
    offer_number: int = 0
    folder: Path | None = None
    images: Path | None = None
    choice: ProjectChoice = AUTOMATIC
    open: bool = False
    kept: int = 0
    pending: int = 0
    trouble: str = ""
    carrying: bool = False
    taken: tuple[str, ...] = ()
    message: Message | None = None


def present(facts: Facts) -> CorrectState:
    """Return the state to draw."""
    hint = "Looking at the mask…" if facts.looking else facts.hint
    return CorrectState(
        masks=tuple(Choice(item.id, item.name, f"{item.name}\n{item.words}") for item in facts.masks),
        mask=facts.mask,
        hint="" if facts.states else hint,
        strip=_strip(facts),
        counts=_counts(facts),
        next_words=_next_words(facts),
        next_tooltip=_next_tooltip(facts),
        go=_go(facts),
        confirm=_confirm(facts),
        drawn=bool(facts.states),
        partial=facts.partial,
        partial_tooltip=PARTIAL,
        offer=_offer(facts),
        project=_project(facts),
        keys=tuple((key, what) for key, what in KEYS if key not in facts.taken),
        message=facts.message,
    )


def _strip(facts: Facts) -> StripState:
    if facts.row is not None:
        next_one = _suggested(facts)
        return StripState(
            facts.row.marks, facts.row.here, -1 if next_one is None else next_one.z, facts.row.names, "Images"
        )
    here = -1 if facts.here is None else facts.here
    return StripState(
        facts.states, here, -1 if facts.suggestion is None or len(facts.states) < 2 else facts.suggestion.z
    )


def _suggested(facts: Facts) -> Suggestion | None:
    return facts.row.suggestion if facts.row is not None else facts.suggestion


def _several(facts: Facts) -> bool:
    return facts.row is not None or len(facts.states) > 1


def _named(facts: Facts, z: int) -> str:
    """Return a slice, or an image, in words."""
    return facts.row.names[z] if facts.row is not None else f"slice {z}"


def _reasoned(facts: Facts, suggestion: Suggestion) -> str:
    """Return which to correct next and why; that nobody has corrected it yet goes without saying."""
    name = _named(facts, suggestion.z)
    return f"{name}: {suggestion.reason}" if suggestion.reason else name


def _counts(facts: Facts) -> str:
    marks = facts.row.marks if facts.row is not None else facts.states
    if not marks:
        return ""
    found = Counter(marks)
    if len(marks) == 1:
        return {"untouched": "not corrected", "edited": "edited", "confirmed": "confirmed"}[marks[0]]
    total = f" of {len(marks)}" if facts.row is not None else f" · {len(marks)} slices"
    return f"{found['edited']} edited · {found['confirmed']} confirmed{total}"


def _next_words(facts: Facts) -> str:
    if not _several(facts):
        return ""
    suggestion = _suggested(facts)
    if suggestion is None:
        what, marks = ("image", facts.row.marks) if facts.row is not None else ("slice", facts.states)
        return f"no other {what} is left" if "untouched" in marks else f"every {what} is edited or confirmed"
    if facts.row is None and facts.enough:
        return "further correction buys little"
    return _reasoned(facts, suggestion)


def _next_tooltip(facts: Facts) -> str:
    suggestion = _suggested(facts)
    if suggestion is None or not _several(facts):
        return ""
    which = _reasoned(facts, suggestion)
    if facts.row is None and facts.enough:
        return f"What is left would gain next to nothing of what the first correction did. Most is to gain in {which}."
    return f"Most is to gain by correcting {which}"


def _go(facts: Facts) -> ButtonState:
    visible, suggestion = _several(facts), _suggested(facts)
    if suggestion is None:
        return ButtonState(False, "There is nothing left to suggest.", "Go there", visible)
    name = _named(facts, suggestion.z)
    if facts.row is not None:
        return ButtonState(True, f"Open {name} and segment it (N)", "Go there", visible)
    if suggestion.z == facts.here:
        return ButtonState(False, "The suggested slice is on the screen.", "Go there", visible)
    return ButtonState(True, f"Show {name} (N)", "Go there", visible)


def _confirm(facts: Facts) -> ButtonState:
    if not facts.states:
        reason = "Wait until the mask was looked at." if facts.looking else "There is no mask to confirm."
        return ButtonState(False, reason, "Confirm")
    if facts.here is None:
        reason = "The scan is seen in 3-D or cut another way; a click on the strip shows one of these slices."
        return ButtonState(False, reason, "Confirm")
    this = "This image" if len(facts.states) == 1 else f"Slice {facts.here}"
    if facts.states[facts.here] == "confirmed":
        return ButtonState(True, f"{this} is confirmed; take that back (K)", "Unconfirm")
    return ButtonState(True, f"{this} is right as it is: it counts as an annotation too (K)", "Confirm")


def _offer(facts: Facts) -> OfferState:
    if not facts.offer:
        return OfferState()
    many = "it" if facts.offer_number == 1 else "them"
    return OfferState(
        facts.offer.replace(" are ", " is ", 1) if facts.offer_number == 1 else facts.offer,
        ButtonState(True, f"Put {many} into the mask, in one step that can be undone", "Restore"),
        ButtonState(
            True, f"Leave {many} out: kept in the project's history, and nothing trains on {many}", "Start anew"
        ),
    )


def _project(facts: Facts) -> ProjectState:
    line, why = _project_words(facts)
    saved = ""
    if facts.trouble:
        saved = "not saved"
    elif facts.pending:
        saved = "saving…"
    elif facts.kept:
        saved = f"{facts.kept} saved"
    return ProjectState(
        line=line,
        tooltip=f"{why} Kept in {facts.folder}" if facts.folder is not None else "",
        saved=saved,
        trouble=facts.trouble,
        kind="chosen" if facts.choice.folder is not None else "own" if facts.choice.apart else "shared",
        enabled=not facts.carrying,
        export=ButtonState(
            facts.open and not facts.carrying,
            "Everything that was corrected, in one file" if facts.open else "Nothing has been corrected yet.",
        ),
    )


def _project_words(facts: Facts) -> tuple[str, str]:
    """Return the line that names the project, and why the corrections go there."""
    if facts.folder is None:
        return "", ""
    if facts.choice.folder is not None:
        return facts.folder.name, "The corrections of all scans go to this project."
    if facts.images is not None:
        return f"images of {folder_title(facts.images)}", (
            f"The single images in {facts.images} share a project, so that they are learnt from together."
        )
    return "this scan's own", "This scan has a project of its own."
