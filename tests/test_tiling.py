from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.tiling import Blend, Tiling, gaussian_weights, tile_starts

overlaps = st.floats(0.0, 0.9)


@pytest.mark.parametrize(
    ("length", "patch", "overlap", "expected"),
    [
        (8, 8, 0.5, [0]),
        (16, 8, 0.5, [0, 4, 8]),
        (16, 8, 0.0, [0, 8]),
        (17, 8, 0.0, [0, 4, 9]),
        (9, 8, 0.5, [0, 1]),
    ],
)
def test_starts(length: int, patch: int, overlap: float, expected: list[int]) -> None:
    assert tile_starts(length, patch, overlap) == expected


@given(length=st.integers(1, 500), patch=st.integers(1, 100), overlap=overlaps)
def test_starts_cover_and_overlap_as_asked(length: int, patch: int, overlap: float) -> None:
    starts = tile_starts(length, patch, overlap)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    if length > patch:
        assert starts[-1] == length - patch
        largest_step = max(b - a for a, b in itertools.pairwise(starts))
        # even spreading rounds each start, so a step may exceed the asked-for one by less than a pixel
        assert largest_step <= max(1, int(patch * (1 - overlap))) + 1
        assert largest_step <= patch


def grids(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of a slice or volume, and a patch."""
    axes = draw(st.sampled_from([2, 3]))
    longest = 45 if axes == 2 else 15
    return draw(st.tuples(*[st.integers(1, longest)] * axes)), draw(st.tuples(*[st.integers(1, longest // 2)] * axes))


@settings(deadline=None)
@given(grid=st.composite(grids)(), overlap=overlaps, seed=st.integers(0, 99))
def test_identity_returns_its_input_at_any_shape(grid: tuple[Any, Any], overlap: float, seed: int) -> None:
    shape, patch = grid
    image = np.random.default_rng(seed).random((2, *shape), dtype=np.float32)
    tiling = Tiling(shape, patch, overlap)
    padded = tiling.pad(image)
    blend = Blend(tiling, 2)
    order = np.random.default_rng(seed).permutation(len(tiling))
    for first in range(0, len(tiling), 5):
        numbers = order[first : first + 5].tolist()
        tiles = tiling.tiles(padded, numbers)
        assert tiles.shape[1:] == (2, *patch)
        blend.add(numbers, tiles)
    np.testing.assert_allclose(blend.result(), image, atol=1e-5)
    part = tuple(slice(size // 3, size) for size in shape)
    np.testing.assert_array_equal(blend.result(part), blend.result()[(slice(None), *part)])


@settings(deadline=None)
@given(grid=st.composite(grids)(), overlap=overlaps)
def test_every_pixel_is_covered(grid: tuple[Any, Any], overlap: float) -> None:
    shape, patch = grid
    tiling = Tiling(shape, patch, overlap)
    count = np.zeros(tiling.pad(np.zeros((1, *shape), dtype=np.float32)).shape, dtype=int)
    for number in range(len(tiling)):
        count[tiling.window(number)] += 1
    assert count.min() >= 1
    assert count.sum() == len(tiling) * np.prod(patch), "no tile sticks out"


def test_blend_is_the_weighted_mean() -> None:
    tiling = Tiling((1, 6), (1, 4), 0.5)
    assert tiling.corners == [(0, 0), (0, 2)]
    blend = Blend(tiling, 1)
    blend.add([0, 1], np.stack([np.zeros((1, 1, 4)), np.ones((1, 1, 4))]).astype(np.float32))
    weights = gaussian_weights((1, 4))[0]
    expected = [0, 0, weights[0] / (weights[0] + weights[2]), weights[1] / (weights[1] + weights[3]), 1, 1]
    np.testing.assert_allclose(blend.result()[0, 0], expected, rtol=1e-6)


def test_weights_peak_at_the_centre_and_never_vanish() -> None:
    weights = gaussian_weights((9, 65))
    assert weights.max() == weights[4, 32] == 1.0
    assert weights.min() == np.float32(1e-3)
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])


def test_weights_of_a_volume_are_the_product_of_its_axes() -> None:
    weights = gaussian_weights((5, 7, 9))
    assert weights.shape == (5, 7, 9)
    assert weights[2, 3, 4] == 1.0
    np.testing.assert_allclose(weights[2], np.maximum(gaussian_weights((7, 9)), 1e-3), rtol=1e-6)


def test_small_slices_are_reflected_evenly() -> None:
    padded = Tiling((1, 3), (3, 6), 0.5).pad(np.array([[[1, 2, 3]]], dtype=np.float32))
    np.testing.assert_array_equal(padded[0], [[2, 1, 2, 3, 2, 1]] * 3)
