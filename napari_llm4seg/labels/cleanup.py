"""Clean up one class of a label map: largest piece, holes, islands, outline. What is other classes' stays theirs.

Every function takes a slice (Y, X) or a stack (Z, Y, X) of integers and works in the box around the class alone.
Pieces hold together by corners too, as in ``napari_llm4seg.predict``; accordingly holes do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.labels.size import Scale

Labels = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]
Box = tuple[slice, ...]
Progress = Callable[[int, int, str], Any]
Cancel = Callable[[], bool]

# A class is scattered where its largest piece holds a part of it between these, and the next is at most this part of
# the largest.
_LEAST_SHARE, _MOST_SHARE, _SECOND = 0.6, 0.995, 0.2


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A label map after a step of clean-up.

    Parameters
    ----------
    labels : array
        As the one that came in, which stays as it was.
    box : tuple of slice
        Outside of it nothing changed.
    changed : int
        Number of voxels that did.
    words : str
        What was done, without a full stop: "removed 3 islands, 0.42 mL".
    """

    labels: Labels
    box: Box
    changed: int
    words: str


@dataclass(frozen=True)
class Scattered:
    """A class in ``pieces`` connected pieces, of whose voxels the largest holds ``share`` (0 to 1)."""

    value: int
    pieces: int
    share: float


@dataclass
class Hooks:
    """``progress(done, total, message)`` and ``cancel()`` of a job; both may be absent."""

    progress: Progress | None = None
    cancel: Cancel | None = None

    def step(self, done: int, total: int, message: str) -> None:
        """Report, and raise ``Cancelled`` where the person wants to stop."""
        if self.cancel is not None and self.cancel():
            raise Cancelled("Stopped.")
        if self.progress is not None:
            self.progress(done, total, message)


def box_of(labels: Labels | Mask, value: int, margin: tuple[int, ...] | int = 0) -> Box:
    """Return the smallest box around ``value``, ``margin`` voxels wider where the array goes on.

    Raises
    ------
    InputError
        Where the class has no voxel.
    """
    planes: list[int] = []
    shadow = np.zeros(labels.shape[1:], dtype=np.bool_)
    for index, plane in enumerate(labels):  # slice by slice stays in the processor's cache: a twentieth of the time
        same = plane == value
        if same.any():
            planes.append(index)
            shadow |= same
    if not planes:
        raise InputError(f"There is nothing of label {value} here; choose another class or slice.")
    ends = [(planes[0], planes[-1] + 1)]
    for axis in range(shadow.ndim):
        hit = np.flatnonzero(shadow.any(axis=tuple(other for other in range(shadow.ndim) if other != axis)))
        ends.append((int(hit[0]), int(hit[-1]) + 1))
    wider = (margin,) * labels.ndim if isinstance(margin, int) else margin
    return tuple(
        slice(max(0, low - more), min(size, high + more))
        for (low, high), more, size in zip(ends, wider, labels.shape, strict=True)
    )


def keep_largest(labels: Labels, value: int | Sequence[int], scale: Scale, hooks: Hooks | None = None) -> Cleaned:
    """Keep the largest connected piece of ``value``; of several equally large the first in memory order.

    Parameters
    ----------
    labels : array (Y, X) or (Z, Y, X)
    value : int or sequence of int
        A class, or several: of each its own largest piece.
    scale : Scale
        Of these axes.
    hooks : Hooks, optional

    Raises
    ------
    InputError
        Where a class has no voxel.
    Cancelled
    """
    new, boxes, number, removed = labels.copy(), [], 0, 0
    for each in (value,) if isinstance(value, int) else value:
        box, pieces, sizes = _pieces(new, each, hooks)
        gone = np.arange(len(sizes)) != int(np.argmax(sizes))
        _erase(new, box, pieces, gone)
        boxes.append(box)
        number, removed = number + int(gone.sum()), removed + int(sizes[gone].sum())
    words = _removed(number, "piece", removed, scale) if number else "there is only one piece"
    return Cleaned(new, _around(boxes), removed, words)


def scattered(labels: Labels, values: Sequence[int], hooks: Hooks | None = None) -> list[Scattered]:
    """Return those classes of a stack of which ``keep_largest`` is likely to remove false pieces alone.

    Nearly all of such a class is in its largest piece, and the next one is far smaller: two kidneys are no mistake, and
    a few stray voxels are not worth a word.

    Parameters
    ----------
    labels : array (Z, Y, X)
    values : sequence of int
        Those without a voxel are passed over.
    hooks : Hooks, optional

    Raises
    ------
    Cancelled
    """
    found = []
    for value in values:
        try:
            _, _, sizes = _pieces(labels, value, hooks)
        except InputError:
            continue
        if len(sizes) < 2:
            continue
        second, largest = np.sort(sizes)[-2:]
        share = float(largest / sizes.sum())
        if _LEAST_SHARE <= share <= _MOST_SHARE and second <= _SECOND * largest:
            found.append(Scattered(value, len(sizes), share))
    return found


