"""Layers of a volume are those of the volume in one piece, and every slice is read once on the way outward."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.preprocess import Scale, VolumePreprocessor, VolumeStream
from napari_llm4seg.volume import Volume

ORDERS = list(itertools.permutations(range(3)))


def stream(volume: Volume, spacing: Any, read: list[int] | None = None) -> tuple[VolumeStream, np.ndarray]:
    config = PreprocessConfig.model_validate({"patch": (4, 4, 4), "spacing": spacing, "mean": (0,), "sd": (1,)})
    made = VolumePreprocessor(config)

    def slice_(z: int) -> np.ndarray:
        if read is not None:
            read.append(z)
        return volume.slice_at(z)

    return VolumeStream(made, volume, Scale(limits=(0, 255)), slice_), made.apply(volume)[0].numpy()


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    order=st.sampled_from(ORDERS),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    steps=st.tuples(*[st.sampled_from([0.6, 1.0, 2.7])] * 3),
    cut=st.tuples(st.integers(0, 8), st.integers(1, 9)),
)
def test_layers_are_those_of_the_whole(shape: Any, order: Any, signs: Any, steps: Any, cut: tuple[int, int]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, world in enumerate(order):
        affine[world, axis] = signs[axis] * steps[axis]
    data = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    made, whole = stream(Volume(data, affine, unit="mm"), (1.0, 1.0, 1.0))
    length = whole.shape[1 + made.axis]
    start = min(cut[0], length - 1)
    stop = min(length, start + cut[1])
    np.testing.assert_allclose(
        made.layer(start, stop), np.take(whole, range(start, stop), axis=1 + made.axis), atol=1e-5
    )


@pytest.mark.parametrize(("spacing", "layers"), [(None, 20), ((1.5, 1, 1), 27)])
def test_slices_are_read_once_and_forgotten(spacing: Any, layers: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, (1, 20, 4, 4), dtype=np.uint8)
    affine = np.diag([2.0, 1, 1, 1])
    read: list[int] = []
    made, whole = stream(Volume(data, affine, unit="mm"), spacing, read)
    assert whole.shape[1] == layers
    order = sorted(((start, start + 4) for start in range(0, layers - 3, 2)), key=lambda part: abs(part[0] - 9))
    for number, layer in enumerate(order):
        np.testing.assert_allclose(made.layer(*layer), whole[:, slice(*layer)], atol=1e-5)
        made.keep(order[number + 1 :])
        assert len(made._kept) <= 6
    assert sorted(read) == sorted(set(read))
