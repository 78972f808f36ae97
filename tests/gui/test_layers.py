from __future__ import annotations

import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels

from napari_llm4seg.errors import InputError
from napari_llm4seg.gui import layers

steps = st.floats(0.1, 8, allow_nan=False)
offsets = st.floats(-200, 200, allow_nan=False)


@pytest.mark.parametrize(
    ("shape", "rgb", "expected"),
    [
        ((30, 40), False, (1, 1, 30, 40)),
        ((5, 30, 40), False, (1, 5, 30, 40)),
        ((30, 40, 3), True, (3, 1, 30, 40)),
        ((5, 30, 40, 4), True, (4, 5, 30, 40)),
    ],
)
def test_every_layer_becomes_channel_z_y_x_without_a_copy(shape, rgb, expected):
    data = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    volume = layers.volume_from_layer(Image(data, rgb=rgb))
    assert volume.data.shape == expected
    assert np.shares_memory(volume.data, data)
    if rgb:
        assert np.array_equal(volume.data[1, -1], data[..., 1].reshape(-1, 30, 40)[-1])


def test_lazy_data_stays_lazy():
    computed = []

    def block(block_info=None):
        computed.append(block_info)
        return np.zeros((1, 30, 40), np.uint8)

    data = da.map_blocks(block, chunks=((1,) * 6, (30,), (40,)), dtype=np.uint8, meta=np.zeros((0, 0, 0), np.uint8))
    layer = Image(data, contrast_limits=(0, 1))
    computed.clear()
    volume = layers.volume_from_layer(layer)
    assert not computed
    volume.slice_at(3)
    assert len(computed) == 1


def test_of_a_pyramid_the_full_resolution_is_taken():
    data = np.random.default_rng(0).integers(0, 255, (64, 80), dtype=np.uint8)
    layer = Image([data, data[::2, ::2]], multiscale=True)
    assert layers.volume_from_layer(layer).grid == (1, 64, 80)
    assert layers.grid_shape(layer) == (64, 80)


def test_of_several_frames_one_must_be_chosen():
    data = np.random.default_rng(0).integers(0, 255, (2, 3, 30, 40), dtype=np.uint8)
    layer = Image(data, name="odd", scale=(9, 3, 2, 1), translate=(5, 1, 2, 3), units=("s", "mm", "mm", "mm"))
    with pytest.raises(InputError, match=r"'odd' holds 2 frames; choose one.*Split"):
        layers.volume_from_layer(layer)
    volume = layers.volume_from_layer(layer, 1)
    np.testing.assert_array_equal(volume.data[0], data[1])
    assert volume.spacing == (3, 2, 1)
    assert volume.unit == "mm"
    np.testing.assert_array_equal(volume.affine[:3, 3], (1, 2, 3))
    assert layers.words_of(layer) == "2 frames of 40 × 30 × 3, 1 × 2 × 3 mm"
    assert layers.volume_from_layer(Image(data[None, :1]), None).grid == (3, 30, 40)


def test_labels_of_several_frames_are_refused_in_words():
    with pytest.raises(InputError, match=r"2 frames.*Split"):
        layers.volume_from_layer(Labels(np.zeros((2, 3, 30, 40), np.uint8), name="odd"))


def test_complex_values_are_refused_in_words():
    class Complex:
        name, rgb, multiscale, data = "k-space", False, False, np.zeros((8, 8), complex)

    assert "complex128" in layers.problem_of(Complex())


def test_labels_become_a_label_volume():
    assert layers.volume_from_layer(Labels(np.zeros((4, 5), np.uint8))).kind == "label"


@settings(max_examples=30, deadline=None)
@given(st.tuples(steps, steps, steps), st.tuples(offsets, offsets, offsets), st.floats(-80, 80))
def test_a_layer_s_place_in_the_world_reaches_the_volume(scale, translate, angle):
    layer = Image(np.zeros((3, 4, 5)), scale=scale, translate=translate, rotate=(angle, 5, 0), units=("mm",) * 3)
    volume = layers.volume_from_layer(layer)
    for index in ((0, 0, 0), (2, 3, 4), (1, 0, 2)):
        np.testing.assert_allclose((volume.affine @ (*index, 1))[:3], layer.data_to_world(index), atol=1e-6)
    np.testing.assert_allclose(volume.spacing, scale, rtol=1e-5)
    assert volume.unit == "mm"


def test_micrometres_become_millimetres():
    layer = Image(np.zeros((4, 5)), scale=(500, 250), units=("um", "um"))
    volume = layers.volume_from_layer(layer)
    np.testing.assert_allclose(volume.spacing, (1, 0.5, 0.25))
    assert volume.unit == "mm"


def test_pixels_stay_pixels():
    volume = layers.volume_from_layer(Image(np.zeros((4, 5))))
    assert volume.unit == "pixel"
    assert "no physical size" in layers.words_of(Image(np.zeros((4, 5))))


def test_words_give_x_first_and_the_unit():
    layer = Image(np.zeros((78, 512, 500), np.uint8), scale=(3, 0.8, 0.75), units=("mm",) * 3)
    assert layers.words_of(layer) == "500 × 512 × 78, 0.75 × 0.8 × 3 mm"


def test_class_colours_and_names():
    layer = Labels(np.zeros((4, 5), np.uint8), **layers.class_style(((2, "liver", "#56B4E9"),)))
    np.testing.assert_allclose(layer.get_color(2), (0x56 / 255, 0xB4 / 255, 0xE9 / 255, 1), atol=1e-6)
    assert layer.get_color(9)[3] == 1  # painted with a label of one's own: visible
    assert layer.get_color(0) is None or layer.get_color(0)[3] == 0


def test_the_modality_comes_from_the_header_before_the_name():
    image = Image(np.zeros((4, 5)), name="ct thorax", metadata={"dicom": {"Modality": "MR"}})
    assert layers.modality_of(image) == "MR"
    assert layers.modality_of(Image(np.zeros((4, 5)), name="breast ultrasound")) == "breast ultrasound"


def test_a_scan_s_look_is_read_off_a_thumbnail():
    grey = np.full((300, 200), 51, np.uint8)
    assert layers.look_of(Image(grey)) == layers.Look(
        False, False, False, pytest.approx((0.2, 0.2, 0.2)), (1, 300, 200)
    )
    as_colour = layers.look_of(Image(np.repeat(grey[..., None], 3, axis=-1), rgb=True))
    assert not as_colour.colour
    photo = np.broadcast_to(np.array([204, 102, 51], np.uint8), (300, 200, 3))
    look = layers.look_of(Image(photo, rgb=True))
    assert look.colour
    assert look.mean == pytest.approx((0.8, 0.4, 0.2))
    ct = layers.look_of(Image(np.tile(np.linspace(-1000, 2000, 1200).reshape(30, 40), (5, 1, 1))))
    assert (ct.stack, ct.signed) == (True, True)
    assert layers.look_of(Image(da.zeros((5, 30, 40)))) is None, "lazy data is not computed for a guess"
    assert layers.look_of(Image(np.full((20, 20), np.nan))) is not None


def test_units_are_ready_before_a_job_and_the_window_make_layers_at_once():
    """In a process of its own: pint makes its registry once."""
    code = """
import pint
from napari_llm4seg.gui.dock import Docked

class Base:
    pass

class Dock(Docked, Base):
    pass

assert type(pint.application_registry.get()).__name__ == "LazyRegistry"
Dock()
print(type(pint.application_registry.get()).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[-1:] == ["UnitRegistry"], done.stderr
