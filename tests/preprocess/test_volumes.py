from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.errors import InputError
from napari_llm4seg.preprocess import VolumePreprocessor
from napari_llm4seg.preprocess.resample import resampling
from napari_llm4seg.preprocess.volumes import SliceReader, VolumeTrace
from napari_llm4seg.volume import Volume


def preprocessor(**config: Any) -> VolumePreprocessor:
    fields = {"patch": (8, 8, 8), "intensity": "zscore", "mean": (0.0,), "sd": (1.0,)}
    return VolumePreprocessor(PreprocessConfig.model_validate(fields | config))


def scan(shape: tuple[int, int, int] = (4, 5, 6), axes: tuple[int, ...] = (0, 1, 2), signs: Any = (1, 1, 1),
         steps: tuple[float, ...] = (1.0, 1.0, 1.0), unit: Any = "mm") -> Volume:  # fmt: skip
    """Return noise whose stored axis ``axes[i]`` runs along the world's axis i, forward or backward."""
    affine = np.zeros((4, 4))
    for world, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, axis] = sign * steps[world]
    affine[3, 3] = 1
    data = np.random.default_rng(0).normal(40, 9, (1, *shape)).astype(np.float32)
    return Volume(data, affine=affine, unit=unit)


def back(probabilities: torch.Tensor, trace: VolumeTrace) -> np.ndarray:
    reader = SliceReader(trace)
    parts = []
    for z in range(trace.source[0]):
        window = [slice(None)] * 4
        window[1 + reader.axis] = reader.planes(z)
        parts.append(reader.read(z, probabilities[tuple(window)]))
    return np.stack(parts, axis=1)


ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS[::5])
def test_any_orientation_gives_the_same_upright_grid_and_comes_back_exactly(axes: Any, signs: Any) -> None:
    upright = scan()
    # the same body, stored otherwise
    stored = np.asarray(upright.data)[0].transpose(np.argsort(axes))
    stored = stored[tuple(slice(None, None, signs[axes.index(axis)]) for axis in range(3))]
    other = scan(axes=axes, signs=signs).with_data(stored[None].copy())
    tensor, trace = preprocessor().apply(other)
    expected, _ = preprocessor().apply(upright)
    assert torch.equal(tensor, expected)
    values = torch.sigmoid(tensor)
    reference = back(torch.sigmoid(expected), preprocessor().trace(upright))[0]
    turned = reference.transpose(np.argsort(axes))
    turned = turned[tuple(slice(None, None, signs[axes.index(axis)]) for axis in range(3))]
    assert np.array_equal(back(values, trace)[0], turned)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("before", "after"), [(7, 7), (7, 12), (12, 7), (1, 5), (5, 1), (9, 10)])
def test_resampling_is_torchs_own(before: int, after: int, antialias: bool) -> None:
    values = torch.randn(1, 1, 1, before, generator=torch.Generator().manual_seed(0))
    matrix = resampling(before, after, antialias)
    expected = F.interpolate(values, (1, after), mode="bilinear", antialias=antialias)
    torch.testing.assert_close(values @ matrix.T, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(matrix.sum(1), torch.ones(after))


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    steps=st.tuples(*[st.floats(0.3, 4)] * 3),
    orientation=st.sampled_from(ORIENTATIONS),
)
def test_what_comes_back_has_the_scans_grid_and_range(shape: Any, steps: Any, orientation: Any) -> None:
    axes, signs = orientation
    volume = scan(shape, axes, signs, steps)
    tensor, trace = preprocessor(spacing=(1.0, 1.5, 1.0)).apply(volume)
    assert tensor.shape == (1, *trace.size)
    assert torch.isfinite(tensor).all()
    for world, wanted in enumerate((1.0, 1.5, 1.0)):
        extent = shape[axes[world]] * steps[world]
        assert abs(trace.size[world] * wanted - extent) <= max(wanted / 2, extent * 1e-3, wanted - extent) + 1e-6
    found = back(torch.rand(2, *trace.size), trace)
    assert found.shape == (2, *shape)
    assert 0 <= found.min() <= found.max() <= 1


def test_a_ramp_survives_resampling_there_and_back() -> None:
    """Linear interpolation keeps a linear ramp, away from the ends."""
    z, y, x = np.mgrid[:20, :24, :16].astype(np.float32)
    volume = scan(steps=(1.0, 2.0, 0.5)).with_data((0.01 * z + 0.02 * y + 0.005 * x)[None])
    config = {"intensity": "window", "window": (0.0, 1.0), "spacing": (1.0, 1.0, 1.0), "antialias": False}
    tensor, trace = preprocessor(**config).apply(volume)
    assert trace.size == (20, 48, 8)
    np.testing.assert_allclose(back(tensor, trace)[0, :, 3:-3, 3:-3], volume.data[0, :, 3:-3, 3:-3], atol=1e-5)


