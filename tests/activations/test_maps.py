"""Activation maps and their overlap, on maps made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_llm4seg.activations import activation_auc, activation_iou, activation_map, grow
from napari_llm4seg.activations.maps import cut
from napari_llm4seg.errors import InputError


def test_the_map_is_the_mean_of_absolutes() -> None:
    features = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.0]]]])
    assert activation_map(features).tolist() == [[[2.0, 1.0]]]


@pytest.mark.parametrize("grid", [(2, 3), (2, 3, 2)])
def test_grown_maps_cover_the_image(grid: tuple[int, ...]) -> None:
    maps = torch.rand(2, *grid)
    padded, image = tuple(4 * side for side in grid), tuple(4 * side - 1 for side in grid)
    values = grow(maps, padded, image)
    assert values.shape == (2, *image)
    mode = "bilinear" if len(grid) == 2 else "trilinear"
    whole = F.interpolate(maps[:, None], padded, mode=mode)[:, 0].numpy()
    assert np.array_equal(values, whole[(slice(None), *(slice(side) for side in image))])
    corners = (0,) * len(grid)
    assert values[(0, *corners)] == pytest.approx(float(maps[(0, *corners)]))


def test_a_cell_lights_up_where_it_lies() -> None:
    maps = torch.zeros(1, 4, 4)
    maps[0, 1, 2] = 1
    values = grow(maps, (32, 32), (32, 32))[0]
    assert np.array_equal(np.unravel_index(values.argmax(), values.shape), (11, 19))
    assert not values[24:].any()


def test_half_the_range() -> None:
    assert cut([[1.0, 3.0], [2.0, 5.0]]).tolist() == [[False, True], [False, True]]
    assert not cut(np.ones((2, 2))).any()


def test_as_many_pixels_as_the_structure() -> None:
    assert cut([1.0, 5.0, 5.0, 2.0], "matched", 1).tolist() == [False, True, False, False]
    assert cut([1.0, 5.0, 5.0, 2.0], "matched", 3).tolist() == [False, True, True, True]


def test_overlap_by_hand() -> None:
    values = np.asarray([[0.0, 1.0, 1.0, 0.6], [0.0, 0.0, 0.0, 0.2]])
    truth = np.asarray([[0, 0, 255, 255], [0, 0, 0, 255]])
    assert activation_iou(values, truth) == 2 / 4  # three strong pixels, two of them in the structure of three
    assert activation_iou(values, truth, "matched") == 2 / 4
    # of 3 x 5 pairs: 1.0 beats four and ties one, 0.6 and 0.2 beat four each
    assert activation_auc(values, truth) == pytest.approx((4.5 + 4 + 4) / 15)


def test_the_structure_itself_is_found_and_its_negative_is_told_apart() -> None:
    truth = np.zeros((3, 8, 8))
    truth[1, 2:5, 3:6] = 1
    assert activation_iou(truth, truth) == activation_iou(truth, truth, "matched") == activation_auc(truth, truth) == 1
    assert activation_auc(1 - truth, truth) == 0
    assert activation_auc(np.ones_like(truth), truth) == 0.5


@pytest.mark.parametrize("measure", [activation_iou, activation_auc])
@pytest.mark.parametrize(
    ("values", "truth", "words"),
    [
        (np.ones((2, 2)), np.zeros((2, 2)), "empty"),
        (np.ones((2, 2)), np.ones((2, 3)), r"\(2, 3\)"),
        (np.full((2, 2), np.nan), np.eye(2), "NaN"),
    ],
)
def test_what_cannot_be_compared(measure, values, truth, words: str) -> None:
    with pytest.raises(InputError, match=words):
        measure(values, truth)


def test_without_background_there_is_no_auc() -> None:
    with pytest.raises(InputError, match="whole image"):
        activation_auc(np.eye(2), np.ones((2, 2)))


def test_axes_that_cannot_be_grown() -> None:
    with pytest.raises(InputError, match="2 or 3 axes"):
        grow(torch.rand(1, 4), (8,), (8,))
    with pytest.raises(InputError, match="2 or 3 axes"):
        grow(torch.rand(1, 4, 4), (8, 8, 8), (8, 8, 8))
