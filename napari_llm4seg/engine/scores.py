"""Scores of held-back slices from counts of pixels: one Dice for all of them, how sure it is, and distances.

**Dice.** Slices of a stack are judged together: for each class twice the hits over the sizes, both summed over all
slices first, then the mean over the classes. So a slice weighs what it holds, and a stray pixel in one that holds
nothing, where the slice's own Dice falls from 1 to 0, weighs a pixel (Reinke et al., "Understanding metric-related
pitfalls", Nat Methods 21 (2024) 182; nnU-Net sums over its validation patches for the same reason, Isensee et al., Nat
Methods 18 (2021) 203). Where every slice is an image of its own, Dice is the mean over the images, as is usual.

**Classes that are not there.** A class that the stack's held-back slices (or the image) do not hold has no Dice: its
pixels are all false, however few (Maier-Hein et al., "Metrics reloaded", Nat Methods 21 (2024) 195). They are counted
on their own, as ``stray`` pixels, so that a class made up from nothing is told, and a single false pixel is no loss.

**Interval.** The 2.5th and 97.5th percentile of the difference over paired bootstrap resamples: slices are drawn with
replacement, and before and after are computed anew on the same draw (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, chapters 8 and 13). A draw that holds no class at all has no Dice and does not count. Two or three
slices give no percentiles worth the name: what is returned is the range over all draws. A single slice that holds
something gives none. Slices of one scan are more alike than those of another: the interval speaks of this scan.

**Distances** are of each slice and class, in the slice's plane. A class that is in neither mask nor truth does not
count; one that is in one of them only has no distance, and the number of such slices is given. Means before and after
are over the same slices and classes: those with a distance both times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.metrics import dice_of_counts

Counts = npt.NDArray[np.float64]

_RESAMPLES = 2000
# Up to this many slices the interval is the range over all draws: 2000 of them meet each of the 10 there are of three.
RANGE_UP_TO = 3


@dataclass(frozen=True)
class Score:
    """What is counted in one held-back slice; sequences have an entry per class.

    Attributes
    ----------
    name : of the slice
    hits, said, true : tuple of int
        Pixels of the class in mask and truth, in the mask, and in the truth, among the annotated ones.
    distances : tuple of float or None
        HD95 in ``unit``; None where mask or truth lack the class.
    unit : "mm" or "pixel"
    pixels : int
        Annotated ones.
    alone : bool
        Whether the slice is an image of its own.
    """

    name: str
    hits: tuple[int, ...]
    said: tuple[int, ...]
    true: tuple[int, ...]
    distances: tuple[float | None, ...]
    unit: str = "pixel"
    pixels: int = 0
    alone: bool = False

    @property
    def empty(self) -> bool:
        """Whether the truth holds no class."""
        return not any(self.true)

    @property
    def dice(self) -> float | None:
        """This slice's own, mean over the classes that its truth holds; None where it holds none."""
        each = zip(self.hits, self.said, self.true, strict=True)
        values = [2 * hits / (said + true) for hits, said, true in each if true]
        return float(np.mean(values)) if values else None

    @property
    def hd95(self) -> float | None:
        """Mean over the classes with a distance; None where none has."""
        values = [distance for distance in self.distances if distance is not None]
        return float(np.mean(values)) if values else None

    @property
    def lacks(self) -> bool:
        """Whether a class is in the mask only, or in the truth only."""
        return any(bool(said) != bool(true) for said, true in zip(self.said, self.true, strict=True))


def pooled(scores: Sequence[Score]) -> float:
    """Return the Dice of all slices; NaN where they hold no class."""
    return float(_dice(scores)[0]) if scores else float("nan")


def holding(scores: Sequence[Score]) -> int:
    """Return the number of slices whose truth holds a class: those that tell of Dice."""
    return sum(not score.empty for score in scores)


def interval(before: Sequence[Score], after: Sequence[Score], seed: int = 0) -> tuple[float, float] | None:
    """Return bounds of the difference of ``pooled`` (after less before), None with fewer than two telling slices."""
    if holding(before) < 2:
        return None
    draws = _draws(len(before), seed)
    return _bounds(_dice(after, draws) - _dice(before, draws), len(before))


