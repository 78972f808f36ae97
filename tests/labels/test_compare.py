from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.labels.cleanup import Hooks
from napari_llm4seg.labels.compare import compare, onto
from napari_llm4seg.volume import Volume, affine_from_spacing

SPACING = (2.0, 0.5, 1.0)
CLASSES = ((1, "liver", "#E69F00"), (2, "cyst", "#56B4E9"))


def box(start, stop, value=1, shape=(12, 40, 30)):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))] = value
    return labels


def volume(labels, affine=None, unit="mm", name="mask"):
    return Volume(
        labels[None], affine_from_spacing(SPACING) if affine is None else affine, "label", unit, name,
        {"classes": CLASSES},
    )  # fmt: skip


def turned(degrees=25.0):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag(SPACING)
    affine[:3, 3] = 4, -9, 30
    return affine


@pytest.mark.slow
def test_a_moved_box():
    labels, moved = box((3, 10, 8), (9, 30, 20)), box((3, 14, 8), (9, 34, 20))
    labels[0, 0, 0] = 2
    result = compare(volume(labels), volume(moved), 2.0)
    liver, cyst = result.classes
    # 20 rows moved by 4: 16 in common
    assert (liver.name, liver.dice, liver.iou) == ("liver", 16 / 20, 16 / 24)
    assert liver.hd95 == pytest.approx(2.0)
    assert liver.surface_dice == 1.0
    assert (cyst.name, cyst.dice, cyst.hd95, cyst.surface_dice, cyst.other_voxels) == ("cyst", 0.0, None, 0.0, 0)
    assert result.messages == ()
    (liver, _) = compare(volume(labels), volume(moved), 1.9).classes
    assert 0.3 < liver.surface_dice < 0.9
    assert liver.row()["hd95_mm"] == pytest.approx(2.0)


@pytest.mark.slow
def test_one_slice_is_compared_in_its_plane():
    labels, moved = box((3, 10, 8), (9, 30, 20))[4:5], box((3, 14, 8), (9, 34, 20))[4:5]
    (liver,) = compare(volume(labels), volume(moved), 2.0).classes
    assert (liver.dice, liver.hd95, liver.surface_dice) == (0.8, pytest.approx(2.0), 1.0)


@pytest.mark.slow
def test_the_same_in_another_orientation_is_the_same():
    labels = box((3, 10, 8), (9, 30, 20))
    labels[4, 15:18, 10:12] = 2
    affine = turned()
    flipped = affine.copy()
    flipped[:3, 3] += affine[:3, 1] * (labels.shape[1] - 1)
    flipped[:3, 1] *= -1
    other = volume(labels[:, ::-1].copy(), flipped, name="other")
    result = compare(volume(labels, affine), other, 1.0)
    assert [(item.dice, item.hd95, item.surface_dice) for item in result.classes] == [(1.0, 0.0, 1.0)] * 2
    assert "another grid" in result.messages[0]
    assert len(result.messages) == 1


@settings(max_examples=30, deadline=None)
@given(st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3), st.integers(0, 2**32 - 1))
def test_turned_axes_come_back_voxel_by_voxel(order, flips, seed):
    labels = np.random.default_rng(seed).integers(0, 4, (3, 5, 4)).astype(np.uint8)
    affine = turned()
    matrix, origin, data = affine[:3, :3].copy(), affine[:3, 3].copy(), labels
    for axis, flip in enumerate(flips):
        if flip:
            origin = origin + matrix[:, axis] * (labels.shape[axis] - 1)
            matrix[:, axis] *= -1
            data = np.flip(data, axis)
    there = np.eye(4)
    there[:3, :3], there[:3, 3] = matrix[:, order], origin
    found, _ = onto(volume(data.transpose(order).copy(), there), volume(labels, affine))
    assert np.array_equal(found, labels)


def test_a_finer_grid_is_read_at_the_nearest_voxel():
    coarse = np.random.default_rng(0).integers(0, 3, (4, 6, 5)).astype(np.uint8)
    fine = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    affine = affine_from_spacing((1, 1, 1))
    affine[:3, 3] = -1
    found, messages = onto(volume(fine, affine), volume(coarse, affine_from_spacing((3, 3, 3))))
    assert np.array_equal(found, coarse)
    assert len(messages) == 1
    back, _ = onto(volume(coarse, affine_from_spacing((3, 3, 3))), volume(fine, affine))
    assert np.array_equal(back, fine)


def test_what_lies_outside_is_said():
    affine = affine_from_spacing(SPACING)
    affine[0, 3] = 8.0  # four slices up: two of the box's six are beyond the last one
    found, messages = onto(
        volume(box((4, 10, 8), (10, 30, 20)), affine, name="other"), volume(box((0, 0, 0), (1, 1, 1)))
    )
    assert np.count_nonzero(found) == 4 * 20 * 12
    assert messages[1] == "33 % of 'other' lie outside of 'mask' and do not count."


def test_masks_of_different_places_or_sizes_are_refused():
    far = affine_from_spacing(SPACING)
    far[1, 3] = 500
    labels = box((3, 10, 8), (9, 30, 20))
    with pytest.raises(InputError, match="elsewhere in space"):
        compare(volume(labels), volume(labels, far), 1.0)
    with pytest.raises(InputError, match="of one size"):
        compare(volume(labels, unit="pixel"), volume(labels[:5]), 1.0)
    with pytest.raises(InputError, match="0 or more"):
        compare(volume(labels), volume(labels), -1)
    with pytest.raises(Cancelled):
        compare(volume(labels), volume(labels), 1, hooks=Hooks(cancel=lambda: True))


def test_two_empty_masks_have_no_class():
    empty = volume(np.zeros((2, 3, 4), np.uint8))
    assert compare(empty, empty, 1.0).classes == ()
