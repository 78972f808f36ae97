"""From what is the case to what the training part of the dock shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from napari_llm4seg.corrections import Version
from napari_llm4seg.gui.controllers import verdict, words
from napari_llm4seg.gui.views.abstract.common import ButtonState, Message, ProgressState
from napari_llm4seg.gui.views.abstract.retrain import CurveState, NewModelState, RetrainState, VerdictState, VersionRow

Stage = Literal["idle", "preparing", "training", "looking", "checking", "keeping", "applying", "filing"]
PARTS = ("adapters+decoder", "adapters", "all")
_DOING: dict[Stage, str] = {
    "preparing": "A training is about to start.",
    "training": "A training is running.",
    "looking": "The new model is being loaded.",
    "checking": "A cross-check is running.",
    "keeping": "The new version is being written.",
    "applying": "The new model is segmenting the untouched slices.",
    "filing": "A version is being loaded.",
}


@dataclass(frozen=True)
class Facts:
    """Everything that decides what is shown.

    ``count`` corrected slices, or ``images``, would train; ``gate`` is None while nothing was trained; ``kept`` says
    that it was kept already, ``armed`` that a worse one was asked to be kept once. ``cross`` is what a cross-check has
    said, ``outlook`` what one would take of the ``in_training`` slices that trained or judged, ``check_seconds`` how
    long.
    """

    parts: str = "adapters+decoder"
    stage: Stage = "idle"
    mask: bool = False
    count: int = 0
    images: bool = False
    trouble: str = ""
    pending: int = 0
    model: str = ""
    has_llm: bool = True
    loaded: bool = False
    elsewhere: str = ""
    classes: tuple[str, ...] = ()
    scan_name: str = ""
    made: NewModelState = field(default_factory=NewModelState)
    progress: ProgressState | None = None
    curve: CurveState | None = None
    gate: Mapping[str, Any] | None = None
    cross: Mapping[str, Any] = field(default_factory=dict)
    outlook: Mapping[str, Any] = field(default_factory=dict)
    in_training: int = 0
    check_seconds: float = 0.0
    changes: str = ""
    kept: bool = False
    armed: bool = False
    parent: str = ""
    next_number: int = 1
    versions: Sequence[Version] = ()
    current: int = 0
    compared: str = ""
    message: Message | None = None


_UNNAMED = "Name the classes of the mask in the Segment dock first: double-click one there."


def present(facts: Facts) -> RetrainState:
    """Return the state to draw."""
    busy = facts.stage != "idle"
    training = facts.stage == "training"
    no_train = _blocked(facts) or _no_model(facts)
    no_new = _blocked(facts) or ("" if facts.classes else _UNNAMED)
    thing = "image" if facts.images else "slice"
    slices = f"{facts.count} {thing}{'' if facts.count == 1 else 's'}"
    return RetrainState(
        parts=facts.parts,
        trains=f"Retrains {facts.model}" if facts.model and facts.mask else "",
        parts_enabled=not busy,
        train=ButtonState(
            not no_train,
            no_train or f"Train {facts.model} further on what was corrected (Shift+R)",
            f"Retrain with {slices}" if facts.count else "Retrain",
        ),
        new=ButtonState(
            not no_new, no_new or f"Train a model from nothing but these slices: {facts.made.summary}", "New model…"
        ),
        new_name=" and ".join(facts.classes[:2]) or facts.scan_name,
        new_classes=", ".join(facts.classes),
        made=facts.made,
        progress=facts.progress,
        stop=ButtonState(training, "End now with the best weights so far" if training else "", visible=training),
        cancel=ButtonState(busy, "Stop; nothing of it is kept", visible=facts.stage not in ("idle", "keeping")),
        curve=facts.curve,
        verdict=_verdict(facts) if facts.gate is not None else None,
        versions=tuple(_row(version, facts.current) for version in facts.versions),
        compared=facts.compared,
        message=facts.message,
        busy=busy,
    )


def _blocked(facts: Facts) -> str:
    """Return why nothing can be trained now, or an empty string."""
    if facts.stage != "idle":
        return _DOING[facts.stage]
    if not facts.mask:
        return "There is no mask; segment a scan or add a labels layer first."
    if facts.trouble:
        return f"The corrections are not on the disk: {facts.trouble}"
    if not facts.count:
        return "Correct or confirm a slice first."
    if facts.gate is not None and not facts.kept:
        return "Keep the new model or roll it back first."
    return f"{facts.elsewhere} Wait until it has ended." if facts.elsewhere else ""


def _no_model(facts: Facts) -> str:
    if not facts.model:
        return "Choose a model in the Segment dock, or make a new one."
    return "" if facts.loaded else "Wait until the model is loaded."


def _verdict(facts: Facts) -> VerdictState:
    gate, doubt = facts.gate or {}, verdict.warning(facts.gate or {}, facts.cross)
    free = facts.stage in ("idle", "checking")
    keep = f"Keep as v{facts.next_number}"
    if facts.kept:
        tooltip, keep = "It is kept already.", "Kept"
    elif doubt and not facts.armed:
        tooltip = f"It {doubt}; a second click keeps it all the same"
    else:
        tooltip = "Write it as a new version, use it from now on, and segment the untouched slices with it"
        keep = f"{keep} all the same" if doubt else keep
    back = f"Go back to {facts.parent} and to the mask as it was" if facts.kept else "Forget the new model"
    if not facts.parent and facts.kept:
        back = "Put the mask back as it was"
    return VerdictState(
        lines=verdict.lines(gate, facts.cross),
        words=verdict.trust(gate, facts.cross, new=not facts.parent),
        worse=bool(doubt),
        changes="" if facts.kept else facts.changes,
        check=_check(facts),
        keep=ButtonState(free and not facts.kept, tooltip if free else _DOING[facts.stage], keep),
        roll_back=ButtonState(free, back if free else _DOING[facts.stage], "Roll back"),
    )


def _check(facts: Facts) -> ButtonState:
    """Return the button of the cross-check; it goes once there is its result, or the decision."""
    outlook, thing = facts.outlook, "image" if facts.images else "slice"
    n, fewest, all_of = int(outlook.get("slices", 0)), int(outlook.get("fewest", 0)), facts.in_training
    if not outlook or facts.cross or facts.kept:
        return ButtonState(visible=False)
    enough = n >= fewest
    many = (f"all {n} {thing}s" if n >= all_of else f"the {n} new {thing}s") if enough else f"all {thing}s"
    text = f"Check on {many}" + (f" ({words.about(facts.check_seconds)})" if enough else "")
    if not enough:
        new_to = f"that {facts.parent} has not learnt from" if facts.parent else "to learn from"
        why = f"This needs {fewest} corrected {thing}s {new_to}; there {'is' if n == 1 else 'are'} {n}."
    elif facts.stage != "idle":
        why = _DOING[facts.stage]
    else:
        trainings = int(outlook.get("trainings", 0))
        why = (
            f"Train {trainings} times more, each time without some of the {thing}s, and judge those: far surer than "
            "the few held back. The new model waits unchanged, and you can go on meanwhile"
        )
    return ButtonState(enough and facts.stage == "idle", why, text)


def _row(version: Version, current: int) -> VersionRow:
    dice, n = version.gate.get("dice_after"), version.gate.get("n") or 0
    score = f"Dice {dice:.2f} ({n})" if dice is not None else "not measured"
    unseen = version.cross_check.get("dice_after") if version.cross_check.get("new") else None
    if dice is None and unseen is not None:
        score = f"Dice {unseen:.2f} ({version.cross_check.get('n')})"
    lines = [
        version.name,
        f"from {version.parent_name or 'nothing'}, {version.parts or 'all'}, {len(version.samples)} slices",
        *verdict.figures(version.gate),
        *verdict.crossed(version.cross_check),
        version.created[:16].replace("T", " ") + " UTC",
    ]
    return VersionRow(version.number, version.name, score, version.number == current, "\n".join(lines))
