"""TIFF: axes, spacing, round trips, broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import TimeStack, read, read_stack, write
from napari_llm4seg.volume import Volume, affine_from_spacing

FILES = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = (np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64)


@FILES
@given(
    st.sampled_from(DTYPES),
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)),
    st.tuples(*[st.floats(0.05, 9)] * 3),
    st.sampled_from(["mm", "pixel"]),
    st.integers(0, 999),
)
def test_round_trip(tmp_path: Path, dtype: type[np.generic], shape, spacing, unit, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = (rng.normal(size=shape) * 100).astype(np.int16).view(np.uint16 if dtype is np.uint16 else np.int16)
    affine = affine_from_spacing(spacing)
    affine[:3, 3] = rng.normal(size=3) * 50
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ affine[:3, :3]
    volume = Volume(data.astype(dtype), affine, unit=unit)
    back = read(write(tmp_path / "v.tif", volume))
    assert back.data.dtype == dtype
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_array_equal(back.affine, affine)
    assert back.unit == unit


def test_labels_keep_their_kind_and_other_programs_see_a_stack(tmp_path: Path) -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(1, 4, 2, 3)
    write(tmp_path / "m.tif", Volume(labels, affine_from_spacing((3, 0.5, 0.25)), kind="label", unit="mm"))
    assert read(tmp_path / "m.tif").kind == "label"
    with tifffile.TiffFile(tmp_path / "m.tif") as tiff:
        assert tiff.series[0].axes == "ZYX"
        np.testing.assert_array_equal(tiff.asarray(), labels[0])
        assert tiff.imagej_metadata is not None
        assert tiff.imagej_metadata["spacing"] == 3
        assert tiff.imagej_metadata["unit"] == "mm"
        across, by = tiff.pages.first.tags["XResolution"].value
        assert by / across == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((6, 7), "YX", (1, 1, 6, 7)),
        ((5, 6, 7), "ZYX", (1, 5, 6, 7)),
        ((5, 6, 7), "TYX", (1, 5, 6, 7)),
        ((2, 6, 7), "CYX", (2, 1, 6, 7)),
        ((5, 2, 6, 7), "ZCYX", (2, 5, 6, 7)),
        ((5, 6, 7, 3), "ZYXS", (3, 5, 6, 7)),
    ],
)
def test_imagej_axes(tmp_path: Path, shape: tuple[int, ...], axes: str, expected: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    tifffile.imwrite(tmp_path / "x.tif", array, imagej=True, metadata={"axes": axes})
    volume = read(tmp_path / "x.tif")
    assert volume.data.shape == expected
    where = {"S": 0, "C": 0, "Z": 1, "T": 1, "Y": 2, "X": 3}
    index = tuple(length - 1 for length in shape)
    target = [0, 0, 0, 0]
    for axis, position in zip(axes, index, strict=True):
        target[where[axis]] = position
    assert volume.data[tuple(target)] == array[index]


@pytest.mark.parametrize("axes", ["TZYX", "TZCYX", "TCYX", "TZYXS", "TYXS"])
@pytest.mark.parametrize("flavour", ["imagej", "ome"])
def test_time_points(tmp_path: Path, axes: str, flavour: str) -> None:
    sizes = {"T": 3, "Z": 4, "C": 2, "Y": 6, "X": 7, "S": 3}
    array = np.random.default_rng(0).integers(0, 255, [sizes[axis] for axis in axes]).astype(np.uint8)
    step = {"finterval": 0.5} if flavour == "imagej" else {"TimeIncrement": 500, "TimeIncrementUnit": "ms"}
    options = {"photometric": "rgb"} if "S" in axes else {}
    tifffile.imwrite(tmp_path / "x.tif", array, metadata={"axes": axes, **step}, **{flavour: True}, **options)
    order = [axis for axis in "CSTZYX" if axis in axes]
    expected = array.transpose([axes.index(axis) for axis in order])
    expected = expected if {"C", "S"} & set(axes) else expected[None]
    if "Z" not in axes:
        film = read(tmp_path / "x.tif")
        np.testing.assert_array_equal(film.data, expected)
        assert film.metadata["stack_axis"] == "t"
        return
    found = read_stack(tmp_path / "x.tif")
    assert isinstance(found, TimeStack)
    assert found.seconds == 0.5
    np.testing.assert_array_equal(found.data, expected)
    np.testing.assert_array_equal(read(tmp_path / "x.tif", time=2).data, expected[:, 1])
    with pytest.raises(InputError, match="3 time points"):
        read(tmp_path / "x.tif")


def test_a_size_that_needs_more_parts_than_there_are(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((40, 30), np.uint8), compression="zlib", rowsperstrip=20)
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages.first.tags["ImageLength"].valueoffset
    content = bytearray(path.read_bytes())
    content[place : place + 4] = (20_000_000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match="needs more parts"):
        read(path)


def test_more_axes_than_a_scan_has(tmp_path: Path) -> None:
    array = np.zeros((2, 3, 4, 6, 7), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", array, metadata={"axes": "QIZYX"}, photometric="minisblack")
    with pytest.raises(InputError, match="at most one axis each"):
        read(tmp_path / "x.tif")


def test_imagej_spacing_in_micrometres(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "x.tif",
        np.zeros((5, 6, 7), np.uint16),
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "ZYX", "spacing": 3.0, "unit": "um"},
    )
    volume = read(tmp_path / "x.tif")
    assert volume.unit == "mm"
    np.testing.assert_allclose(volume.spacing, (3e-3, 0.5e-3, 0.25e-3))


def test_ome_spacing(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 700, "PhysicalSizeZ": 2000}
    tifffile.imwrite(tmp_path / "x.ome.tif", np.zeros((5, 6, 7), np.int16), ome=True, metadata={"axes": "ZYX", **sizes})
    volume = read(tmp_path / "x.ome.tif")
    assert volume.unit == "mm"
    np.testing.assert_allclose(volume.spacing, (2, 0.7, 0.5))


def test_print_resolution_is_no_spacing(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((6, 7), np.uint8), resolution=(72, 72), resolutionunit="INCH")
    assert read(tmp_path / "x.tif").unit == "pixel"


def test_pages_make_a_stack_and_white_is_zero_is_turned(tmp_path: Path) -> None:
    array = np.arange(30, dtype=np.uint8).reshape(5, 2, 3)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="miniswhite", metadata=None)
    np.testing.assert_array_equal(read(tmp_path / "x.tif").data[0], 255 - array)


def test_palette_becomes_rgb(tmp_path: Path) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 5] = (65535, 256 * 7, 0)
    tifffile.imwrite(tmp_path / "x.tif", np.full((4, 6), 5, np.uint8), photometric="palette", colormap=colours)
    volume = read(tmp_path / "x.tif")
    assert volume.data.shape == (3, 1, 4, 6)
    np.testing.assert_array_equal(volume.data[:, 0, 0, 0], [255, 7, 0])


def test_several_images_say_so(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
        tiff.write(np.zeros((6, 7), np.uint8), metadata=None)
        tiff.write(np.zeros((3, 4), np.uint8), metadata=None)
    volume = read(tmp_path / "x.tif")
    assert volume.grid == (1, 6, 7)
    assert "several images" in volume.metadata["messages"][0]


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"imagej": True}, {"ome": True}, {"tile": (16, 16)}])
def test_cut_off(tmp_path: Path, options: dict[str, object]) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (6, 40, 40), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "whole.tif", pixels, photometric="minisblack", **options)
    whole = (tmp_path / "whole.tif").read_bytes()
    for part in (1, 4, 9, 100, len(whole) // 3, len(whole) // 2, len(whole) * 9 // 10):
        (tmp_path / "cut.tif").write_bytes(whole[:part])
        with pytest.raises(InputError) as caught:
            read(tmp_path / "cut.tif")
        assert "\n" not in str(caught.value)


def test_complex_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 4), np.complex64))
    with pytest.raises(InputError, match="complex"):
        read(tmp_path / "x.tif")


def test_wide_integers(tmp_path: Path) -> None:
    fits = Volume(np.array([[[[0, 70000]]]], dtype=np.int64))
    np.testing.assert_array_equal(read(write(tmp_path / "x.tif", fits)).data, fits.data)
    with pytest.raises(InputError, match=r"\.nii\.gz"):
        write(tmp_path / "y.tif", Volume(np.array([[[[0, 2**40]]]], dtype=np.int64)))
    assert not (tmp_path / "y.tif").exists()


def test_names_and_colours_are_kept_and_imagej_shows_them(tmp_path: Path) -> None:
    classes = ((1, "liver", "#E69F00"), (7, "Läsion", "#0072B2"))
    labels = np.zeros((1, 2, 3, 4), np.uint8)
    labels[0, 0, 0] = 7
    for dtype, name in ((np.uint8, "a.tif"), (np.uint16, "b.tif"), (np.int16, "c.tif")):
        write(tmp_path / name, Volume(labels.astype(dtype), kind="label", metadata={"classes": classes}))
        back = read(tmp_path / name)
        assert (back.kind, back.metadata["classes"]) == ("label", classes)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name).reshape(labels.shape), labels)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.imagej_metadata is not None
        table = np.asarray(tiff.imagej_metadata["LUTs"]).reshape(3, 256)
        np.testing.assert_array_equal(table[:, [0, 1, 7]].T, [(0, 0, 0), (0xE6, 0x9F, 0), (0, 0x72, 0xB2)])
