"""Which slice to correct next: the one whose correction is expected to help most of what is still uncertain.

A correction teaches the model about its own slice and, the less the further away, about its neighbours (or, in a set
of images, about itself alone). In a stack a slice needs it as far as something was found in it or just beside, more so
where that hangs together with what was corrected than elsewhere, where it is more often wrong and where a correction
mostly tells what the thing is not; then as far as the probabilities at the edge are undecided, and as far as its area
breaks the run of its neighbours'. In a set of images, uncertainty at the edge is all there is. The gain of a slice is
the need that its correction would meet and that no correction has met yet: a facility-location objective, whose best
next choice is a good one also for what follows (Nemhauser et al. 1978).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Head = Literal["sigmoid", "softmax"]


# Of the greatest area: as much must be found in a slice for it to belong to a run.
_FOUND = 0.1
# Slices; neighbours look alike however few there are.
_SHORTEST = 1.6
# An edge less unsure than that is no reason to name.
_UNSURE = 0.15
# Slices beyond the ends of the corrected thing that may hold it too, though little was found, and how much they count.
_BEYOND, _AT_LEAST = 3, 0.3


@dataclass(frozen=True)
class Weights:
    """What counts how much; found by trying, see the study of annotation effort.

    Attributes
    ----------
    presence : float
        In a stack, of the square root of the area found, relative to the greatest; of a neighbour's, half counts.
    outside : float in [0, 1]
        What of ``presence`` is left where what was found does not hang together with what was corrected.
    unsure : float
        Of the mean uncertainty at the edge, which is in [0, 1]; in a stack, times ``presence`` as it is there.
    change : float
        Of how far the area is from the mean of both neighbours', in [0, 1].
    base : float
        Of every slice, whatever it shows: without probabilities the choice is even coverage.
    size : float
        In a set of images, exponent of the edge's length relative to the longest: 0 counts images alike, 1 by it.
    reach : float
        Distance at which a correction counts 1/e, as a fraction of the stack; never less than 1.6 slices.
    band : int
        Pixels from the edge that still belong to it.
    enough : float in (0, 1)
        Further correction buys little once the best gain, ``presence`` left aside, is below this part of the first:
        that something is there is no reason to correct it for who is sure of it.
    """

    presence: float = 1.0
    outside: float = 0.3
    unsure: float = 0.3
    change: float = 0.3
    base: float = 0.02
    size: float = 0.5
    reach: float = 0.05
    band: int = 3
    enough: float = 0.15


@dataclass(frozen=True)
class Evidence:
    """What a slice's probabilities say, in a few numbers.

    Attributes
    ----------
    unsure : float in [0, 1]
        Mean uncertainty over the edge: 0 where every pixel is certain, 1 where all are at the threshold.
    edge : float in [0, 1]
        Part of the slice's pixels that are near an edge or undecided.
    areas : tuple of float in [0, 1]
        Part of the slice's pixels that each class has.
    """

    unsure: float
    edge: float
    areas: tuple[float, ...]


@dataclass(frozen=True)
class Suggestion:
    """Correct slice ``z`` next: why, in words, and with what expected gain (of no unit; compare, do not read)."""

    z: int
    reason: str
    gain: float


def uncertainty(probabilities: Array, head: Head, threshold: float = 0.5) -> npt.NDArray[np.float32]:
    """Return how undecided each pixel is, (Y, X) in [0, 1], from probabilities (K, Y, X).

    Softmax: 1 less the lead of the most probable class over the next. Sigmoid: how near the class nearest to it is to
    the threshold, 1 at the threshold and 0 at probabilities 0 and 1.
    """
    values = np.asarray(probabilities, dtype=np.float32)
    if head == "softmax":
        # a running pair of the greatest two: a fifth of the time that sorting takes
        first, second = np.maximum(values[0], values[1]), np.minimum(values[0], values[1])
        for each in values[2:]:
            second = np.maximum(second, np.minimum(first, each))
            first = np.maximum(first, each)
        return np.asarray(1 - (first - second), dtype=np.float32)
    near = np.where(values < threshold, values / threshold, (1 - values) / (1 - threshold))
    return np.asarray(near.max(axis=0), dtype=np.float32)


def measure(probabilities: Array, head: Head, threshold: float = 0.5, band: int = 3) -> Evidence:
    """Return the evidence of one slice.

    Parameters
    ----------
    probabilities : array (K, Y, X) in [0, 1]
        As a predictor hands them out: one channel per class; for "softmax" the background first.
    head : {"sigmoid", "softmax"}
    threshold : float
        Of a sigmoid head.
    band : int
        See ``Weights``.
    """
    values = np.nan_to_num(np.asarray(probabilities, dtype=np.float32))
    winner = values.argmax(axis=0)
    if head == "sigmoid":
        winner = np.where(values.max(axis=0) < threshold, 0, winner + 1)
    classes = len(values) - (head == "softmax")
    areas = np.bincount(winner.ravel(), minlength=classes + 1)[1:] / winner.size
    unsure = uncertainty(values, head, threshold)
    # what was just missed has no edge, but is undecided
    counts = _near_edge(winner, band) | (unsure > 0.5)
    mean = float(unsure[counts].mean()) if counts.any() else 0.0
    return Evidence(mean, float(counts.mean()), tuple(float(area) for area in areas))


def _near_edge(labels: Array, band: int) -> npt.NDArray[np.bool_]:
    """Return the pixels within ``band`` (chessboard distance) of where two labels meet."""
    edge = np.zeros(labels.shape, dtype=np.bool_)
    for axis in (0, 1):
        here, there = (np.moveaxis(edge, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        differ = np.diff(np.moveaxis(labels, axis, 0), axis=0) != 0
        here |= differ
        there |= differ
    for axis in (0, 1):
        grown = edge.copy()
        for step in range(1, min(band, edge.shape[axis])):
            source, target = np.moveaxis(edge, axis, 0), np.moveaxis(grown, axis, 0)
            target[step:] |= source[:-step]
            target[:-step] |= source[step:]
        edge = grown
    return edge


class Suggester:
    """Ranks the slices of a stack, or the images of a set.

    Parameters
    ----------
    n : int
        Slices or images.
    stack : bool
        Whether neighbours show the same thing; False for a set of images.
    weights : Weights
    """

    def __init__(self, n: int, stack: bool = True, weights: Weights | None = None) -> None:
        self.n, self.stack, self.weights = n, stack, weights or Weights()
        self._evidence: dict[int, Evidence] = {}
        self._first = 0.0

    def add(self, z: int, probabilities: Array, head: Head, threshold: float = 0.5) -> None:
        """Take note of the probabilities (K, Y, X) of slice ``z``; of them a few numbers are kept."""
        self._evidence[z] = measure(probabilities, head, threshold, self.weights.band)

    def note(self, evidence: Mapping[int, Evidence]) -> None:
        """Take note of evidence that was measured elsewhere."""
        self._evidence.update(evidence)

    @property
    def evidence(self) -> dict[int, Evidence]:
        return dict(self._evidence)

    def rank(self, corrected: Collection[int]) -> list[Suggestion]:
        """Return every slice that is not corrected, that of the greatest gain first, of equal ones the lowest."""
        done = sorted({z for z in corrected if 0 <= z < self.n})
        left = [z for z in range(self.n) if z not in set(done)]
        parts = self._needs(done)
        gains = np.round(self._gains(np.sum(list(parts.values()), axis=0), done), 9)
        order = sorted(left, key=lambda z: (-gains[z], z))
        return [Suggestion(z, self._reason(z, parts, done), float(gains[z])) for z in order]

    def next(self, corrected: Collection[int]) -> Suggestion | None:
        """Return the slice to correct next, None where all are."""
        ranked = self.rank(corrected)
        if not ranked:
            return None
        self._first = max(self._first, self._doubt(corrected))
        return ranked[0]

    def plan(self, k: int, corrected: Collection[int] = ()) -> list[int]:
        """Return the next ``k`` slices, each chosen as if those before it were corrected already."""
        chosen = list(corrected)
        for _ in range(k):
            ranked = self.rank(chosen)
            if not ranked:
                break
            chosen.append(ranked[0].z)
        return chosen[len(corrected) :]

    def enough(self, corrected: Collection[int]) -> bool:
        """Return whether further correction buys little: nothing is left, or next to nothing of the first gain.

        The first gain is the greatest that ``next`` has seen so far, whatever the model has learnt since.
        """
        if not corrected:
            return False
        return self.next(corrected) is None or self._doubt(corrected) < self.weights.enough * self._first

    def _doubt(self, corrected: Collection[int]) -> float:
        """Return the greatest gain that a correction has by what is not sure, whatever is there."""
        done = sorted({z for z in corrected if 0 <= z < self.n})
        need = np.sum([values for name, values in self._needs(done).items() if name != "presence"], axis=0)
        return float(np.delete(self._gains(need, done), done).max(initial=0.0))

    def _needs(self, done: Sequence[int]) -> dict[str, npt.NDArray[np.float64]]:
        """Return how much each slice needs a correction, (n,) for each reason; unknown ones need it as most do."""
        weights = self.weights
        known = {z: evidence for z, evidence in self._evidence.items() if 0 <= z < self.n}
        here = self._presence(done) if self.stack else self._edges()
        presence, unsure = np.full(self.n, np.nan), np.full(self.n, np.nan)
        for z, evidence in known.items():
            presence[z] = weights.presence * here[z] if self.stack else 0.0
            unsure[z] = weights.unsure * evidence.unsure * here[z]
        for values in (presence, unsure):
            values[np.isnan(values)] = np.nanmedian(values) if known else 0.0
        change = np.array([weights.change * self._jump(z) for z in range(self.n)])
        return {"presence": presence, "unsure": unsure, "change": change, "distance": np.full(self.n, weights.base)}

    def _presence(self, done: Sequence[int]) -> npt.NDArray[np.float64]:
        """Return how much of the thing each slice or the next one seems to hold, (n,) in [0, 1].

        Only the run of slices that hangs together with a corrected one counts in full, and a little beyond its ends;
        while no such run is known, everything does.
        """
        area = np.zeros(self.n)
        for z, evidence in self._evidence.items():
            if 0 <= z < self.n:
                area[z] = sum(evidence.areas)
        relative = area / (area.max(initial=0.0) or 1.0)
        padded = np.pad(relative, 1)
        presence = np.sqrt(np.maximum(relative, np.maximum(padded[:-2], padded[2:]) / 2))
        found = relative > _FOUND
        run = np.cumsum(~found)  # the same number along each run of slices where something was found
        own = found & np.isin(run, [run[z] for z in done if found[z]])
        if not own.any():
            return np.asarray(presence)
        places = np.flatnonzero(own)
        inside = np.abs(np.arange(self.n)[:, None] - places).min(axis=1) <= _BEYOND
        return np.asarray(np.where(inside, np.maximum(presence, _AT_LEAST), self.weights.outside * presence))

    def _edges(self) -> npt.NDArray[np.float64]:
        """Return the length of each image's edges relative to the longest, to the power ``size``, (n,)."""
        edges = np.zeros(self.n)
        for z, evidence in self._evidence.items():
            if 0 <= z < self.n:
                edges[z] = evidence.edge
        longest = edges.max(initial=0.0)
        return np.asarray((edges / longest) ** self.weights.size if longest else edges)

    def _jump(self, z: int) -> float:
        """Return how far a slice's areas are from the mean of its neighbours', relative to the greatest, in [0, 1]."""
        if not self.stack or not all(near in self._evidence for near in (z - 1, z, z + 1)):
            return 0.0
        before, here, after = (np.array(self._evidence[near].areas) for near in (z - 1, z, z + 1))
        greatest = float(np.maximum(np.maximum(before, here), after).sum())
        return float(np.abs(here - (before + after) / 2).sum()) / greatest if greatest else 0.0

    def _gains(self, need: npt.NDArray[np.float64], done: Sequence[int]) -> npt.NDArray[np.float64]:
        if not self.stack:
            gains = need.copy()
            gains[list(done)] = 0
            return gains
        places = np.arange(self.n)
        met = np.exp(-np.abs(places[:, None] - places) / max(_SHORTEST, self.weights.reach * self.n))
        already = met[:, list(done)].max(axis=1) if done else np.zeros(self.n)
        return np.asarray((need[:, None] * np.clip(met - already[:, None], 0, None)).sum(axis=0))

    def _reason(self, z: int, parts: Mapping[str, npt.NDArray[np.float64]], done: Sequence[int]) -> str:
        own = {name: float(values[z]) for name, values in parts.items()}
        # where something was found says little by itself: what it is unsure or odd by comes first
        most = max(("unsure", "change", "distance"), key=lambda name: own[name])
        if most == "unsure" and z in self._evidence and self._evidence[z].unsure >= _UNSURE:
            return f"unsure edge ({self._evidence[z].unsure:.0%})"
        if most == "change":
            return f"area off its neighbours' ({self._jump(z):.0%})"
        if not self.stack:
            return "not corrected yet"
        if not done:
            return "in the middle of what is not corrected"
        away = min(abs(z - other) for other in done)
        return f"{away} slice{'s' if away > 1 else ''} from the nearest corrected one"
