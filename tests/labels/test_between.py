from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.labels.between import interpolate_slices
from napari_llm4seg.labels.cleanup import Hooks
from napari_llm4seg.labels.size import Scale

PIXELS = Scale.pixels(3)
SPACINGS = st.sampled_from([(1.0, 1.0), (1.0, 0.5), (0.7, 1.4)])


def disc(shape, centre, radius, spacing=(1.0, 1.0)):
    y, x = (np.arange(size) * step for size, step in zip(shape, spacing, strict=True))
    return (y[:, None] - centre[0]) ** 2 + (x[None] - centre[1]) ** 2 <= radius**2


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 12), st.integers(14, 28), st.integers(2, 7), SPACINGS)
def test_a_growing_disc_grows_linearly(small, large, steps, spacing):
    shape = (int(64 / spacing[0]) + 1, int(64 / spacing[1]) + 1)
    labels = np.zeros((steps + 1, *shape), np.uint8)
    labels[0], labels[-1] = disc(shape, (32, 32), small, spacing), disc(shape, (32, 32), large, spacing)
    done = interpolate_slices(labels, 1, Scale((5.0, *spacing), 1.0, "mm"))
    for z in range(1, steps):
        radius = small + (large - small) * z / steps
        found = np.sqrt(np.count_nonzero(done.labels[z]) * spacing[0] * spacing[1] / np.pi)
        assert found == pytest.approx(radius, abs=0.6)
    assert np.array_equal(done.labels[[0, -1]], labels[[0, -1]])
    assert done.words.startswith(f"filled {steps - 1} slice")


def test_a_slanting_vessel_keeps_its_width():
    labels = np.zeros((9, 60, 60), np.uint8)
    labels[0], labels[8] = disc((60, 60), (12, 12), 6), disc((60, 60), (44, 28), 6)
    done = interpolate_slices(labels, 1, PIXELS)
    for z in range(1, 8):
        expected = disc((60, 60), (12 + 4 * z, 12 + 2 * z), 6)
        common = np.count_nonzero(expected & (done.labels[z] == 1))
        assert 2 * common / (np.count_nonzero(expected) + np.count_nonzero(done.labels[z])) > 0.97


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_along_any_axis(axis):
    labels = np.zeros((5, 40, 40), np.uint8)
    labels[0], labels[4] = disc((40, 40), (20, 20), 8), disc((40, 40), (20, 20), 12)
    along = interpolate_slices(labels, 1, PIXELS).labels
    turned = interpolate_slices(np.moveaxis(labels, 0, axis).copy(), 1, PIXELS, axis).labels
    assert np.array_equal(np.moveaxis(turned, axis, 0), along)


def test_only_empty_slices_between_drawn_ones_are_filled_and_others_keep_theirs():
    labels = np.zeros((9, 30, 30), np.uint8)
    for z in (2, 4, 6):
        labels[z] = disc((30, 30), (15, 15), 6)
    labels[3, 10:20, 10:15] = 2
    done = interpolate_slices(labels, 1, PIXELS)
    assert not done.labels[[0, 1, 7, 8]].any()
    assert np.array_equal(done.labels == 2, labels == 2)
    assert np.array_equal(done.labels[[2, 4, 6]], labels[[2, 4, 6]])
    assert (done.labels[3, 15, 16:20] == 1).all()
    assert np.array_equal(done.labels[5], labels[4])
    assert done.changed == np.count_nonzero(done.labels != labels)
    outside = np.ones(labels.shape, bool)
    outside[done.box] = False
    assert np.array_equal(done.labels[outside], labels[outside])


def test_two_branches_stay_two():
    labels = np.zeros((4, 40, 40), np.uint8)
    for z in (0, 3):
        labels[z] = disc((40, 40), (20, 8), 5) | disc((40, 40), (20, 30), 5)
    done = interpolate_slices(labels, 1, PIXELS)
    assert np.array_equal(done.labels[1], labels[0])


def test_a_shape_that_is_cut_off_by_the_edge_is_filled_up_to_it():
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[0, :10], labels[2, :10] = 1, 1
    assert np.array_equal(interpolate_slices(labels, 1, PIXELS).labels[1], labels[0])


def test_what_cannot_be_filled():
    labels = np.zeros((5, 20, 20), np.uint8)
    labels[2, 5:9, 5:9] = 1
    with pytest.raises(InputError, match="at least two"):
        interpolate_slices(labels, 1, PIXELS)
    with pytest.raises(InputError, match="one slice"):
        interpolate_slices(labels[2], 1, Scale.pixels(2))
    labels[3] = labels[2]
    assert interpolate_slices(labels, 1, PIXELS).changed == 0
    labels[0] = labels[2]
    with pytest.raises(Cancelled):
        interpolate_slices(labels, 1, PIXELS, hooks=Hooks(cancel=lambda: True))
