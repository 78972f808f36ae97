"""Fill the slices between annotated ones by the shapes on either side.

Source: Raya and Udupa, Shape-based interpolation of multidimensional objects, IEEE TMI 9 (1990) 32-42. Where both
shapes are in one piece they are centred on each other first, so that a slanting vessel keeps its width; plain
shape-based interpolation loses it where the two do not overlap.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.labels.cleanup import Cleaned, Hooks, Labels, Mask, box_of
from napari_llm4seg.labels.size import Scale

Distance = npt.NDArray[np.floating[Any]]


def interpolate_slices(labels: Labels, value: int, scale: Scale, axis: int = 0, hooks: Hooks | None = None) -> Cleaned:
    """Fill every slice along ``axis`` that is empty of ``value`` and lies between two that are not.

    Parameters
    ----------
    labels : array (Z, Y, X)
    value : int
    scale : Scale
        Of three axes; distances in the slices are measured in its unit.
    axis : int
    hooks : Hooks, optional
        Counts gaps.

    Returns
    -------
    Cleaned
        Annotated slices, other classes and all that lies outside the gaps are as before.

    Raises
    ------
    InputError
        Where the class is in no two slices.
    Cancelled
    """
    if labels.ndim != 3:
        raise InputError("Filling between slices needs a stack; this mask is one slice.")
    hooks = hooks or Hooks()
    box = box_of(labels, value)
    new = labels.copy()
    stack, target = np.moveaxis(labels[box], axis, 0), np.moveaxis(new, axis, 0)
    plane = tuple(step for at, step in enumerate(scale.spacing) if at != axis)
    first = box[axis].start
    drawn = [z for z in range(len(stack)) if (stack[z] == value).any()]
    if len(drawn) < 2:
        raise InputError("Between slices can be filled where at least two of them are drawn; this class is in one.")
    gaps = [(low, high) for low, high in itertools.pairwise(drawn) if high - low > 1]
    filled = [0, 0]
    for number, (low, high) in enumerate(gaps):
        hooks.step(number, len(gaps), f"between slices {first + low} and {first + high}")
        ends = [target[first + z] == value for z in (low, high)]
        for z, shape in zip(range(low + 1, high), _between(ends[0], ends[1], high - low, plane), strict=True):
            free = shape & (target[first + z] == 0)
            target[first + z][free] = value
            filled[0] += bool(free.any())
            filled[1] += int(np.count_nonzero(free))
    if not gaps:
        return Cleaned(new, box, 0, "no slice is missing between drawn ones")
    # shapes centred on each other may move beyond the box of both
    where = tuple(part if at == axis else slice(0, labels.shape[at]) for at, part in enumerate(box))
    words = f"filled {filled[0]} slice{'s' * (filled[0] != 1)} between drawn ones, {scale.words(filled[1])}"
    return Cleaned(new, where, filled[1], words)


def _between(low: Mask, high: Mask, steps: int, spacing: tuple[float, ...]) -> list[Mask]:
    """Return the ``steps`` - 1 shapes between two of the same plane."""
    from scipy import ndimage

    move = _offset(low, high)
    box = box_of(low | high, 1, tuple(int(np.ceil(abs(part))) + 1 for part in move))
    # one pixel of background around, also where the shape is cut off by the edge of the scan
    near, far = (_signed_distance(np.pad(mask[box], 1), spacing) for mask in (low, high))
    shapes = []
    for step in range(1, steps):
        part = step / steps
        if np.any(move):
            here = ndimage.shift(near, part * move, order=1, mode="nearest")
            there = ndimage.shift(far, (part - 1) * move, order=1, mode="nearest")
        else:
            here, there = near, far
        shape = np.zeros(low.shape, dtype=np.bool_)
        shape[box] = ((1 - part) * here + part * there > 0)[1:-1, 1:-1]
        shapes.append(shape)
    return shapes


def _offset(low: Mask, high: Mask) -> npt.NDArray[np.float64]:
    """Return how far the centre moves, in pixels, where both shapes are in one piece; else nothing is moved."""
    from scipy import ndimage

    corners = np.ones((3, 3))
    if any(ndimage.label(mask[box_of(mask, 1)], corners)[1] != 1 for mask in (low, high)):
        return np.zeros(2)
    centres = [np.array([axis.mean() for axis in np.nonzero(mask)]) for mask in (low, high)]
    return np.asarray(centres[1] - centres[0])


def _signed_distance(mask: Mask, spacing: tuple[float, ...]) -> Distance:
    """Return the distance to the outline, above 0 inside; the outline runs half way between pixels."""
    from scipy import ndimage

    half = min(spacing) / 2
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    return np.asarray(np.where(mask, inside - half, half - outside))
