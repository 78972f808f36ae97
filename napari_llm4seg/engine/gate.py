"""Whether a retrained checkpoint is better: corrected slices held back from training, judged before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

# Fewer corrections all train: holding one of three back would cost more than its score tells.
FEWEST = 4
# A fall of mean Dice by more than this is warned of, whatever the noise.
TOLERANCE = 0.01
_RESAMPLES = 2000

Verdict = Literal["better", "no clear difference", "worse", "not measured"]


@dataclass(frozen=True)
class Item:
    """A corrected slice as the split sees it.

    Attributes
    ----------
    digest : of its image's content, by which it is known again in later rounds
    scan : what it belongs to; near-duplicate images share one
    z : index along the scan's slice axis, None for a 2-D image, which is then a near-duplicate of its whole scan
    """

    digest: str
    scan: str = ""
    z: int | None = None


@dataclass(frozen=True)
class Parts:
    """Numbers of the items that train, that are held back, and that do neither, as they would leak."""

    train: tuple[int, ...]
    held_back: tuple[int, ...]
    left_out: tuple[int, ...] = ()


def near(a: Item, b: Item, gap: int) -> bool:
    """Say whether two slices show almost the same: within ``gap`` slices of one scan, or near-duplicate images."""
    if a.scan != b.scan:
        return a.digest == b.digest
    return a.z is None or b.z is None or abs(a.z - b.z) <= gap


def hold_back(
    items: Sequence[Item], fraction: float = 0.2, *, gap: int = 1, locked: Collection[str] = (), seed: int = 0
) -> Parts:
    """Choose the corrected slices that are held back.

    Parameters
    ----------
    items : sequence of Item
    fraction : float in [0, 1)
        Of the items; at least one where there are ``FEWEST`` or more, none where there are fewer or it is 0.
    gap : int
        Slices of one scan this near to a held-back one neither train nor count.
    locked : collection of str
        Digests of items held back in earlier rounds: they stay so, whatever the fraction.
    seed : int

    Returns
    -------
    Parts
        Each further choice is one that leaves out the fewest neighbours, then one that its digest and the seed decide;
        none is made that would leave fewer than two to train.
    """
    held = {i for i, item in enumerate(items) if item.digest in set(locked)}
    wanted = 0 if len(items) < FEWEST or fraction <= 0 else max(1, round(fraction * len(items)))

    def left_out(chosen: set[int]) -> set[int]:
        return {i for i, item in enumerate(items) if i not in chosen and any(near(item, items[j], gap) for j in chosen)}

    def rank(i: int) -> tuple[int, str]:
        draw = hashlib.sha256(f"{seed} {items[i].digest}".encode()).hexdigest()
        return len(left_out(held | {i})), draw

    while len(held) < wanted:
        free = [i for i in range(len(items)) if i not in held]
        fitting = [i for i in free if len(items) - len(held) - 1 - len(left_out(held | {i})) >= 2]
        if not fitting:
            break
        held.add(min(fitting, key=rank))
    beside = left_out(held)
    train = tuple(i for i in range(len(items)) if i not in held and i not in beside)
    return Parts(train, tuple(sorted(held)), tuple(sorted(beside)))


@dataclass(frozen=True)
class Score:
    """One held-back slice's scores, each a mean over the classes.

    Attributes
    ----------
    name : of the slice
    dice : float in [0, 1]
    hd95 : float in ``unit``
    unit : "mm" or "pixel"
    """

    name: str
    dice: float
    hd95: float
    unit: str = "pixel"


@dataclass(frozen=True)
class Gate:
    """The held-back slices' scores before and after.

    Attributes
    ----------
    before, after : tuple of Score, of the same slices in the same order
    low, high : bounds of the difference of mean Dice (after less before), None with fewer than two slices
        95 % of paired bootstrap resamples of the slices; of two or three slices it is the range of their differences.
    """

    before: tuple[Score, ...]
    after: tuple[Score, ...]
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        return len(self.before)

    @property
    def difference(self) -> float:
        """Mean Dice after less before; NaN where nothing was held back."""
        return mean_dice(self.after) - mean_dice(self.before)

    @property
    def verdict(self) -> Verdict:
        """ "worse" where mean Dice fell by more than 0.01 or by more than the noise, "better" where it rose by more."""
        if not self.n:
            return "not measured"
        if self.difference < -TOLERANCE or (self.high is not None and self.high < 0):
            return "worse"
        return "better" if self.low is not None and self.low > 0 else "no clear difference"

    @property
    def worse(self) -> bool:
        return self.verdict == "worse"

    def words(self) -> str:
        """Return the verdict with its figures and how far they can be trusted, for a person to read."""
        if not self.n:
            return (
                f"Not measured: no corrected slice was held back. With {FEWEST} or more corrected slices that are no "
                "neighbours, some are. Look at the result before you keep it."
            )
        figures = f"held-back Dice {mean_dice(self.before):.3f} -> {mean_dice(self.after):.3f}"
        if self.low is None or self.high is None:
            trust = "on a single slice, which tells a large change only"
        else:
            between = f"between {self.low:+.3f} and {self.high:+.3f}"
            trust = f"difference {self.difference:+.3f}, {between}, on {self.n} slices"
            trust += ", too few for more than a rough idea" if self.n < 6 else ""
        return f"{self.verdict.capitalize()}: {figures} ({trust})."

    def as_dict(self) -> dict[str, object]:
        """Return everything, fit for JSON."""
        return {
            "n": self.n,
            "verdict": self.verdict,
            "worse": self.worse,
            "dice_before": mean_dice(self.before) if self.n else None,
            "dice_after": mean_dice(self.after) if self.n else None,
            "difference": self.difference if self.n else None,
            "interval": None if self.low is None else [self.low, self.high],
            "hd95_before": mean_hd95(self.before) if self.n else None,
            "hd95_after": mean_hd95(self.after) if self.n else None,
            "hd95_unit": self.before[0].unit if self.n else None,
            "slices": [
                {"name": b.name, "dice": [b.dice, a.dice], "hd95": [b.hd95, a.hd95]}
                for b, a in zip(self.before, self.after, strict=True)
            ],
            "words": self.words(),
        }


def compare(before: Sequence[Score], after: Sequence[Score], seed: int = 0) -> Gate:
    """Return the gate of scores of the same slices in the same order."""
    if [score.name for score in before] != [score.name for score in after]:
        raise ValueError("before and after are of other slices")
    differences = np.array([a.dice - b.dice for b, a in zip(before, after, strict=True)])
    low, high = bootstrap(differences, seed) if len(differences) > 1 else (None, None)
    return Gate(tuple(before), tuple(after), low, high)


def bootstrap(differences: npt.NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of the mean of resampled differences (n,), n at least 2."""
    rng = np.random.default_rng(seed)
    means = differences[rng.integers(len(differences), size=(_RESAMPLES, len(differences)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def mean_dice(scores: Sequence[Score]) -> float:
    return float(np.mean([score.dice for score in scores])) if scores else float("nan")


def mean_hd95(scores: Sequence[Score]) -> float:
    return float(np.mean([score.hd95 for score in scores])) if scores else float("nan")
