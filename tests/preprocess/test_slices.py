from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.errors import InputError
from napari_llm4seg.preprocess import Preprocessor
from napari_llm4seg.volume import Volume


def preprocessor(**config: Any) -> Preprocessor:
    n = 1 if config.get("channels", "grey") == "grey" else 3
    return Preprocessor(PreprocessConfig.model_validate({"mean": (0.0,) * n, "sd": (1.0,) * n} | config))


def volume(values: Any, dtype: Any = None) -> Volume:
    """Return rows of numbers (Y, X) or channels of them (C, Y, X) as a scan of one slice."""
    data = np.asarray(values, dtype=dtype)
    return Volume(data[None, None] if data.ndim == 2 else data[:, None])


ROW = [[0, 51, 102, 255]]


@pytest.mark.parametrize(
    ("config", "values", "dtype", "expected"),
    [
        ({"intensity": "uint8"}, ROW, np.uint8, [0, 0.2, 0.4, 1]),
        ({"intensity": "uint8"}, [[51, 102]], np.uint8, [0.2, 0.4]),
        ({"intensity": "uint8"}, [[51, 102]], np.int32, [0.2, 0.4]),
        ({"intensity": "uint8"}, [[0.2, 0.4]], np.float32, [0.2, 0.4]),
        ({"intensity": "uint8"}, [[0, 100, 1000]], np.uint16, [0, 0.1, 1]),
        ({"intensity": "uint8"}, [[-100, 0, 100]], np.int16, [0, 0.5, 1]),
        ({"intensity": "uint8"}, [[False, True]], bool, [0, 1]),
        ({"intensity": "minmax"}, [[10, 20, 60]], np.uint8, [0, 0.2, 1]),
        ({"intensity": "minmax"}, [[2**63, 2**63 + 2**62, 2**64 - 1]], np.uint64, [0, 0.5, 1]),
        ({"intensity": "minmax"}, [[-(2**63), 0, 2**63 - 1]], np.int64, [0, 0.5, 1]),
        ({"intensity": "minmax"}, [[-1.5e308, 0, 1.5e308]], np.float64, [0, 0.5, 1]),
        ({"intensity": "window", "window": (-100, 300)}, [[-500, -100, 0, 300, 900]], np.int16, [0, 0, 0.25, 1, 1]),
        ({"intensity": "uint8", "mean": (0.5,), "sd": (0.25,)}, ROW, np.uint8, [-2, -1.2, -0.4, 2]),
        ({"intensity": "uint8", "divide": 255}, ROW, np.uint8, [0, 0.2 / 255, 0.4 / 255, 1 / 255]),
    ],
)
def test_intensity(config: dict[str, Any], values: Any, dtype: Any, expected: list[float]) -> None:
    found = preprocessor(**config).prepare(volume(values, dtype), 0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[expected]], rtol=1e-6)


def test_percentiles_leave_outliers_out() -> None:
    values = np.arange(1001, dtype=np.float32)[None]
    values[0, -1] = 1e9
    found = preprocessor(intensity="percentile").prepare(volume(values), 0)[0, 0]
    np.testing.assert_allclose(found[[0, 5, 500, 995, 1000]], [0, 0, 0.5, 1, 1], atol=1e-6)


@pytest.mark.parametrize("intensity", ["minmax", "percentile", "uint8"])
@pytest.mark.parametrize("value", [-7, 3000])
def test_constant_slices_become_mid_grey_of_the_promised_dtype(intensity: str, value: int) -> None:
    found = preprocessor(intensity=intensity).prepare(volume([[value] * 3], np.int16), 0)
    np.testing.assert_array_equal(found, [[[0.5] * 3]])
    assert found.dtype == np.float32


def test_not_a_number_becomes_the_smallest_finite_value_and_infinities_the_extremes() -> None:
    found = preprocessor(intensity="minmax").prepare(volume([[np.nan, np.inf, -np.inf, 2.0, 4.0, 3.0]]), 0)
    np.testing.assert_array_equal(found, [[[0, 1, 0, 0, 1, 0.5]]])


def test_slices_are_normalised_each_for_itself() -> None:
    data = np.array([[[[0, 10]], [[100, 300]]]], dtype=np.int16)
    process = preprocessor(intensity="minmax")
    for z in range(2):
        np.testing.assert_array_equal(process.prepare(Volume(data), z), [[[0, 1]]])


COLOUR = np.array([200, 100, 50, 9], dtype=np.uint8)[:, None, None]


@pytest.mark.parametrize(
    ("channels", "n", "expected"),
    [
        ("rgb", 3, [200, 100, 50]),
        ("rgb", 4, [200, 100, 50]),
        ("bgr", 3, [50, 100, 200]),
        ("rgb", 1, [200, 200, 200]),
        ("bgr", 2, [200, 200, 200]),
        ("grey", 1, [200]),
        ("grey", 2, [200]),
        ("grey", 3, [0.299 * 200 + 0.587 * 100 + 0.114 * 50]),
        ("grey", 4, [0.299 * 200 + 0.587 * 100 + 0.114 * 50]),
    ],
)
def test_channels(channels: str, n: int, expected: list[float]) -> None:
    found = preprocessor(channels=channels).prepare(volume(COLOUR[:n]), 0)
    np.testing.assert_allclose(found[:, 0, 0] * 255, expected, rtol=1e-6)


