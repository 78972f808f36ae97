"""Slices by the body's directions, whatever way the scan is stored."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.config import Plane
from napari_llm4seg.planes import PLANES, said_of_plane, slice_axis, turned, upright_axes
from napari_llm4seg.volume import Volume

ORDERS = list(itertools.permutations(range(3)))


def volume(matrix: Any, unit: Any = "mm", shape: tuple[int, ...] = (4, 5, 6)) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    return Volume(np.arange(np.prod(shape), dtype=np.int16).reshape(1, *shape), affine, unit=unit)


def turn(degrees: float) -> np.ndarray:
    """Return a turn in the plane of superior and posterior."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


@given(order=st.sampled_from(ORDERS), signs=st.tuples(*[st.sampled_from([-1, 1])] * 3), tilt=st.floats(-40, 40))
def test_planes_follow_the_affine(order: Any, signs: Any, tilt: float) -> None:
    stored = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        stored[world, axis] = sign * (axis + 0.5)
    scan = volume(turn(tilt) @ stored)
    axes, flipped = upright_axes(scan)
    for world, plane in enumerate(("axial", "coronal", "sagittal")):
        assert slice_axis(scan, plane) == axes[world] == order.index(world)
        assert flipped[world] == (signs[axes[world]] < 0)
    assert slice_axis(scan, "stored") == 0
    assert slice_axis(volume(stored, shape=(1, 5, 6)), "coronal") == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_turned_volume_lies_where_it_lay(axis: int) -> None:
    scan = volume(turn(20) @ np.diag([3, 2, 1.0]))
    seen = turned(scan, axis)
    np.testing.assert_array_equal(seen.data[0], np.moveaxis(scan.data[0], axis, 0))
    index = np.array([1, 2, 3])
    moved = [index[axis], *np.delete(index, axis)]
    np.testing.assert_allclose(seen.affine @ [*moved, 1], scan.affine @ [*index, 1])
    assert np.shares_memory(seen.data, scan.data)


@pytest.mark.parametrize(
    ("matrix", "unit", "plane", "words"),
    [
        (np.eye(3), "mm", "coronal", []),
        (np.eye(3), "mm", "stored", []),
        (turn(30), "mm", "stored", []),
        (turn(30), "mm", "axial", ["at an angle: its slices nearest to axial were taken, 30 degrees"]),
        (turn(30), "mm", "sagittal", []),
        (np.eye(3), "pixel", "sagittal", ["does not say how it lies", "along its x axis were taken as sagittal"]),
    ],
)
def test_what_is_not_plain_is_said(matrix: Any, unit: str, plane: Plane, words: list[str]) -> None:
    said = " ".join(said_of_plane(volume(matrix, unit), plane))
    assert all(part in said for part in words)
    assert bool(said) == bool(words)
    assert said_of_plane(volume(matrix, unit, (1, 5, 6)), plane) == []
    assert plane in PLANES
