"""The longest diameter of a structure (maximum Feret diameter), in space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

_ROWS = 512


def longest_diameter(mask: npt.NDArray[np.bool_], steps: npt.NDArray[np.float64]) -> float:
    """Return the largest distance between two points of the structure's surface.

    The surface runs half way between a voxel inside and its neighbour outside, along the grid's axes: where marching
    cubes at 0.5 puts its vertices. So one voxel of a grid of 1 mm is 1 mm long. Source: "Maximum 3D diameter" of the
    Image Biomarker Standardisation Initiative, as PyRadiomics computes it.

    Parameters
    ----------
    mask : array of two or three axes, with at least one voxel set
    steps : array (3, mask.ndim)
        World vector of one step along each axis; the grid may be oblique or sheared.

    Returns
    -------
    float
        In the unit of ``steps``.
    """
    # The farthest points are corners of the convex hull, and those are what they are on any affine grid.
    corners = _hull(_row_ends(mask).astype(np.float64))
    longest_step = float(np.linalg.norm(steps, axis=0).max())
    corners = _far_out(corners, steps, longest_step)
    pairs = _far_apart(corners @ steps.T, longest_step)
    halves = np.concatenate([np.eye(mask.ndim), -np.eye(mask.ndim)]) / 2
    faces = (halves[:, None] - halves[None]).reshape(-1, mask.ndim) @ steps.T
    apart = (corners[pairs[:, 0]] - corners[pairs[:, 1]]) @ steps.T
    return max(float(np.linalg.norm(apart + face, axis=1).max()) for face in faces)


def _row_ends(mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Return the index of the first and the last voxel of every row of the structure: corners are among them."""
    rows = mask.any(axis=-1)
    hit = mask[rows]
    where = np.argwhere(rows)
    first, last = hit.argmax(axis=-1), hit.shape[-1] - 1 - hit[:, ::-1].argmax(axis=-1)
    return np.concatenate([np.column_stack([where, ends]) for ends in (first, last)])


def _hull(points: Points) -> Points:
    """Return the corners of the convex hull; where all lie in a plane or on a line, what is sure to contain them."""
    from scipy.spatial import ConvexHull, QhullError

    spread = np.flatnonzero(np.ptp(points, axis=0))
    if len(spread) == 0:
        return points[:1]
    if len(spread) == 1:
        ends = points[:, spread[0]]
        return points[[int(ends.argmin()), int(ends.argmax())]]
    try:
        hull = ConvexHull(points[:, spread])
    except QhullError:  # aslant in the grid: moved by the smallest amount, the points enclose a volume
        try:
            hull = ConvexHull(points[:, spread], qhull_options="QJ")
        except QhullError:
            return np.unique(points, axis=0)
    return np.asarray(points[hull.vertices])


def _far_out(points: Points, steps: npt.NDArray[np.float64], slack: float) -> Points:
    """Leave out the points that are too near the middle to be an end of the longest diameter."""
    world = points @ steps.T
    out = np.linalg.norm(world - world.mean(axis=0), axis=1)
    start = world[int(out.argmax())]
    at_least = float(np.linalg.norm(world - start, axis=1).max())
    return np.asarray(points[out + out.max() >= at_least - slack - 1e-9 * at_least])


def _far_apart(world: Points, slack: float) -> npt.NDArray[np.int_]:
    """Return the pairs of points that are as far apart as any two, less ``slack``, as an array (N, 2) of indices."""
    from scipy.spatial.distance import cdist

    starts = range(0, len(world), _ROWS)
    longest = max(float(cdist(world[at : at + _ROWS], world[at:]).max()) for at in starts)
    limit = longest - slack - 1e-9 * longest
    found = [np.argwhere(cdist(world[at : at + _ROWS], world[at:]) >= limit) + at for at in starts]
    return np.concatenate(found)
