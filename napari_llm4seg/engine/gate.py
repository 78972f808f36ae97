"""Whether a retrained checkpoint is better: corrected slices held back from training, judged before and after.

A fall of the Dice that is shown by more than ``TOLERANCE`` is always warned of; the words say whether it is larger than
what the slices differ by among themselves, or whether so few cannot tell. How the Dice and its interval come about is
said in ``napari_llm4seg.engine.scores``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from napari_llm4seg.engine import scores
from napari_llm4seg.engine.held_back import FEWEST
from napari_llm4seg.engine.scores import Score

# A fall of Dice by more than this is warned of, whatever the noise.
TOLERANCE = 0.01
# From this many slices on a smaller change counts too, where it is larger than the noise: fewer cannot show that by any
# test (of five, all fall by chance in 1 of 16 cases, counting both directions; of six in 1 of 32).
TELLING = 6

Verdict = Literal["better", "perhaps better", "no clear difference", "perhaps worse", "worse", "not measured"]


@dataclass(frozen=True)
class Gate:
    """The held-back slices' scores before and after.

    Attributes
    ----------
    before, after : tuple of Score, of the same slices in the same order
    low, high : bounds of the difference of Dice (after less before), None with fewer than two slices that hold a class
        See ``scores.interval``.
    wanted : bool
        Whether slices were to be held back at all.
    taught : int
        How many of the slices the old checkpoint had learnt from, as a new model's training holds none back.
    """

    before: tuple[Score, ...]
    after: tuple[Score, ...]
    low: float | None
    high: float | None
    wanted: bool = True
    taught: int = 0

    @property
    def n(self) -> int:
        return len(self.before)

    @property
    def holding(self) -> int:
        """Number of slices that hold a class, which are those with a Dice."""
        return scores.holding(self.before)

    @property
    def difference(self) -> float:
        """Dice after less before; NaN where no held-back slice holds a class."""
        return scores.pooled(self.after) - scores.pooled(self.before)

    @property
    def strays(self) -> tuple[int, int]:
        """Pixels before and after that are marked as classes which are not there."""
        return scores.stray(self.before), scores.stray(self.after)

    @property
    def strayed(self) -> bool:
        """Whether those became more by as much as would cost a Dice near 1 more than the tolerance.

        That is 2 % of the pixels that the classes truly have there; of all pixels where they have none.
        """
        before, after = self.strays
        return after - before > 2 * TOLERANCE * scores.extent(self.before)

    @property
    def noise_known(self) -> bool:
        """Whether enough slices hold a class for an interval: with three or fewer it is a range at best."""
        return self.low is not None and self.holding > scores.RANGE_UP_TO

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval, where there is one, lies on one side of 0."""
        if not self.noise_known or self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> Verdict:
        """What the figures bear.

        "better" and "worse" where Dice changed by more than the noise, as four slices or more tell it: by more than the
        tolerance too, with fewer than ``TELLING``. "perhaps" where it changed by more than the tolerance but the slices
        cannot tell it from noise; also worse where classes that are not there are marked.
        """
        change = self.difference
        large = abs(change) > TOLERANCE
        if self.beyond_noise and (large or self.holding >= TELLING):
            if change < 0:
                return "worse"
            return "perhaps worse" if self.strayed else "better"
        if self.strayed or (large and change < 0):
            return "perhaps worse"
        if not self.holding:
            return "not measured"
        return "perhaps better" if large else "no clear difference"

    @property
    def worse(self) -> bool:
        """Whether a warning is due: Dice fell by more than the tolerance or than the noise, or strays were made up."""
        return self.verdict in ("worse", "perhaps worse")

    def trust(self) -> str:
        """Return the verdict and how far it can be trusted, for a person to read beside the figures."""
        if not self.n and not self.wanted:
            return "Not measured: every corrected slice trained. Look at the result before you keep it."
        if not self.n:
            return (
                f"Not measured: no corrected slice was held back. With {FEWEST} or more corrected slices that are no "
                "neighbours, some are. Look at the result before you keep it."
            )
        if self.strayed and not self.difference < -TOLERANCE:
            before, after = self.strays
            return (
                f"{self.verdict.capitalize()}: classes that are not there are marked now, {after} pixels "
                f"({before} before). Look at the result before you keep it."
            )
        if not self.holding:
            return "Not measured: no class is in what was held back. Look at the result before you keep it."
        return f"{self.verdict.capitalize()}{self._noise()}"

    def _noise(self) -> str:
        """Return how the change compares with the noise, as the end of a sentence that starts with the verdict."""
        n, few = self.holding, self.holding < TELLING
        if n == 1:
            which = "on a single slice" if self.n == 1 else "on the only slice that holds a class"
            return f", {which}: there is no interval, and only a large change means anything."
        if self.verdict in ("better", "worse"):
            return f", by more than the {n} slices differ" + (": a rough idea, they are few." if few else " by chance.")
        if self.verdict == "no clear difference":
            return f" on {n} slices" + (", which are few." if few else ".")
        moved = "fell" if self.difference < 0 else "rose"
        cannot = "are too few to" if few else "differ too much to"
        return f": Dice {moved}, but {n} slices {cannot} tell it from chance."

    def words(self) -> str:
        """Return the figures and the verdict with how far it can be trusted, for a person to read."""
        if not self.holding:
            return self.trust()
        figures = f"held-back Dice {scores.pooled(self.before):.3f} -> {scores.pooled(self.after):.3f}"
        if self.low is not None and self.high is not None:
            kind = "95 % interval" if self.noise_known else "from"
            figures += f", difference {self.difference:+.3f}, {kind} {self.low:+.3f} to {self.high:+.3f}"
        return f"{self.trust()} ({figures})"

    def remarks(self) -> list[str]:
        """Return what else a person must know of the figures, a short phrase each."""
        found = []
        if self.taught:
            found.append(f"The old model had learnt from {self.taught} of them: its Dice is too good")
        lacking = [sum(score.lacks for score in side) for side in (self.before, self.after)]
        if any(lacking):
            found.append(f"No distance: class absent in {lacking[0]} -> {lacking[1]} slices")
        if any(self.strays):
            found.append(f"Classes not there: {self.strays[0]} -> {self.strays[1]} pixels")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return everything, fit for JSON."""
        hd95 = scores.distances(self.before, self.after)
        alone = all(score.alone for score in self.before)
        return {
            "n": self.n,
            "n_holding": self.holding,
            "verdict": self.verdict,
            "worse": self.worse,
            "dice_before": scores.pooled(self.before) if self.holding else None,
            "dice_after": scores.pooled(self.after) if self.holding else None,
            "dice_is": "mean over images" if alone else "pooled over slices",
            "difference": self.difference if self.holding else None,
            "interval": None if self.low is None else [self.low, self.high],
            "interval_is": None if self.low is None else "95 %" if self.noise_known else "range",
            "hd95_before": hd95[0] if hd95 else None,
            "hd95_after": hd95[1] if hd95 else None,
            "hd95_interval": list(scores.distance_interval(self.before, self.after) or ()) or None,
            "hd95_unit": self.before[0].unit if self.n else None,
            "strays": list(self.strays),
            "slices": scores.as_rows(self.before, self.after),
            "remarks": self.remarks(),
            "trust": self.trust(),
            "words": self.words(),
        }


def compare(
    before: Sequence[Score], after: Sequence[Score], seed: int = 0, *, wanted: bool = True, taught: int = 0
) -> Gate:
    """Return the gate of scores of the same slices in the same order; ``wanted`` and ``taught`` as in ``Gate``."""
    if [score.name for score in before] != [score.name for score in after]:
        raise ValueError("before and after are of other slices")
    low, high = scores.interval(before, after, seed) or (None, None)
    return Gate(tuple(before), tuple(after), low, high, wanted, taught)
