from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image

from napari_llm4seg.gui import grid
from napari_llm4seg.gui.grid import SliceGrid


@given(lead=st.lists(st.integers(1, 3), max_size=2), space=st.tuples(*[st.integers(1, 4)] * 3), axis=st.integers(0, 2))
def test_slices_counted_through_all_frames_are_each_there_once(lead, space, axis):
    shape = (*lead, *space)
    slices = SliceGrid(shape, axis)
    assert len(slices) == int(np.prod(lead, dtype=int)) * space[axis]
    counts = np.zeros(shape, int)
    for number in range(len(slices)):
        counts[slices.index(number)] += 1
        frame, at = divmod(number, slices.per_frame)
        np.testing.assert_array_equal(counts[slices.index(number)], np.take(counts[slices.frame(frame)], at, axis=axis))
        rows, columns = np.nonzero(counts[slices.index(number)])
        marked = np.zeros(shape, bool)
        marked[slices.where(number, rows, columns)] = True
        assert marked[slices.index(number)].all()
        assert np.count_nonzero(marked) == marked[slices.index(number)].size
    assert (counts == 1).all()


def test_one_image_is_one_slice():
    slices = SliceGrid((4, 5))
    assert (len(slices), slices.frames, slices.index(0)) == (1, 1, ())


@pytest.mark.parametrize(
    ("shape", "labels", "words", "kind", "stack"),
    [
        ((4, 3, 8, 8), ("t", "z", "y", "x"), "4 time points", "time point", ""),
        ((2, 4, 3, 8, 8), ("c", "t", "z", "y", "x"), "2 channels × 4 time points", "frame", ""),
        ((1, 4, 3, 8, 8), ("c", "t", "z", "y", "x"), "4 time points", "time point", ""),
        ((4, 3, 8, 8), None, "4 frames", "frame", ""),
        ((3, 8, 8), ("c", "y", "x"), "", "frame", "channel"),
        ((3, 8, 8), None, "", "frame", ""),
        ((8, 8), None, "", "frame", ""),
    ],
)
def test_what_frames_are(shape, labels, words, kind, stack):
    layer = Image(np.zeros(shape), axis_labels=labels)
    assert (grid.frames_in_words(layer), grid.frame_kind(layer), grid.stack_of(layer)) == (words, kind, stack)
    assert grid.n_slices(layer) == (3 if len(shape) > 2 else 1)


def test_what_is_on_show_along_any_axis():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((4, 3, 8, 9)), scale=(1, 3, 1, 1))
    viewer.dims.set_current_step((0, 1, 2), (3, 2, 5))
    assert grid.on_show(viewer, layer) == (3, 2)
    assert grid.on_show(viewer, layer, 1) == (3, 5)
    flat = viewer.add_image(np.zeros((8, 9)))
    assert grid.on_show(viewer, flat) == (0, 0)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("degrees", [0, 7, 20])
def test_the_slice_on_show_of_a_tilted_scan_is_the_one_that_napari_draws(degrees):
    viewer = ViewerModel()
    turn = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[3 * np.cos(turn), -np.sin(turn)], [3 * np.sin(turn), np.cos(turn)]]
    affine[:3, 3] = -40, 25, 10
    layer = viewer.add_image(np.arange(1.0, 9)[:, None, None] * np.ones((8, 32, 32)), affine=affine)
    seen = 0
    for step in range(12):
        viewer.dims.set_point(0, float(affine[0, 3] + 2.9 * step - 10))
        drawn = np.unique(layer._slice.image.raw)
        if drawn.size == 1 and drawn[0] > 0:
            assert grid.on_show(viewer, layer)[1] == drawn[0] - 1
            seen += 1
    assert seen >= 4
