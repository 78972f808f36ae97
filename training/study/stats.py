"""The study's statistics: paired differences between two arms, on the same images and seeds.

D is the matrix (seeds x images) of differences of a score, arm minus reference; NaN where an image was not scored in
both. d_i is an image's mean over seeds, d the mean of all d_i. Images of one near-duplicate group stand or fall
together: they are resampled, and their signs flipped, as one.

- interval over images: percentile bootstrap of d over groups of images, the trained networks held fixed
- interval over both:   the seeds are resampled too, independently, so that it also speaks of networks not yet trained;
                        with two or three seeds it can only be rough
- p over images:        two-sided sign-flip test of the d_i (by group): all 2^n assignments where they are few, else a
                        random choice of them, counting the observed one
- p over seeds:         the same test of the per-seed means, always exact. It cannot fall below 2 / 2^seeds.
- Holm:                 step-down correction of the p over images for all comparisons of one table
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

# Normal quantiles of a two-sided test at 5 % and of 80 % power.
_SEEN = 1.959964 + 0.841621
_EXACT_LIMIT = 14
_AT_ONCE = 1 << 22  # numbers held by one step of a resampling


@dataclass(frozen=True)
class Interval:
    """A mean, its 95 % percentile-bootstrap interval and the bootstrap's standard error, all in the score's unit."""

    mean: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """One arm against a reference.

    Attributes
    ----------
    images, both : Interval
        Over images with the trained networks held fixed, and over seeds and images.
    seed_means : mean difference of each seed
    p_images, p_seeds : two-sided p of the sign-flip tests
    n_images, n_groups, n_seeds : what they rest on
    detectable : float
        The true difference that such a comparison would call significant in 80 of 100 repetitions: 2.8 standard errors
        of the interval over both.
    """

    images: Interval
    both: Interval
    seed_means: tuple[float, ...]
    p_images: float
    p_seeds: float
    n_images: int
    n_groups: int
    n_seeds: int

    @property
    def detectable(self) -> float:
        return _SEEN * self.both.error


def compare(
    differences: npt.ArrayLike, groups: Sequence[str] | None = None, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two arms.

    Parameters
    ----------
    differences : array (seeds, images)
        Arm minus reference; NaN where one of the two was not scored.
    groups : sequence of str, one for each image, optional
        Equal for near-duplicates; each image its own by default.
    resamples : int
        Of every bootstrap and of a test that is not exact.
    seed : int
        Of the resampling.

    Raises
    ------
    ValueError
        If nothing is left to compare.
    """
    table = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    labels = np.asarray([str(i) for i in range(table.shape[1])] if groups is None else list(groups))
    used = ~np.isnan(table).all(axis=0)
    table, labels = table[:, used], labels[used]
    table = table[~np.isnan(table).all(axis=1)]
    if table.size == 0:
        raise ValueError("the two arms share no scored image")
    _, group = np.unique(labels, return_inverse=True)
    per_image = np.nanmean(table, axis=0)
    seed_means = np.nanmean(table, axis=1)
    rng = np.random.default_rng(seed)
    images = bootstrap(per_image[None], group, resamples, rng)
    return Comparison(
        images=images,
        both=bootstrap(table, group, resamples, rng) if len(table) > 1 else images,
        seed_means=tuple(float(mean) for mean in seed_means),
        p_images=sign_flip(_sums(per_image[None], group)[0][0], resamples, rng),
        p_seeds=sign_flip(seed_means, resamples, rng),
        n_images=int(table.shape[1]),
        n_groups=int(group.max()) + 1,
        n_seeds=len(table),
    )


def bootstrap(table: Float, group: Index, resamples: int, rng: np.random.Generator) -> Interval:
    """Return the mean of the images' means with its interval, resampling groups of images and, of several, the seeds.

    Parameters
    ----------
    table : array (seeds, images), NaN where missing
    group : array (images,), 0-based number of each image's group
    """
    sums, counts = _sums(table, group)
    seeds, groups = sums.shape
    means = []
    step = max(1, _AT_ONCE // groups)
    for start in range(0, resamples, step):
        n = min(step, resamples - start)
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=n).astype(np.float64)
        weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=n).astype(np.float64)
        # a resample's mean over its seeds of the mean over its images
        total, number = drawn @ sums.T, drawn @ counts.T
        ratio = np.divide(total, number, out=np.zeros_like(total), where=number > 0)
        means.append((weights * ratio).sum(axis=1) / seeds)
    spread = np.concatenate(means)
    low, high = np.percentile(spread, (2.5, 97.5))
    centre = float(np.nanmean(np.nanmean(table, axis=0)))
    return Interval(centre, float(low), float(high), float(spread.std(ddof=1)))


def _sums(table: Float, group: Index) -> tuple[Float, Float]:
    """Return sums and numbers of the values of each group, both (seeds, groups)."""
    known = ~np.isnan(table)
    filled = np.where(known, table, 0.0)
    size = int(group.max()) + 1
    sums = np.zeros((len(table), size))
    counts = np.zeros((len(table), size))
    for i in range(len(table)):
        sums[i] = np.bincount(group, filled[i], minlength=size)
        counts[i] = np.bincount(group, known[i].astype(float), minlength=size)
    return sums, counts


def sign_flip(values: npt.ArrayLike, resamples: int, rng: np.random.Generator) -> float:
    """Return the two-sided p of a paired permutation test that the values' signs are chance.

    Under the null hypothesis an arm and its reference can be exchanged within a pair, which flips a difference's sign.
    Exact, by enumeration, for up to 14 values; else from ``resamples`` random assignments, the observed one counted in.
    """
    differences: Float = np.asarray(values, dtype=np.float64)
    n = len(differences)
    observed = abs(float(differences.sum()))
    slack = 1e-12 * max(1.0, float(np.abs(differences).sum()))  # equal sums must count as equal
    if n <= _EXACT_LIMIT:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ differences) >= observed - slack).mean())
    more: int = 0
    step = max(1, _AT_ONCE // n)
    for start in range(0, resamples, step):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(min(step, resamples - start), n))
        more += int((np.abs(signs @ differences) >= observed - slack).sum())
    return float((more + 1) / (resamples + 1))


def least_p(seeds: int) -> float:
    """Return the smallest p that the test over ``seeds`` seeds can give."""
    return min(1.0, 2.0 * 0.5**seeds)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given.

    The k-th smallest of m is multiplied by m - k + 1, never falls below a smaller one's, and is at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation (n - 1; 0 for a single value)."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0
