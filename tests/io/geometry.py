"""Grids as scanners give them, for round trips through files."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from napari_llm4seg.volume import Volume

CLASSES = ((1, "liver", "#E69F00"), (2, "left kidney", "#56B4E9"), (7, "Läsion 3", "#0072B2"))


def oblique(seed: int, spacing: tuple[float, float, float], flipped: bool) -> npt.NDArray[np.float64]:
    """Return a (z, y, x) to (superior, posterior, left) affine of a turned, anisotropic grid, mirrored if asked."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if (np.linalg.det(turn) < 0) != flipped:
        turn[:, 0] = -turn[:, 0]
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


def corners(shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """Return the eight corner voxels of a grid as homogeneous indices (4, 8)."""
    picks = [(z, y, x, 1.0) for z in (0, shape[0] - 1) for y in (0, shape[1] - 1) for x in (0, shape[2] - 1)]
    return np.array(picks, dtype=np.float64).T


def labels_on(affine: npt.NDArray[np.float64], shape: tuple[int, int, int], seed: int = 0) -> Volume:
    """Return a label volume with classes 1, 2 and 7, the last of which stays empty."""
    values = np.random.default_rng(seed).integers(0, 3, (1, *shape)).astype(np.uint8)
    return Volume(values, affine, kind="label", unit="mm", name="made", metadata={"classes": CLASSES})


GRIDS = st.builds(
    oblique,
    st.integers(0, 2**31),
    st.tuples(*[st.floats(0.05, 9)] * 3),
    st.booleans(),
)
SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 7), st.integers(2, 7))
