from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.distance import pdist

from napari_llm4seg.labels.diameter import longest_diameter

OBLIQUE = np.array([[2.0, 0.1, 0.0], [0.4, 0.8, -0.3], [0.0, 0.3, 0.7]])


def all_pairs(mask, steps):
    """The definition written out: every middle of every voxel's face."""
    centres = np.argwhere(mask).astype(float)
    halves = np.concatenate([np.eye(mask.ndim), -np.eye(mask.ndim)]) / 2
    points = (centres[:, None] + halves[None]).reshape(-1, mask.ndim) @ steps.T
    return float(pdist(points).max())


def test_a_voxel_is_as_long_as_its_longest_step():
    assert longest_diameter(np.ones((1, 1, 1), bool), np.diag([3.0, 0.5, 0.7])) == 3.0
    assert longest_diameter(np.ones((1, 1), bool), np.eye(3)[:, 1:] * 0.5) == 0.5


def test_a_rod_and_a_plate():
    rod = np.ones((1, 1, 11), bool)
    assert longest_diameter(rod, np.diag([1.0, 1.0, 0.5])) == 5.5
    # from the end of one row to the side of the opposite one
    plate = np.ones((1, 4, 4), bool)
    assert longest_diameter(plate[0], np.eye(3)[:, 1:]) == pytest.approx(math.hypot(4, 3))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.7, 0.7)])
def test_a_ball(spacing):
    reach = [int(20 / step) + 2 for step in spacing]
    z, y, x = np.ogrid[tuple(slice(-n, n + 1) for n in reach)]
    ball = (z * spacing[0]) ** 2 + (y * spacing[1]) ** 2 + (x * spacing[2]) ** 2 <= 400
    assert longest_diameter(ball, np.diag(spacing)) == pytest.approx(40, abs=max(spacing))


def test_structures_in_a_slanting_plane_or_line_of_the_grid():
    z, y, x = np.ogrid[:30, :30, :30]
    plane = np.broadcast_to(z + y == 29, (30, 30, 30)) & (x < 20)
    line = (z == y) & (y == x)
    for mask in (plane, line):
        assert longest_diameter(mask, OBLIQUE) == pytest.approx(all_pairs(mask, OBLIQUE))


@settings(max_examples=80, deadline=None)
@given(
    arrays(bool, array_shapes(min_dims=2, max_dims=3, max_side=6)).filter(lambda mask: mask.any()),
    arrays(float, (3, 3), elements=st.floats(-2, 2)).filter(lambda steps: abs(np.linalg.det(steps)) > 0.05),
)
def test_it_is_the_definition_written_out_on_any_grid(mask, steps):
    steps = steps[:, 3 - mask.ndim :]
    assert longest_diameter(mask, steps) == pytest.approx(all_pairs(mask, steps), rel=1e-6)
