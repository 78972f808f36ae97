"""Layers add up to the blend over the whole volume, whatever order they run in."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.predict.layers import Layers
from napari_llm4seg.tiling import Blend, Tiling


def answer(tiles: np.ndarray) -> np.ndarray:
    """Return two channels that depend on where a voxel lies in its patch, so that blending shows."""
    places = np.indices(tiles.shape[2:]).sum(axis=0)
    return np.concatenate([tiles + places, tiles * places], axis=1)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_layers_add_up_to_one_blend(data: st.DataObject) -> None:
    shape: Any = data.draw(st.tuples(*[st.integers(1, 14)] * 3))
    patch: Any = data.draw(st.tuples(*[st.integers(2, 6)] * 3))
    overlap = data.draw(st.sampled_from([0.0, 0.5, 0.7]))
    axis = data.draw(st.integers(0, 2))
    image = np.random.default_rng(0).random((1, *shape), dtype=np.float32)
    tiling = Tiling(shape, patch, overlap)
    blend = Blend(tiling, 2)
    blend.add(range(len(tiling)), answer(tiling.tiles(tiling.pad(image), range(len(tiling)))))
    layers = Layers(shape, patch, overlap, axis, 2)
    assert len(layers.all) * len(layers.tiling) == len(tiling)
    for layer in data.draw(st.permutations(layers.all)):
        planes = np.take(image, range(*layer), axis=1 + axis)
        layers.run(layer, planes, lambda tiles, count: answer(tiles), lambda: 3)
    np.testing.assert_allclose(layers.result(slice(0, shape[axis])), blend.result(), rtol=1e-4, atol=1e-5)
