from __future__ import annotations

import dask.array
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.errors import InputError
from napari_llm4seg.volume import Prediction, Volume, affine_from_spacing

DATA = np.zeros((1, 2, 3, 4), dtype=np.uint8)


@given(st.tuples(*[st.floats(1e-7, 1e4)] * 3), st.floats(-3, 3))
def test_spacing_is_read_from_any_turned_affine(spacing: tuple[float, float, float], angle: float) -> None:
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume = Volume(DATA, turn @ affine_from_spacing(spacing))
    np.testing.assert_allclose(volume.spacing, spacing, rtol=1e-9)


@pytest.mark.parametrize(
    "affine",
    [np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan), np.ones((4, 4)), np.diag([1, 1, 0, 1.0])],
)
def test_a_grid_that_spans_no_space_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(InputError, match="no usable affine"):
        Volume(DATA, affine)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (1, 1, 1, 3, 4), (1, 0, 3, 4)])
def test_other_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"axes|empty"):
        Volume(np.zeros(shape))


def test_dask_slices_are_computed_one_by_one() -> None:
    asked: list[int] = []

    def load(block: np.ndarray, block_info: object = None) -> np.ndarray:
        asked.append(block.shape[1])
        return block

    lazy = dask.array.from_array(np.arange(24).reshape(1, 2, 3, 4), chunks=(1, 1, 3, 4)).map_blocks(load, dtype=int)
    volume = Volume(lazy)
    asked.clear()
    np.testing.assert_array_equal(volume.slice_at(1), np.arange(12, 24).reshape(1, 3, 4))
    assert asked == [1]
    assert (volume.channels, volume.grid, volume.n_slices) == (1, (2, 3, 4), 2)


def test_a_prediction_is_a_label_volume_on_the_same_grid() -> None:
    affine = affine_from_spacing((3, 2, 1))
    classes = ((1, "lesion", "#E69F00"),)
    prediction = Prediction(DATA[0], None, affine, "mm", "scan", classes, {"seconds": 1})
    volume = prediction.as_volume()
    assert (volume.kind, volume.unit, volume.spacing) == ("label", "mm", (3.0, 2.0, 1.0))
    assert volume.metadata == {"provenance": {"seconds": 1}, "classes": classes}


def test_a_volume_says_what_it_is_and_not_its_voxels() -> None:
    volume = Volume(np.zeros((1, 3, 40, 50), np.int16), affine_from_spacing((2.5, 0.7, 0.7)), unit="mm", name="ct")
    assert repr(volume) == "<Volume 'ct': intensity, 1 x 3 x 40 x 50 int16, 2.5 x 0.7 x 0.7 mm>"