def test_zscore_is_over_the_whole_volume() -> None:
    volume = scan()
    tensor, _ = preprocessor().apply(volume)
    np.testing.assert_allclose(tensor[0], (volume.data[0] - volume.data.mean()) / volume.data.std(), atol=1e-4)
    constant, _ = preprocessor().apply(volume.with_data(np.full((1, 3, 3, 3), 1e300)))
    assert torch.equal(constant, torch.zeros(1, 3, 3, 3))
    huge = np.array([-1e308, 1e308] * 4).reshape(1, 2, 2, 2)
    np.testing.assert_allclose(np.abs(preprocessor().apply(volume.with_data(huge))[0]), 1, atol=1e-6)


def test_percentiles_are_over_the_whole_volume_too() -> None:
    volume = scan().with_data(np.arange(1000, dtype=np.float32).reshape(1, 10, 10, 10))
    tensor, _ = preprocessor(intensity="percentile").apply(volume)
    assert float(tensor[0, 0, 0, 0]) == 0
    assert float(tensor[0, 4].mean()) == pytest.approx(0.45, abs=0.01)


def test_labels_keep_their_values_and_places() -> None:
    labels = np.random.default_rng(1).integers(0, 3, (4, 5, 6))
    volume = scan((4, 5, 6), steps=(2.0, 1.0, 1.0), signs=(1, -1, 1))
    prepared = preprocessor(spacing=(1.0, 1.0, 1.0))
    grid = prepared.labels_to_grid(labels, prepared.trace(volume))
    np.testing.assert_array_equal(grid, np.repeat(labels, 2, axis=0)[:, ::-1])


@pytest.mark.parametrize("coarser", [2.0, 2.5, 3.0])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1)])
def test_single_annotated_slices_are_found_again_on_a_coarser_grid(coarser: float, signs: tuple[int, int, int]) -> None:
    volume = scan((15, 5, 6), signs=signs)
    prepared = preprocessor(spacing=(coarser, 1.0, 1.0))
    for z in range(15):
        labels = np.full((15, 5, 6), 255)
        labels[z] = np.arange(30).reshape(5, 6) % 3
        grid = prepared.labels_to_grid(labels, prepared.trace(volume), unknown=255)
        (where,) = (grid != 255).flatten(1).any(1).nonzero().T
        assert len(where) == 1, "each slice lies in one plane of the coarser grid"
        np.testing.assert_array_equal(grid[int(where)], labels[z])
        upright = 14 - z if signs[0] < 0 else z
        assert int(where) == int((upright + 0.5) * len(grid) / 15)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.floats(0.4, 3.0))
def test_what_is_annotated_whole_is_the_nearest_with_or_without_unknown_ones(seed: int, spacing: float) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (7, 5, 6))
    prepared, volume = preprocessor(spacing=(spacing, 1.3, 1.0)), scan((7, 5, 6))
    trace = prepared.trace(volume)
    assert torch.equal(prepared.labels_to_grid(labels, trace, unknown=255), prepared.labels_to_grid(labels, trace))
    # the nearest plane counts first, where it is known
    labels[:, 0] = 255
    nearest, filled = prepared.labels_to_grid(labels, trace), prepared.labels_to_grid(labels, trace, unknown=255)
    assert torch.equal(filled[nearest != 255], nearest[nearest != 255])


def test_scans_without_physical_size_stay_as_they_are_and_that_is_said() -> None:
    volume = scan(steps=(3.0, 1.0, 1.0), signs=(-1, 1, 1), unit="pixel")
    prepared = preprocessor(spacing=(1.0, 1.0, 0.5))
    trace = prepared.trace(volume)
    assert (trace.size, trace.flipped) == ((4, 5, 6), (False, False, False))
    assert any("1 x 1 x 0.5 mm" in note for note in prepared.notes(volume))
    assert prepared.notes(scan()) == []
    assert "single slice" in prepared.notes(scan((1, 5, 5)))[0]


def test_nearly_equal_spacing_is_not_resampled() -> None:
    assert preprocessor(spacing=(1.0, 1.0, 1.0)).trace(scan(steps=(1.0004, 0.9996, 1.0))).size == (4, 5, 6)


def test_label_maps_are_refused() -> None:
    labels = Volume(np.zeros((1, 3, 3, 3), np.uint8), kind="label")
    with pytest.raises(InputError, match="label map"):
        preprocessor().apply(labels)
