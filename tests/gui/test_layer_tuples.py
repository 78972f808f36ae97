"""Volumes and time stacks as layers: place, axes, colour, channels."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Layer

from napari_llm4seg.gui.layer_tuples import layer_tuples, layers_of
from napari_llm4seg.gui.layers import volume_from_layer
from napari_llm4seg.io import TimeStack
from napari_llm4seg.volume import Volume, affine_from_spacing

steps = st.floats(0.1, 8, allow_nan=False)
offsets = st.floats(-200, 200, allow_nan=False)


@settings(max_examples=30, deadline=None)
@given(st.tuples(steps, steps, steps), st.tuples(offsets, offsets, offsets), st.booleans(), st.integers(1, 3))
def test_volume_to_layer_and_back_keeps_the_grid(spacing, origin, flipped, depth):
    affine = affine_from_spacing(spacing)
    affine[:3, 3] = origin
    if flipped and depth > 1:
        affine[0] *= -1
    if depth == 1:
        affine[0] = (1, 0, 0, 0)  # a 2-D layer has no place along z
    volume = Volume(np.zeros((1, depth, 6, 7), np.uint8), affine, unit="mm", name="s", metadata={"a": 1})
    ((data, options, kind),) = layer_tuples(volume)
    layer = Layer.create(data, options, kind)
    assert layer.ndim == (2 if depth == 1 else 3)
    again = volume_from_layer(layer)
    np.testing.assert_allclose(again.affine, affine, atol=1e-6)
    assert again.unit == "mm"
    assert again.metadata == {"a": 1}


def test_colour_and_channels():
    colour = Volume(np.zeros((3, 1, 30, 40), np.uint8), name="photo")
    ((data, options, kind),) = layer_tuples(colour)
    assert (data.shape, options["rgb"], kind) == ((30, 40, 3), True, "image")
    two = Volume(np.zeros((2, 4, 30, 40), np.uint16), name="pet")
    assert [options["name"] for _, options, _ in layer_tuples(two)] == ["pet · channel 1", "pet · channel 2"]


def test_masks_that_come_with_an_image_are_hidden_at_first():
    image = Volume(np.zeros((1, 1, 6, 7), np.uint8))
    mask = Volume(np.ones((1, 1, 6, 7), np.uint8), kind="label", metadata={"classes": ((1, "lesion", "#E69F00"),)})
    tuples = layers_of([image, mask])
    assert [options["visible"] for _, options, _ in tuples] == [True, False]
    assert list(tuples[1][1]["features"]["class"]) == ["background", "lesion"]
    assert "visible" not in layers_of([mask])[0][1]


def test_axes_are_named_and_in_mm():
    ((_, options, _),) = layer_tuples(Volume(np.zeros((1, 4, 6, 7)), affine_from_spacing((3, 2, 1)), unit="mm"))
    assert (options["axis_labels"], options["units"]) == (("z", "y", "x"), ("mm", "mm", "mm"))
    film = Volume(np.zeros((1, 4, 6, 7)), affine_from_spacing((1, 2, 1)), unit="mm", metadata={"stack_axis": "t"})
    ((_, options, _),) = layer_tuples(film)
    assert (options["axis_labels"], options["units"]) == (("t", "y", "x"), ("pixel", "mm", "mm"))
    ((_, options, _),) = layer_tuples(Volume(np.zeros((1, 1, 6, 7))))
    assert (options["axis_labels"], options["units"]) == (("y", "x"), ("pixel", "pixel"))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("depth", [1, 4])
def test_time_points_make_one_layer(turned, depth):
    affine = affine_from_spacing((3, 2, 0.5))
    affine[:3, 3] = (10, 20, 30)
    if turned:
        affine[0] *= -1
    data = da.arange(2 * depth * 6 * 7).reshape(1, 2, depth, 6, 7)
    stack = TimeStack(data, affine, "mm", "heart", seconds=0.25, metadata={"messages": ["so"]})
    ((values, options, kind),) = layer_tuples(stack)
    layer = Layer.create(values, options, kind)
    assert layer.data.shape == ((2, 4, 6, 7) if depth > 1 else (2, 6, 7))
    assert isinstance(layer.data, da.Array)
    assert tuple(layer.axis_labels) == (("t", "z", "y", "x") if depth > 1 else ("t", "y", "x"))
    assert [str(unit) for unit in layer.units] == ["second", *["millimeter"] * (layer.ndim - 1)]
    assert layer.metadata["messages"] == ["so"]
    index = (1, 3, 5, 6)
    expected = (0.25, *(affine @ (*index[1:], 1))[:3])
    if depth == 1:
        index, expected = (1, 5, 6), (0.25, *expected[2:])
    np.testing.assert_allclose(layer.data_to_world(index), expected)


def test_colour_films_and_channels_in_time():
    colour = TimeStack(np.zeros((3, 2, 4, 6, 7), np.uint8), np.eye(4), "pixel", "film")
    ((values, options, _),) = layer_tuples(colour)
    assert (values.shape, options["rgb"]) == ((2, 4, 6, 7, 3), True)
    two = TimeStack(np.zeros((2, 3, 4, 6, 7), np.uint16), np.eye(4), "pixel", "cells")
    assert [values.shape for values, _, _ in layer_tuples(two)] == [(3, 4, 6, 7)] * 2


def test_channels_keep_their_names_colours_and_display_ranges():
    about = [{"name": "DAPI", "colour": "#0000FF", "limits": [10, 200]}, {"name": "b", "colour": "", "limits": None}]
    volume = Volume(np.zeros((2, 1, 6, 7), np.uint8), name="cells", metadata={"channels": about})
    first, second = [Layer.create(*item) for item in layer_tuples(volume)]
    assert (first.name, tuple(first.contrast_limits), str(first.blending)) == ("cells · DAPI", (10, 200), "additive")
    np.testing.assert_allclose(first.colormap.colors[-1], (0, 0, 1, 1))
    assert second.name == "cells · b"
    three = Volume(np.zeros((3, 1, 6, 7), np.uint8), metadata={"channels": [*about, about[0]]})
    assert len(layer_tuples(three)) == 3  # three stains are no colour picture
