"""Which way a scan is cut into slices: as it is stored, or along the body's own directions."""

from __future__ import annotations

from typing import get_args

import numpy as np

from napari_llm4seg.config import Plane
from napari_llm4seg.volume import Volume

PLANES: tuple[Plane, ...] = get_args(Plane)

# The world's axis along which slices of each plane follow one another: (superior, posterior, left).
_ACROSS: dict[str, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
Axes = tuple[int, int, int]


def upright_axes(volume: Volume) -> tuple[Axes, tuple[bool, bool, bool]]:
    """Return which of the scan's axes runs along each of the world's, and whether it runs against it.

    A scan at an angle is turned by the closest exchange of axes; one without a place in the world stays as it is.

    Returns
    -------
    order : for each axis of the world (superior, posterior, left), the scan's axis nearest to it; no axis twice.
    flipped : for each axis of the world, whether the scan's runs against it.
    """
    if volume.unit != "mm":
        return (0, 1, 2), (False, False, False)
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    left = np.abs(directions)
    order = [0, 0, 0]
    for _ in range(3):  # the surest pair first, so that no axis is taken twice at 45 degrees
        world, axis = np.unravel_index(int(left.argmax()), left.shape)
        order[int(world)] = int(axis)
        left[world, :] = left[:, axis] = -1
    flipped = [bool(directions[world, axis] < 0) for world, axis in enumerate(order)]
    return (order[0], order[1], order[2]), (flipped[0], flipped[1], flipped[2])


def slice_axis(volume: Volume, plane: Plane) -> int:
    """Return the axis of the scan's grid (0, 1 or 2 of z, y, x) along which slices of ``plane`` follow one another.

    "stored" is the first axis, whatever its direction: the slices as they were taken. The others go by the affine: of
    an oblique scan the axis nearest to the body's is meant. A scan that does not say how it lies in the body counts as
    stored axially. A single slice has no others.
    """
    return 0 if plane == "stored" or volume.n_slices == 1 else upright_axes(volume)[0][_ACROSS[plane]]


def said_of_plane(volume: Volume, plane: Plane) -> list[str]:
    """Return sentences about how ``plane`` was understood, where that is not plain from the scan."""
    if plane == "stored" or volume.n_slices == 1:
        return []
    if volume.unit != "mm":
        name = "zyx"[slice_axis(volume, plane)]
        return [f"The scan does not say how it lies in the body; slices along its {name} axis were taken as {plane}."]
    direction = volume.affine[:3, slice_axis(volume, plane)]
    across = abs(float(direction[_ACROSS[plane]])) / float(np.linalg.norm(direction))
    degrees = float(np.degrees(np.arccos(min(1.0, across))))
    if degrees < 5:
        return []
    return [f"The scan lies at an angle: its slices nearest to {plane} were taken, {degrees:.0f} degrees from it."]


def turned(volume: Volume, axis: int) -> Volume:
    """Return a view of ``volume`` whose slices follow one another along its ``axis``; the other axes keep their order.

    Nothing is copied and nothing lazy is computed; the affine says where the turned grid lies.
    """
    if axis == 0:
        return volume
    order = [axis, *(other for other in range(3) if other != axis)]
    affine = volume.affine.copy()
    affine[:, :3] = volume.affine[:, order]
    return volume.with_data(volume.data.transpose(0, *(1 + each for each in order)), affine=affine)


def at(axis: int, index: int | slice) -> tuple[int | slice, ...]:
    """Return the index of slice (or slices) ``index`` along ``axis`` of a grid (Z, Y, X)."""
    return (slice(None),) * axis + (index,)
