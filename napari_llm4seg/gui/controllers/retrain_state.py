"""From what is the case to what the training part of the dock shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from napari_llm4seg.corrections import Version
from napari_llm4seg.gui.views.abstract.common import ButtonState, Message, ProgressState
from napari_llm4seg.gui.views.abstract.retrain import CurveState, NewModelState, RetrainState, VerdictState, VersionRow

Stage = Literal["idle", "preparing", "training", "looking", "keeping", "applying", "filing"]
PARTS = ("adapters+decoder", "adapters", "all")
_DOING: dict[Stage, str] = {
    "preparing": "A training is about to start.",
    "training": "A training is running.",
    "looking": "The new model is being loaded.",
    "keeping": "The new version is being written.",
    "applying": "The new model is segmenting the untouched slices.",
    "filing": "A version is being loaded.",
}


@dataclass(frozen=True)
class Facts:
    """Everything that decides what is shown.

    ``count`` corrected slices, or ``images``, would train; ``gate`` is None while nothing was trained; ``kept`` says
    that it was kept already, ``armed`` that a worse one was asked to be kept once.
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
    changes: str = ""
    kept: bool = False
    armed: bool = False
    parent: str = ""
    next_number: int = 1
    versions: Sequence[Version] = ()
    current: int = 0
    compared: str = ""
    message: Message | None = None


def present(facts: Facts) -> RetrainState:
    """Return the state to draw."""
    busy = facts.stage != "idle"
    training = facts.stage == "training"
    no_train = _blocked(facts) or _no_model(facts)
    no_new = _blocked(facts) or ("" if facts.classes else "Name the classes of the mask in the Segment dock first.")
    thing = "image" if facts.images else "slice"
    slices = f"{facts.count} {thing}{'' if facts.count == 1 else 's'}"
    return RetrainState(
        parts=facts.parts,
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
    gate = facts.gate or {}
    worse = bool(gate.get("worse"))
    idle = facts.stage == "idle"
    keep = f"Keep as v{facts.next_number}"
    if facts.kept:
        tooltip, keep = "It is kept already.", "Kept"
    elif worse and not facts.armed:
        tooltip = "It may be worse, as the slices held back say; a second click keeps it all the same"
    else:
        tooltip = "Write it as a new version, use it from now on, and segment the untouched slices with it"
        keep = f"{keep} all the same" if worse else keep
    back = f"Go back to {facts.parent} and to the mask as it was" if facts.kept else "Forget the new model"
    if not facts.parent and facts.kept:
        back = "Put the mask back as it was"
    return VerdictState(
        lines=figures(gate),
        words=str(gate.get("trust") or gate.get("words", "")),
        worse=worse,
        changes="" if facts.kept else facts.changes,
        keep=ButtonState(idle and not facts.kept, tooltip if idle else _DOING[facts.stage], keep),
        roll_back=ButtonState(idle, back if idle else _DOING[facts.stage], "Roll back"),
    )


def figures(gate: Mapping[str, Any]) -> tuple[str, ...]:
    """Return Dice and HD95 before and after in words, none where nothing was held back."""
    n = gate.get("n") or 0
    if not n:
        return ()
    lines = ["Held back: 1 slice" if n == 1 else f"Held back: {n} slices"]
    before, after = gate.get("dice_before"), gate.get("dice_after")
    if before is not None and after is not None:
        lines.append(f"Dice {before:.2f} → {after:.2f}{_between(gate.get('interval'), 2)}")
    before, after = gate.get("hd95_before"), gate.get("hd95_after")
    if before is not None and after is not None:
        unit = {"mm": " mm", "pixel": " px"}.get(str(gate.get("hd95_unit")), "")
        lines.append(f"HD95 {before:.1f} → {after:.1f}{unit}{_between(gate.get('hd95_interval'), 1)}")
    # versions that were kept before there were remarks have none
    return (*lines, *(str(remark).replace("->", "→") for remark in gate.get("remarks", ())))


def _between(interval: Sequence[float] | None, digits: int) -> str:
    """Return the bounds of a difference in brackets, nothing where there are none."""
    text = f" ({interval[0]:+.{digits}f} to {interval[1]:+.{digits}f})" if interval else ""
    return text.replace("-", "−")


def _row(version: Version, current: int) -> VersionRow:
    dice, n = version.gate.get("dice_after"), version.gate.get("n") or 0
    score = f"Dice {dice:.2f} ({n})" if dice is not None else "not measured"
    lines = [
        version.name,
        f"from {version.parent_name or 'nothing'}, {version.parts or 'all'}, {len(version.samples)} slices",
        *figures(version.gate),
        version.created[:16].replace("T", " ") + " UTC",
    ]
    return VersionRow(version.number, version.name, score, version.number == current, "\n".join(lines))
