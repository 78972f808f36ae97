"""What the rows say beyond their Dice: suggestion against other choices, and the gate's warnings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_llm4seg.engine.gate import TOLERANCE
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
        Verdict "worse".
    unwarned : int
        Dice on the held-back slices fell by more than the tolerance and no warning came.
    missed : int
        No warning, though Dice on everything that was not corrected fell by more than the tolerance.
    rose, fell : int
        Dice on everything not corrected, after against before on the same slices, by more than the tolerance.
    """

    n: int
    warned: int
    unwarned: int
    missed: int
    rose: int
    fell: int


def gates(rows: Sequence[Row]) -> Gates:
    """Count the gate's verdicts over the fine-tunings that had held-back slices and whose start is known."""
    n = warned = unwarned = missed = rose = fell = 0
    for row in rows:
        gate = row["facts"].get("gate")
        start = chosen(rows, case=row["case"], method=row["method"], k=0)
        if not gate or not gate["n"] or not start or "same_as" in row:
            continue
        n += 1
        warned += gate["worse"]
        unwarned += gate["dice_after"] - gate["dice_before"] < -TOLERANCE and not gate["worse"]
        change = dice(row) - dice(start[0] | {"slices": row["slices"]})
        missed += change < -TOLERANCE and not gate["worse"]
        rose += change > TOLERANCE
        fell += change < -TOLERANCE
    return Gates(n, warned, unwarned, missed, rose, fell)
