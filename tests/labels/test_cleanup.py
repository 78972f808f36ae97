"""Clean-up on made shapes with known answers, and what holds for any label map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.labels.cleanup import (
    Hooks,
    Scattered,
    box_of,
    fill_holes,
    keep_largest,
    remove_islands,
    scattered,
    smooth,
)
from napari_llm4seg.labels.size import Scale

MM = Scale((2.0, 0.5, 0.5), 0.5, "mm")
shapes = array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=7)
maps = arrays(np.uint8, shapes, elements=st.integers(0, 2)).filter(lambda labels: (labels == 1).any())


def scale_of(labels):
    return Scale.pixels(labels.ndim)


def three_islands():
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[1:4, 2:8, 2:8] = 1  # 108 voxels, 54 mm³
    labels[5, 15:17, 15:17] = 1  # 4 voxels, 2 mm³
    labels[0, 12, 12] = 1  # 1 voxel, 0.5 mm³
    labels[2, 12:14, 12:14] = 2
    return labels


def test_the_box_is_tight_and_stops_at_the_edge():
    labels = three_islands()
    assert box_of(labels, 2) == (slice(2, 3), slice(12, 14), slice(12, 14))
    assert box_of(labels, 1) == (slice(0, 6), slice(2, 17), slice(2, 17))
    assert box_of(labels, 2, (5, 1, 7)) == (slice(0, 6), slice(11, 15), slice(5, 20))
    with pytest.raises(InputError, match="label 9"):
        box_of(labels, 9)


def test_the_largest_piece_is_kept():
    done = keep_largest(three_islands(), 1, MM)
    assert np.count_nonzero(done.labels == 1) == 108
    assert (done.labels[2, 12:14, 12:14] == 2).all()
    assert (done.changed, done.words) == (5, "removed 2 pieces, 2.5 mm³")


def test_several_classes_keep_their_own_largest_piece_in_one_step():
    labels = three_islands()
    labels[4, 0, 0:3] = 2
    done = keep_largest(labels, [1, 2], MM)
    assert np.count_nonzero(done.labels == 1) == 108
    assert np.count_nonzero(done.labels == 2) == 4
    assert (done.changed, done.words) == (8, "removed 3 pieces, 4 mm³")
    changed = np.argwhere(done.labels != labels)
    assert all(
        part.start <= axis.min() and axis.max() < part.stop for part, axis in zip(done.box, changed.T, strict=True)
    )
    assert keep_largest(labels, [2], MM).changed == 3


def blocks(*sizes):
    """A stack with a block of each size in voxels, apart from one another."""
    labels = np.zeros((2 * len(sizes), 40, 40), np.uint8)
    for at, size in enumerate(sizes):
        labels[2 * at].ravel()[:size] = 1
    return labels


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((930, 40, 20, 10), [Scattered(1, 4, 0.93)]),  # an organ and false pieces
        ((600, 100, 100, 100, 100), [Scattered(1, 5, 0.6)]),
        ((590, 110, 100, 100, 100), []),  # scattered all over: who knows which piece is right
        ((500, 500), []),  # two kidneys
        ((800, 200), []),  # a kidney and a shrunken one
        ((850, 150), [Scattered(1, 2, 0.85)]),
        ((1000,), []),
        ((1000, 4), []),  # not worth a word
        ((), []),
    ],
)
def test_false_pieces_are_told_from_two_of_a_kind(sizes, said):
    labels = blocks(*sizes) if sizes else np.zeros((2, 3, 3), np.uint8)
    assert scattered(labels, [1, 2]) == said


def test_looking_for_pieces_can_be_stopped():
    with pytest.raises(Cancelled):
        scattered(blocks(100, 5), [1], Hooks(cancel=lambda: True))


def test_corners_hold_a_piece_together():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = 1
    assert keep_largest(labels, 1, MM).changed == 0


@pytest.mark.parametrize(("smallest", "left"), [(0.5, 113), (0.6, 112), (2.0, 112), (2.1, 108), (54, 108), (55, 0)])
def test_islands_are_measured_in_mm(smallest, left):
    done = remove_islands(three_islands(), 1, MM, smallest)
    assert np.count_nonzero(done.labels == 1) == left


def test_islands_of_a_slice_are_measured_in_its_area():
    plane = three_islands()[5]
    assert remove_islands(plane, 1, Scale((0.5, 0.5), 0.25, "mm"), 1.0).changed == 0
    assert remove_islands(plane, 1, Scale((0.5, 0.5), 0.25, "mm"), 1.1).words == "removed 1 island, 1.0 mm²"
    assert remove_islands(plane, 1, Scale.pixels(2), 5).words == "removed 1 island, 4 pixels"


def test_a_shell_is_filled_but_not_its_core_of_another_class():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[3:6, 3:6, 3:6] = 0
    labels[4, 4, 4] = 2
    done = fill_holes(labels, 1, MM)
    assert np.count_nonzero(done.labels == 1) == 7**3 - 1
    assert done.labels[4, 4, 4] == 2
    assert (done.changed, done.words) == (26, "filled 1 hole, 13 mm³")


def test_a_tunnel_and_a_notch_at_the_edge_are_no_holes_but_a_ring_in_a_slice_is():
    labels = np.ones((5, 7, 7), np.uint8)
    labels[:, 3, 3] = 0
    assert fill_holes(labels, 1, MM).changed == 0
    assert fill_holes(labels[2], 1, Scale.pixels(2)).changed == 1


def test_smoothing_takes_off_a_spike_fills_a_dent_and_keeps_the_size():
    labels = np.zeros((1, 60, 60), np.uint8)[0]
    labels[15:45, 15:45] = 1
    labels[30, 45:52] = 1
    labels[25, 10:18] = 0
    labels[25, 15:18] = 0
    done = smooth(labels, 1, Scale((1.0, 1.0), 1.0, "mm"), 2.0)
    assert abs(np.count_nonzero(done.labels) - np.count_nonzero(labels)) <= 4
    assert not done.labels[30, 47:].any()
    assert done.labels[25, 17] == 1
    assert done.labels[30, 30] == 1


def test_a_smooth_ball_of_anisotropic_voxels_stays_a_ball():
    z, y, x = np.ogrid[-7:8, -28:29, -28:29]
    ball = ((2 * z) ** 2 + (0.5 * y) ** 2 + (0.5 * x) ** 2 <= 12**2).astype(np.uint8)
    done = smooth(ball, 1, MM, 1.0)
    assert np.count_nonzero(done.labels) == pytest.approx(np.count_nonzero(ball), abs=40)
    assert np.count_nonzero(done.labels != ball) < 0.02 * np.count_nonzero(ball)


def test_smoothing_opens_no_gap_between_neighbours():
    labels = np.zeros((40, 40), np.uint8)
    labels[5:35, 5:20], labels[5:35, 20:35] = 1, 2
    done = smooth(labels, 1, Scale.pixels(2), 2.0)
    assert (done.labels[10:30, 19] == 1).all()
    assert np.array_equal(done.labels == 2, labels == 2)


def test_smoothing_of_nothing_is_refused():
    with pytest.raises(InputError, match="above 0"):
        smooth(three_islands(), 1, MM, 0.0)


STEPS = (
    lambda labels, hooks=None: keep_largest(labels, 1, scale_of(labels), hooks),
    lambda labels, hooks=None: fill_holes(labels, 1, scale_of(labels), hooks),
    lambda labels, hooks=None: remove_islands(labels, 1, scale_of(labels), 3, hooks),
    lambda labels, hooks=None: smooth(labels, 1, scale_of(labels), 0.8, hooks),
)


@given(maps, st.sampled_from(STEPS))
def test_other_classes_the_input_and_what_lies_outside_the_box_stay(labels, step):
    before = labels.copy()
    done = step(labels)
    assert np.array_equal(labels, before)
    assert np.array_equal(done.labels == 2, labels == 2)
    assert set(np.unique(done.labels)) <= {0, 1, 2}
    assert done.labels.dtype == labels.dtype
    assert done.changed == np.count_nonzero(done.labels != labels)
    outside = np.ones(labels.shape, bool)
    outside[done.box] = False
    assert np.array_equal(done.labels[outside], labels[outside])


@given(maps)
def test_the_largest_piece_is_one_and_stays(labels):
    once = keep_largest(labels, 1, scale_of(labels)).labels
    again = keep_largest(once, 1, scale_of(labels))
    assert np.array_equal(again.labels, once)
    assert again.changed == 0
    assert not ((once == 1) & (labels != 1)).any()


@given(maps, st.integers(0, 8))
def test_removed_islands_leave_what_is_large(labels, smallest):
    once = remove_islands(labels, 1, scale_of(labels), smallest).labels
    if not (once == 1).any():
        return
    assert remove_islands(once, 1, scale_of(labels), smallest).changed == 0
    assert np.count_nonzero(keep_largest(once, 1, scale_of(labels)).labels == 1) >= smallest


@given(maps)
def test_filling_never_removes_and_is_done_at_once(labels):
    once = fill_holes(labels, 1, scale_of(labels)).labels
    assert (once[labels != 0] == labels[labels != 0]).all()
    assert fill_holes(once, 1, scale_of(labels)).changed == 0


@given(maps)
def test_holes_are_scipys(labels):
    from scipy.ndimage import binary_fill_holes

    expected = np.where(binary_fill_holes(labels == 1) & (labels == 0), 1, labels)
    assert np.array_equal(fill_holes(labels, 1, scale_of(labels)).labels, expected)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_can_be_stopped_and_reports(step):
    said = []
    step(three_islands(), hooks=Hooks(progress=lambda done, total, message: said.append((done, total, message))))
    assert said[0][0] == 0
    assert all(done < total and message for done, total, message in said)
    with pytest.raises(Cancelled):
        step(three_islands(), hooks=Hooks(cancel=lambda: True))
