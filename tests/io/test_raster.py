"""PNG, JPEG, BMP and the overlay picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import raster, read, write
from napari_llm4seg.volume import Prediction, Volume

FILES = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def labels_of(array: np.ndarray, classes: tuple[tuple[int, str, str], ...] = ((1, "lesion", "#E69F00"),)) -> Prediction:
    return Prediction(array, None, np.eye(4), "pixel", "case", classes)


@FILES
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_labels_come_back_as_written(tmp_path: Path, array: np.ndarray) -> None:
    write(tmp_path / "m.png", labels_of(array[None]))
    np.testing.assert_array_equal(read(tmp_path / "m.png").data[0, 0], array)
    with Image.open(tmp_path / "m.png") as image:
        np.testing.assert_array_equal(np.asarray(image), array)


@FILES
@given(
    st.sampled_from([(np.uint8, 1), (np.uint8, 3), (np.uint8, 4), (np.uint16, 1)]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_images_come_back_as_written(
    tmp_path: Path, what: tuple[type[np.generic], int], height: int, width: int, seed: int
) -> None:
    dtype, channels = what
    data = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (channels, 1, height, width), dtype=dtype)
    write(tmp_path / "i.png", Volume(data))
    back = read(tmp_path / "i.png")
    assert back.data.dtype == dtype
    np.testing.assert_array_equal(back.data, data)


def test_a_mask_shows_its_colours_and_keeps_names_and_place(tmp_path: Path) -> None:
    labels = np.array([[[0, 1], [7, 9]]], dtype=np.uint8)
    affine = np.diag([3.0, 0.5, 0.25, 1.0])
    affine[1, 2] = 0.1
    classes = ((1, "lesion", "#E69F00"), (7, "Zyste é", "#0072B2"))
    write(tmp_path / "m.png", Prediction(labels, None, affine, "mm", "case", classes))
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), labels[0])
        assert image.convert("RGB").getpixel((0, 1)) == (0x00, 0x72, 0xB2)
        assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 0)
    back = read(tmp_path / "m.png")
    assert (back.kind, back.unit, back.channels) == ("label", "mm", 1)
    assert back.metadata["classes"][:2] == classes
    np.testing.assert_array_equal(back.affine, affine)
    np.testing.assert_array_equal(back.data[0], labels)


def test_many_label_values_need_16_bit(tmp_path: Path) -> None:
    labels = np.array([[[0, 300], [7, 65535]]], dtype=np.int32)
    write(tmp_path / "m.png", Volume(labels[None], kind="label"))
    np.testing.assert_array_equal(read(tmp_path / "m.png").data[0], labels)


@pytest.mark.parametrize(
    ("mode", "channels", "dtype"),
    [("1", 1, np.uint8), ("L", 1, np.uint8), ("P", 3, np.uint8), ("RGB", 3, np.uint8), ("RGBA", 4, np.uint8),
     ("LA", 4, np.uint8), ("I;16", 1, np.uint16)],
)  # fmt: skip
def test_modes(tmp_path: Path, mode: str, channels: int, dtype: type[np.generic]) -> None:
    if mode == "I;16":
        Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000).save(tmp_path / "x.png")
    else:
        Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode).save(tmp_path / "x.png")
    volume = read(tmp_path / "x.png")
    assert volume.data.shape == (channels, 1, 3, 4)
    assert volume.data.dtype == dtype
    assert volume.unit == "pixel"
    assert volume.name == "x"
    assert volume.data.max() == (55000 if mode == "I;16" else 255)


def test_palette_is_expanded_or_kept_as_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 10, 20, 5, 150, 7])
    image.save(tmp_path / "p.png")
    np.testing.assert_array_equal(raster.read(tmp_path / "p.png").data[:, 0, 0, 1], [200, 10, 20])
    np.testing.assert_array_equal(raster.read(tmp_path / "p.png", palette=False).data[0, 0], [[0, 1], [2, 1]])


def test_sixteen_bit_colour_is_kept(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 6, 3), dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(pixels))
    np.testing.assert_array_equal(np.moveaxis(read(tmp_path / "deep.png").data[:, 0], 0, -1), pixels)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read(tmp_path / "turned.jpg").grid == (1, 8, 4)


def test_bmp_and_suffix_in_capitals(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4), (1, 2, 3)).save(tmp_path / "X.BMP")
    np.testing.assert_array_equal(read(tmp_path / "X.BMP").data[:, 0, 0, 0], [1, 2, 3])


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_cut_off_image(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"whole.{suffix}")
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    for part in (3, 20, 60, len(whole) // 2, len(whole) - 40):
        (tmp_path / f"cut.{suffix}").write_bytes(whole[:part])
        with pytest.raises(InputError, match="cut") as caught:
            read(tmp_path / f"cut.{suffix}")
        assert "\n" not in str(caught.value)


def test_text_called_png(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("not an image")
    with pytest.raises(InputError, match="is not a PNG"):
        read(tmp_path / "x.png")


def test_stack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3 slices.*\.tif or \.nii\.gz"):
        write(tmp_path / "m.png", labels_of(np.zeros((3, 4, 4), np.uint8)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_lossy_or_odd_suffix_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=r"\.png"):
        write(tmp_path / f"m{suffix}", labels_of(np.zeros((1, 4, 4), np.uint8)))


def test_values_png_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="float32"):
        write(tmp_path / "m.png", Volume(np.zeros((1, 1, 4, 4), np.float32)))
    with pytest.raises(InputError, match="-1 to 0"):
        write(tmp_path / "m.png", Volume(np.full((1, 1, 1, 2), [0, -1], np.int16), kind="label"))


def square(values: tuple[int, ...] = (1,)) -> np.ndarray:
    labels = np.zeros((2, 40, 60), np.uint8)
    for number, value in enumerate(values):
        labels[1, 10:30, 5 + 20 * number : 20 + 20 * number] = value
    return labels


def test_overlay_draws_contour_and_fill_on_the_fullest_slice(tmp_path: Path) -> None:
    scan = np.zeros((1, 2, 40, 60), np.int16)
    scan[0, 1] = np.linspace(0, 3000, 60)
    raster.write_overlay(tmp_path / "o.png", Volume(scan), labels_of(square()))
    picture = np.asarray(Image.open(tmp_path / "o.png"))
    assert picture.shape == (40, 60, 3)
    np.testing.assert_array_equal(picture[10, 5], [0xE6, 0x9F, 0x00])
    inside, outside = picture[20, 12].astype(int), picture[5, 12].astype(int)
    assert inside[0] > inside[2]
    assert outside[0] == outside[1] == outside[2]
    assert picture[0, 0].max() < 10
    assert picture[0, -1].min() > 245


def test_overlay_shows_ct_in_the_soft_tissue_window(tmp_path: Path) -> None:
    scan = np.zeros((1, 2, 40, 60), np.int16)
    scan[0, 1] = np.linspace(-1000, 1000, 60)
    raster.write_overlay(tmp_path / "o.png", Volume(scan), labels_of(np.zeros((2, 40, 60), np.uint8)), z=1)
    row = np.asarray(Image.open(tmp_path / "o.png"))[0, :, 0]
    assert (row[scan[0, 1, 0] <= -160] == 0).all()
    assert (row[scan[0, 1, 0] >= 240] == 255).all()


def test_overlay_uses_class_colours_and_asked_slice(tmp_path: Path) -> None:
    prediction = labels_of(square((1, 9)), ((1, "a", "#FF0000"), (9, "b", "#0000FF")))
    scan = Volume(np.random.default_rng(0).random((3, 2, 40, 60)))
    picture = np.asarray(Image.open(raster.write_overlay(tmp_path / "o.png", scan, prediction, z=1)))
    np.testing.assert_array_equal(picture[10, 5], [255, 0, 0])
    np.testing.assert_array_equal(picture[10, 25], [0, 0, 255])
    empty = np.asarray(Image.open(raster.write_overlay(tmp_path / "e.png", scan, prediction, z=0)))
    assert not (empty == [255, 0, 0]).all(-1).any()


def test_overlay_of_constant_and_nan_scan(tmp_path: Path) -> None:
    scan = Volume(np.full((1, 2, 40, 60), np.nan))
    assert raster.write_overlay(tmp_path / "o.png", scan, labels_of(square())).exists()


def test_overlay_refuses_other_grid_and_slice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(2, 40, 60\).*\(1, 4, 4\)"):
        raster.write_overlay(tmp_path / "o.png", Volume(np.zeros((1, 1, 4, 4))), labels_of(square()))
    with pytest.raises(InputError, match="Slice 5"):
        raster.write_overlay(tmp_path / "o.png", Volume(np.zeros((1, 2, 40, 60))), labels_of(square()), z=5)
