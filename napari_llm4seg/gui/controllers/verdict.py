"""What held-back slices and a cross-check say of a new model, in words; and whether a warning is due. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Scores = Mapping[str, Any]


def warning(gate: Scores, cross: Scores) -> str:
    """Return the doubt about a new model, such as "may be worse on the slices held back"; nothing where there is none.

    A cross-check, which judges more slices, counts rather than the few held back. Only where those are enough to show a
    loss by more than chance their warning stands: they judge this very model.
    """
    if _weighs(cross) and cross.get("worse"):
        return f"{_doubt(cross)} in the cross-check"
    if not gate.get("worse") or _withdrawn(gate, cross):
        return ""
    return f"{_doubt(gate)} on the slices held back"


def _doubt(scores: Scores) -> str:
    return "is worse" if scores.get("verdict") == "worse" else "may be worse"


def _weighs(cross: Scores) -> bool:
    """Whether a cross-check says anything about better or worse: of a new model there is nothing before."""
    return bool(cross) and not cross.get("new") and cross.get("verdict") != "not measured"


def _withdrawn(gate: Scores, cross: Scores) -> bool:
    """Whether the warning of the slices held back is withdrawn, as a cross-check says otherwise."""
    may_be_chance = bool(gate.get("worse")) and gate.get("verdict") != "worse"
    return may_be_chance and _weighs(cross) and not cross.get("worse")


def trust(gate: Scores, cross: Scores, new: bool = False) -> str:
    """Return the verdict and how far it can be trusted; the cross-check's where there was one.

    ``new`` says that a model was trained from nothing: it holds no slices back of its own accord.
    """
    held = str(gate.get("trust") or gate.get("words", ""))
    if new and not gate.get("n"):
        held = "Not measured: a new model learns from every corrected slice. Look at the result before you keep it."
    if not cross:
        return held
    if cross.get("new"):
        return "Each was judged by a training without it. This model learnt from more slices than those did."
    said = [str(cross.get("trust", ""))]
    if not _weighs(cross):
        said = ["Not measured: no class is in these slices. Look at the result before you keep it."]
    elif gate.get("worse") and not cross.get("worse"):
        few = f"the {_slices(gate)} held back"
        said.append(f"The warning of {few} is withdrawn." if _withdrawn(gate, cross) else f"But on {few}: {held}")
    return " ".join((*said, "This judges the learning; the model itself learnt from more slices."))


def lines(gate: Scores, cross: Scores) -> tuple[str, ...]:
    """Return the figures: those of the slices held back, and above them those of a cross-check."""
    return (*crossed(cross), *_short(gate)) if cross else figures(gate)


def crossed(cross: Scores) -> tuple[str, ...]:
    """Return what a cross-check measured; nothing where there was none."""
    if not cross:
        return ()
    heading = f"All {_slices(cross)}, each judged unseen"
    if not cross.get("new"):
        return (heading, *_measured(cross))
    dice, distance, bounds = cross.get("dice_after"), cross.get("hd95_after"), cross.get("dice_interval")
    found = [heading]
    if dice is not None:
        found.append(f"Dice {dice:.2f}" + (f" ({bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else ""))
    if distance is not None:
        found.append(f"HD95 {distance:.1f}{_unit(cross)}")
    return tuple(found)


def figures(gate: Scores) -> tuple[str, ...]:
    """Return Dice and HD95 before and after in words, none where nothing was held back."""
    return (f"Held back: {_slices(gate)}", *_measured(gate)) if gate.get("n") else ()


def _short(gate: Scores) -> tuple[str, ...]:
    """Return the slices held back in a line."""
    before, after = gate.get("dice_before"), gate.get("dice_after")
    if not gate.get("n") or before is None or after is None:
        return ()
    return (f"Held back, {_slices(gate)}: Dice {before:.2f} → {after:.2f}",)


def _slices(scores: Scores) -> str:
    n = scores.get("n") or 0
    return "1 slice" if n == 1 else f"{n} slices"


def _measured(scores: Scores) -> tuple[str, ...]:
    found = []
    before, after = scores.get("dice_before"), scores.get("dice_after")
    if before is not None and after is not None:
        found.append(f"Dice {before:.2f} → {after:.2f}{_between(scores.get('interval'), 2)}")
    before, after = scores.get("hd95_before"), scores.get("hd95_after")
    if before is not None and after is not None:
        found.append(f"HD95 {before:.1f} → {after:.1f}{_unit(scores)}{_between(scores.get('hd95_interval'), 1)}")
    # versions that were kept before there were remarks have none
    return (*found, *(str(remark).replace("->", "→") for remark in scores.get("remarks", ())))


def _unit(scores: Scores) -> str:
    return {"mm": " mm", "pixel": " px"}.get(str(scores.get("hd95_unit")), "")


def _between(interval: Sequence[float] | None, digits: int) -> str:
    """Return the bounds of a difference in brackets, nothing where there are none."""
    text = f" ({interval[0]:+.{digits}f} to {interval[1]:+.{digits}f})" if interval else ""
    return text.replace("-", "−")