def own_interval(scores: Sequence[Score], seed: int = 0) -> tuple[float, float] | None:
    """Return bounds of ``pooled`` itself, drawn as for the difference; None with fewer than two telling slices."""
    if holding(scores) < 2:
        return None
    return _bounds(_dice(scores, _draws(len(scores), seed)), len(scores))


def _draws(n: int, seed: int) -> Counts:
    """Return how often each of ``n`` slices is in each resample (R, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(np.float64)


def _bounds(differences: Counts, n: int) -> tuple[float, float]:
    low, high = np.nanpercentile(differences, (0, 100) if n <= RANGE_UP_TO else (2.5, 97.5))
    return float(low), float(high)


def _dice(scores: Sequence[Score], weights: Counts | None = None) -> Counts:
    counts = ([getattr(each, what) for each in scores] for what in ("hits", "said", "true"))
    return dice_of_counts(*counts, alone=all(each.alone for each in scores), weights=weights)


def stray(scores: Sequence[Score]) -> int:
    """Return the pixels marked as classes that the image, or none of a stack's slices, holds."""
    if all(score.alone for score in scores):
        each = (zip(score.said, score.true, strict=True) for score in scores)
        return sum(said for pairs in each for said, true in pairs if not true)
    said, true = (np.array([getattr(score, what) for score in scores]).sum(axis=0) for what in ("said", "true"))
    return int(said[true == 0].sum())


def extent(scores: Sequence[Score]) -> int:
    """Return the pixels that the classes have in truth, of all the annotated ones where they have none."""
    return sum(sum(score.true) for score in scores) or sum(score.pixels for score in scores)


def distances(before: Sequence[Score], after: Sequence[Score]) -> tuple[float, float] | None:
    """Return the mean HD95 before and after over the slices and classes that have one both times; None without any."""
    sums, counts = _both(before, after)
    if not counts.sum():
        return None
    means = sums.sum(axis=0) / counts.sum()
    return float(means[0]), float(means[1])


def distance_interval(before: Sequence[Score], after: Sequence[Score], seed: int = 0) -> tuple[float, float] | None:
    """Return bounds of the difference of those means, drawn as for Dice; None with fewer than two slices for it."""
    sums, counts = _both(before, after)
    if np.count_nonzero(counts) < 2:
        return None
    draws = _draws(len(before), seed)
    drawn = draws @ counts
    changes = draws @ (sums[:, 1] - sums[:, 0])
    return _bounds(np.divide(changes, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0), len(before))


def _both(before: Sequence[Score], after: Sequence[Score]) -> tuple[Counts, Counts]:
    """Return each slice's sums (n, 2) of the distances that are there both times, and how many (n,) those are."""
    pairs = [
        [pair for pair in zip(old.distances, new.distances, strict=True) if None not in pair]
        for old, new in zip(before, after, strict=True)
    ]
    sums = np.array([np.sum(np.array(each, float).reshape(-1, 2), axis=0) for each in pairs]).reshape(-1, 2)
    return sums, np.array([len(each) for each in pairs], float)


def as_rows(before: Sequence[Score], after: Sequence[Score]) -> list[dict[str, Any]]:
    """Return the counts of each slice, before and after, fit for JSON."""
    return [
        {
            "name": old.name,
            "alone": old.alone,
            "pixels": old.pixels,
            "dice": [old.dice, new.dice],
            "hd95": [old.hd95, new.hd95],
            "true": list(old.true),
            "hits": [list(old.hits), list(new.hits)],
            "said": [list(old.said), list(new.said)],
            "distances": [list(old.distances), list(new.distances)],
        }
        for old, new in zip(before, after, strict=True)
    ]


def of_rows(rows: Sequence[Mapping[str, Any]], unit: str = "pixel") -> tuple[list[Score], list[Score]]:
    """Return the scores before and after that ``as_rows`` gave."""

    def side(row: Mapping[str, Any], at: int) -> Score:
        hits, said, gaps = (tuple(row[what][at]) for what in ("hits", "said", "distances"))
        return Score(row["name"], hits, said, tuple(row["true"]), gaps, unit, row["pixels"], row["alone"])

    return [side(row, 0) for row in rows], [side(row, 1) for row in rows]