def remove_islands(labels: Labels, value: int, scale: Scale, smallest: float, hooks: Hooks | None = None) -> Cleaned:
    """Remove the connected pieces of ``value`` that are smaller than ``smallest``.

    Parameters
    ----------
    smallest : float
        In mm³ for a stack, mm² for a slice; in voxels or pixels where the grid knows no mm.

    See ``keep_largest`` for the rest.
    """
    box, pieces, sizes = _pieces(labels, value, hooks)
    small = sizes * scale.voxel < smallest * (1 - 1e-9)
    new, number, removed = labels.copy(), int(small.sum()), int(sizes[small].sum())
    _erase(new, box, pieces, small)
    return Cleaned(new, box, removed, _removed(number, "island", removed, scale) if number else "nothing to remove")


def _pieces(labels: Labels, value: int, hooks: Hooks | None) -> tuple[Box, npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the box of a class, its connected pieces numbered from 1, and their sizes in voxels."""
    from scipy import ndimage

    hooks = hooks or Hooks()
    hooks.step(0, 2, "looking for pieces")
    box = box_of(labels, value)
    pieces, _ = ndimage.label(labels[box] == value, structure=np.ones((3,) * labels.ndim))
    hooks.step(1, 2, "sorting the pieces")
    return box, pieces, np.bincount(pieces.ravel())[1:]


def _erase(new: Labels, box: Box, pieces: npt.NDArray[Any], gone: Mask) -> None:
    new[box][np.concatenate([[False], gone])[pieces]] = 0


def _removed(number: int, what: str, voxels: int, scale: Scale) -> str:
    return f"removed {number} {what}{'s' * (number > 1)}, {scale.words(voxels)}"


def _around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around all of them."""
    axes = zip(*boxes, strict=True)
    return tuple(slice(min(one.start for one in each), max(one.stop for one in each)) for each in axes)


def fill_holes(labels: Labels, value: int, scale: Scale, hooks: Hooks | None = None) -> Cleaned:
    """Fill what ``value`` encloses on all sides; of it, what belongs to another class stays that class's.

    Around an enclosed structure of another class the background is filled. What is open at the edge of the array is
    no hole. See ``keep_largest`` for the parameters.
    """
    from scipy import ndimage

    hooks = hooks or Hooks()
    hooks.step(0, 2, "looking for holes")
    box = box_of(labels, value)
    inside = labels[box]
    outside, number = ndimage.label(inside != value)
    hooks.step(1, 2, "filling")
    hole = np.ones(number + 1, dtype=np.bool_)
    hole[0] = False
    for axis in range(labels.ndim):
        for end in (0, -1):
            hole[np.unique(outside.take(end, axis=axis))] = False
    filled = hole[outside] & (inside == 0)
    new = labels.copy()
    new[box][filled] = value
    changed = int(np.count_nonzero(filled))
    if not changed:
        return Cleaned(new, box, 0, "there are no holes")
    holes = len(np.unique(outside[filled]))
    return Cleaned(new, box, changed, f"filled {holes} hole{'s' * (holes > 1)}, {scale.words(changed)}")


def smooth(labels: Labels, value: int, scale: Scale, radius: float, hooks: Hooks | None = None) -> Cleaned:
    """Smooth the outline of ``value`` and keep its size.

    The mask is blurred by a Gaussian of ``radius`` (mm, so thick slices blur less into each other) and cut where as
    many voxels lie inside as before. Voxels of other classes count neither as inside nor as outside, so that the class
    does not draw back from a neighbour, and stay as they are.

    Parameters
    ----------
    radius : float
        Standard deviation of the Gaussian in the unit of ``scale``, above 0.

    See ``keep_largest`` for the rest.
    """
    from scipy import ndimage

    hooks = hooks or Hooks()
    hooks.step(0, 3, "blurring")
    if not radius > 0:
        raise InputError(f"The smoothing is {radius:g}; it must be above 0 {scale.unit}.")
    sigma = [radius / step for step in scale.spacing]
    box = box_of(labels, value, tuple(int(np.ceil(3 * width)) + 1 for width in sigma))
    inside = labels[box]
    own = inside == value
    free = own | (inside == 0)
    level = ndimage.gaussian_filter(own.astype(np.float32), sigma, truncate=3.0, mode="nearest")
    hooks.step(1, 3, "blurring")
    if not free.all():
        known = ndimage.gaussian_filter(free.astype(np.float32), sigma, truncate=3.0, mode="nearest")
        level = np.where(free, level / np.maximum(known, 1e-6), -1.0)
    hooks.step(2, 3, "cutting")
    new = labels.copy()
    cut = _cut(level[free], int(np.count_nonzero(own)))
    # Where many voxels lie exactly at the cut, those that were inside before stay.
    smoothed = free & ((level > cut) | ((level == cut) & own))
    new[box][smoothed] = value
    new[box][own & ~smoothed] = 0
    lost, won = int(np.count_nonzero(own & ~smoothed)), int(np.count_nonzero(smoothed & ~own))
    words = f"smoothed: {scale.words(won)} added, {scale.words(lost)} taken away"
    return Cleaned(new, box, lost + won, words if lost + won else "the outline is as smooth as that already")


def _cut(levels: npt.NDArray[np.float32], number: int) -> float:
    """Return the level that ``number`` of ``levels`` reach."""
    return float(np.partition(levels, len(levels) - number)[len(levels) - number])
