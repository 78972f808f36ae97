"""What the rows say beyond their Dice: suggestion against other choices, and the gate's warnings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_llm4seg.engine.gate import TOLERANCE, compare
from napari_llm4seg.engine.scores import of_rows
from training.annotation_effort.rows import Row, dice, mean_dice


def chosen(rows: Sequence[Row], **what: Any) -> list[Row]:
    """Return the rows whose fields are ``what``."""
    return [row for row in rows if all(row[name] == value for name, value in what.items())]


@dataclass(frozen=True)
class Duel:
    """Suggested less other slices, on one case with one method.

    Attributes
    ----------
    case, method, other : str
    differences : dict
        By number of slices, of mean Dice over the seeds that both have.
    """

    case: str
    method: str
    other: str
    differences: dict[int, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.differences.values())))

    @property
    def wins(self) -> int:
        return sum(value > 0 for value in self.differences.values())


def duels(rows: Sequence[Row], other: str, fewest: int = 2) -> list[Duel]:
    """Return every duel of the suggestion with the choice ``other``, from ``fewest`` slices on.

    With a single slice there is nothing to choose yet. Seeds of the suggestion are averaged, and so are the other's.
    """
    found = []
    for case in dict.fromkeys(row["case"] for row in rows):
        for method in dict.fromkeys(row["method"] for row in rows):
            here = chosen(rows, case=case, method=method)
            differences = {}
            for k in sorted({row["k"] for row in here if row["k"] >= fewest}):
                pair = [chosen(here, k=k, choice=choice) for choice in ("suggested", other)]
                if all(pair):
                    differences[k] = mean_dice(pair[0]) - mean_dice(pair[1])
            if differences:
                found.append(Duel(case, method, other, differences))
    return found


def together(found: Sequence[Duel], cases: Collection[str]) -> tuple[float, int, int]:
    """Return the mean difference, the won and all comparisons of the duels on ``cases``; every duel counts alike."""
    here = [duel for duel in found if duel.case in cases]
    if not here:
        return float("nan"), 0, 0
    every = sum(len(duel.differences) for duel in here)
    return float(np.mean([duel.mean for duel in here])), sum(duel.wins for duel in here), every


@dataclass(frozen=True)
class Gates:
    """Fine-tunings that the gate judged.

    Attributes
    ----------
    n : int
    warned : int
        A warning came: verdict "worse" or "perhaps worse".
    clear : int
        Of these, "worse": by more than the noise.
    false : int
        Warnings, though Dice on everything that was not corrected did not fall by more than the tolerance.
    unwarned : int
        Dice on the held-back slices fell by more than the tolerance and no warning came.
    missed : int
        No warning, though Dice on everything that was not corrected fell by more than the tolerance.
    rose, fell : int
        Dice on everything not corrected, after against before on the same slices, by more than the tolerance.
    by_slice : tuple (warned, false) or None
        What a mean over the slices' own Dice, 1 where mask and truth lack a class, would have warned of; None where
        the rows do not hold the slices' counts.
    """

    n: int
    warned: int
    clear: int
    false: int
    unwarned: int
    missed: int
    rose: int
    fell: int
    by_slice: tuple[int, int] | None


def gates(rows: Sequence[Row], by: str = "gate") -> Gates:
    """Count the verdicts over the fine-tunings that had one and whose start is known.

    ``by`` is "gate", of slices held back, or "cross_check", of all slices.
    """
    judged = []
    for row in rows:
        gate = row["facts"].get(by)
        start = chosen(rows, case=row["case"], method=row["method"], k=0)
        if gate and gate["n"] and start and "same_as" not in row:
            judged.append((by_present_rule(gate), dice(row) - dice(start[0] | {"slices": row["slices"]})))
    fell = [change < -TOLERANCE for _, change in judged]
    warned = [bool(gate["worse"]) for gate, _ in judged]
    mean_fell = [slice_mean_change(gate) < -TOLERANCE for gate, _ in judged if "slices" in gate]
    whole = len(mean_fell) == len(judged)
    return Gates(
        n=len(judged),
        warned=sum(warned),
        clear=sum(gate["verdict"] == "worse" for gate, _ in judged),
        false=sum(w and not f for w, f in zip(warned, fell, strict=True)),
        unwarned=sum(_change(gate) < -TOLERANCE and not gate["worse"] for gate, _ in judged),
        missed=sum(f and not w for w, f in zip(warned, fell, strict=True)),
        rose=sum(change > TOLERANCE for _, change in judged),
        fell=sum(fell),
        by_slice=(sum(mean_fell), sum(m and not f for m, f in zip(mean_fell, fell, strict=True))) if whole else None,
    )


def by_present_rule(gate: dict[str, Any]) -> dict[str, Any]:
    """Return a row's gate judged anew from its slices' counts; as it was where the row does not hold them."""
    if "slices" not in gate:
        return gate
    return compare(*of_rows(gate["slices"], gate["hd95_unit"])).as_dict()


def slice_mean_change(gate: dict[str, Any]) -> float:
    """Return the change of the mean over slices of their own Dice, mean over all classes, 1 where both are empty."""
    sides = []
    for at in (0, 1):
        pairs = [(row["hits"][at], np.add(row["said"][at], row["true"])) for row in gate["slices"]]
        hits, sizes = (np.array(each, dtype=np.float64) for each in zip(*pairs, strict=True))
        sides.append(float(np.divide(2 * hits, sizes, out=np.ones_like(hits), where=sizes > 0).mean()))
    return sides[1] - sides[0]


def _change(gate: dict[str, Any]) -> float:
    """Return the change of the gate's Dice; 0 where what was held back holds no class."""
    return 0.0 if gate["dice_after"] is None else gate["dice_after"] - gate["dice_before"]