def test_conversions_are_said() -> None:
    def notes(channels: str, n: int) -> list[str]:
        return [text.split(" ")[-1] for text in preprocessor(channels=channels).notes(volume(COLOUR[:n]))]

    assert notes("grey", 1) == notes("rgb", 3) == []
    assert notes("grey", 2) == notes("rgb", 4) == ["dropped."]
    assert notes("grey", 4) == ["dropped.", "brightness."]
    assert notes("rgb", 1) == ["times."]


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        (volume(np.zeros((2, 2), complex)), "real numbers"),
        (volume(np.zeros((5, 2, 2))), "5 channels"),
        (Volume(np.zeros((1, 1, 2, 2), int), kind="label"), "label map"),
    ],
)
def test_unusable_scans(scan: Volume, words: str) -> None:
    with pytest.raises(InputError, match=words):
        preprocessor().prepare(scan, 0)


def test_a_slice_of_the_networks_size_passes_untouched() -> None:
    scan = volume(np.random.default_rng(0).integers(0, 256, (16, 24), dtype=np.uint8))
    process = preprocessor(size=(16, 24))
    images, trace = process.apply(scan, [0])
    np.testing.assert_allclose(images[0, 0], scan.data[0, 0] / 255, rtol=1e-6)
    np.testing.assert_array_equal(process.invert(images, trace)[0], images[0])


def test_padding_keeps_the_aspect_and_repeats_the_edge() -> None:
    process = preprocessor(size=(16, 16), resize="pad")
    values = np.full((8, 16), 100, np.uint8)
    values[:4] = 200
    images, trace = process.apply(volume(values), [0])
    assert trace.box == (4, 0, 8, 16)
    np.testing.assert_allclose(images[0, 0, :8] * 255, 200, rtol=1e-6)
    np.testing.assert_allclose(images[0, 0, 8:] * 255, 100, rtol=1e-6)
    np.testing.assert_allclose(process.invert(images, trace)[0, 0] * 255, values, rtol=1e-6)


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    resize=st.sampled_from(["stretch", "pad"]),
    batch=st.integers(1, 3),
)
def test_there_and_back_at_any_shape(shape: tuple[int, int], size: tuple[int, int], resize: str, batch: int) -> None:
    scan = Volume(np.full((1, batch, *shape), 51, dtype=np.uint8))
    process = preprocessor(size=size, resize=resize)
    images, trace = process.apply(scan, range(batch))
    assert images.shape == (batch, 1, *size)
    assert images.dtype == torch.float32
    np.testing.assert_allclose(images, 0.2, atol=1e-6)
    back = process.invert(torch.cat([images, images], dim=1), trace)
    assert back.shape == (batch, 2, *shape)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, 0.2, atol=1e-6)


@settings(deadline=None)
@given(shape=st.tuples(st.integers(24, 70), st.integers(24, 70)), resize=st.sampled_from(["stretch", "pad"]))
def test_places_stay_where_they_are(shape: tuple[int, int], resize: str) -> None:
    """A ramp along each axis returns as itself, away from the border: no shift by half a pixel, no flip."""
    process = preprocessor(size=(48, 48), resize=resize, intensity="window", window=(0, 1))
    for axis in (0, 1):
        ramp = np.linspace(0, 1, shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1)) * np.ones(shape)
        images, trace = process.apply(volume(ramp), [0])
        back = process.invert(images, trace)[0, 0]
        margin = 4
        inner = (slice(margin, -margin), slice(margin, -margin))
        np.testing.assert_allclose(back[inner], ramp[inner], atol=0.2 / shape[axis])


def test_probabilities_come_back_between_0_and_1() -> None:
    process = preprocessor(size=(8, 8))
    _, trace = process.apply(volume(np.eye(20, dtype=np.uint8)), [0])
    back = process.invert(torch.tensor([-1e-6, 1 + 1e-6]).repeat(32).reshape(1, 1, 8, 8), trace)
    assert back.min() >= 0
    assert back.max() <= 1


def test_labels_go_to_the_networks_grid_unmixed() -> None:
    process = preprocessor(size=(8, 8), resize="pad")
    labels = np.array([[[0, 300], [7, 0], [0, 0], [0, 300]]], dtype=np.uint16)  # (1, 4, 2) -> 8 x 4 in 8 x 8
    found = process.labels_to_grid(labels, process.trace((4, 2)), fill=255)
    assert found.dtype == torch.int64
    inner = np.kron(labels[0], np.ones((2, 2)))
    np.testing.assert_array_equal(found[0, :, 2:6], inner)
    assert (found[0, :, :2] == 255).all()
    assert (found[0, :, 6:] == 255).all()


@pytest.mark.parametrize(
    ("dtype", "intensity", "said"),
    [(np.uint8, "uint8", False), (bool, "uint8", False), (np.int16, "uint8", True), (np.int16, "percentile", False)],
)
def test_values_of_another_kind_than_the_checkpoint_was_made_for_are_said(
    dtype: Any, intensity: str, said: bool
) -> None:
    notes = preprocessor(intensity=intensity).notes(volume([[0, 1]], dtype))
    assert any("made for 8-bit images" in note for note in notes) is said
