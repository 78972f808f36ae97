from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from napari_llm4seg.metrics import diagonal, dice, dice_of_counts, hd95, iou, surface_dice

masks = arrays(bool, (5, 7))


def square(top: int, left: int, side: int = 4) -> np.ndarray:
    mask = np.zeros((20, 30), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_overlap_of_two_squares() -> None:
    # 4 x 4 squares moved by 1: 12 pixels in common, 20 in either
    assert iou(square(0, 0), square(0, 1)) == 12 / 20
    assert dice(square(0, 0), square(0, 1)) == 24 / 32


@pytest.mark.parametrize(("pred", "truth", "expected"), [(0, 0, 1.0), (0, 4, 0.0), (4, 0, 0.0), (4, 4, 1.0)])
def test_empty_masks(pred: int, truth: int, expected: float) -> None:
    assert iou(square(0, 0, pred), square(0, 0, truth)) == expected
    assert dice(square(0, 0, pred), square(0, 0, truth)) == expected


def test_dice_of_counts_of_slices_together_and_each_for_itself() -> None:
    hits, said, true = [[40, 3], [0, 5], [0, 0]], [[50, 4], [1, 5], [0, 2]], [[60, 6], [0, 5], [0, 0]]
    assert dice_of_counts(hits, said, true) == pytest.approx([(80 / 111 + 16 / 22) / 2])
    assert dice_of_counts(hits, said, true, alone=True) == pytest.approx([((80 / 110 + 6 / 10) / 2 + 1) / 2])
    twice = dice_of_counts(hits, said, true, weights=[[2, 1, 0], [0, 0, 3]])
    assert twice[0] == pytest.approx((160 / 221 + 22 / 30) / 2)
    assert math.isnan(twice[1])


@given(pred=masks, truth=masks)
def test_dice_follows_from_iou_and_both_are_symmetric(pred: np.ndarray, truth: np.ndarray) -> None:
    j = iou(pred, truth)
    assert dice(pred, truth) == pytest.approx(2 * j / (1 + j))
    assert (j, dice(pred, truth)) == (iou(truth, pred), dice(truth, pred))
    assert iou(pred, pred) == dice(pred, pred) == 1.0


def test_numbers_count_as_masks_and_shapes_must_agree() -> None:
    assert iou(square(0, 0).astype(np.uint8) * 255, square(0, 0).astype(float)) == 1.0
    with pytest.raises(ValueError, match="differ in shape"):
        dice(np.zeros((1, 3)), np.zeros((3, 1)))


def test_distance_without_structures() -> None:
    nothing = square(0, 0, 0)
    assert hd95(nothing, nothing, (1, 1)) == 0.0
    assert hd95(nothing, square(0, 0), (0.5, 2)) == hd95(square(0, 0), nothing, (0.5, 2))
    assert hd95(nothing, square(0, 0), (0.5, 2)) == math.hypot(19 * 0.5, 29 * 2) == diagonal((20, 30), (0.5, 2))


@pytest.mark.slow
def test_distance_of_a_moved_line_is_its_move_in_the_spacings_unit() -> None:
    first, second = np.zeros((20, 30), dtype=bool), np.zeros((20, 30), dtype=bool)
    first[5, 4:24], second[9, 4:24] = True, True
    assert hd95(first, second, (1, 1)) == 4.0
    assert hd95(first, second, (0.25, 1)) == 1.0
    assert hd95(first, first, (1, 1)) == 0.0
    volumes = [np.stack([mask, mask, mask]) for mask in (first, second)]
    assert hd95(volumes[0], volumes[1], (3, 0.5, 0.5)) == 2.0


@pytest.mark.slow
@pytest.mark.parity
def test_distance_is_the_surfaces_percentile() -> None:
    """Against all surface distances written out."""
    from scipy.ndimage import binary_erosion
    from scipy.spatial.distance import cdist

    a, b = square(2, 3, 6), square(5, 9, 9)
    edges = [np.argwhere(mask & ~binary_erosion(mask)) * (0.7, 1.3) for mask in (a, b)]
    distances = cdist(*edges)
    expected = max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))
    assert hd95(a, b, (0.7, 1.3)) == pytest.approx(expected, rel=1e-5)


def test_surface_dice_without_structures() -> None:
    nothing = square(0, 0, 0)
    assert surface_dice(nothing, nothing, (1, 1), 1.0) == 1.0
    assert surface_dice(nothing, square(0, 0), (1, 1), 1.0) == surface_dice(square(0, 0), nothing, (1, 1), 1.0) == 0.0


@pytest.mark.slow
def test_surface_dice_of_a_moved_square_is_its_sides_share() -> None:
    """Of a square of 10 moved by 2 along x, both surfaces agree but for the sides that moved."""
    a, b = square(5, 5, 10), square(5, 7, 10)
    assert surface_dice(a, b, (1, 1), 2.0) == 1.0
    assert surface_dice(a, b, (1, 0.5), 1.0) == 1.0
    # the moved sides are half of the outline; those along the move lie on the other's, less 2 of 10 at their ends
    assert surface_dice(a, b, (1, 1), 0.5) == pytest.approx((2 * 8) / 40, abs=0.06)
    assert surface_dice(a, a, (3, 1), 0.0) == 1.0
