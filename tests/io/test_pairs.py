"""Which mask belongs to which image, and what its values mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import read, write
from napari_llm4seg.io.pairs import _turned, find_pairs, read_mask
from napari_llm4seg.volume import Volume, affine_from_spacing

DISC = (np.hypot(*np.mgrid[-20:20, -25:25]) < 12).astype(np.uint8)


def folders(tmp_path: Path, images: list[str], masks: list[str]) -> tuple[Path, Path]:
    for folder, names in (("images", images), ("masks", masks)):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"x")
    return tmp_path / "images", tmp_path / "masks"


def test_pairs_match_by_stem(tmp_path: Path) -> None:
    where = folders(
        tmp_path,
        ["b.jpg", "a.nii.gz", "c.x.PNG", "Thumbs.db", ".hidden.png"],
        ["a.png", "b.nii.gz", "c.x.tif", "more.png"],
    )
    pairs = find_pairs(*where)
    assert [(pair.stem, pair.image.name, pair.mask.name) for pair in pairs] == [
        ("a", "a.nii.gz", "a.png"),
        ("b", "b.jpg", "b.nii.gz"),
        ("c.x", "c.x.PNG", "c.x.tif"),
    ]


@pytest.mark.parametrize(
    ("images", "masks", "patterns", "expected"),
    [
        (
            ["img0002.nii.gz", "img0001.nii.gz"],
            ["label0001.nii.gz", "label0002.nii.gz"],
            ("img{}", "label{}"),
            [("img0001", "label0001.nii.gz"), ("img0002", "label0002.nii.gz")],
        ),
        (["a.jpg"], ["a_segmentation.png", "a.png"], ("{}", "{}_segmentation"), [("a", "a_segmentation.png")]),
        (["a.JPG", "a_superpixels.png"], ["a_Mask.tif"], ("{}.jpg", "{}_Mask"), [("a", "a_Mask.tif")]),
        (["c.x.PNG", "other.png"], ["m-c.x.png", "c.x.png"], ("c{}", "m-c{}"), [("c.x", "m-c.x.png")]),
    ],
)
def test_pairs_whose_stems_differ_match_by_patterns(
    tmp_path: Path, images: list[str], masks: list[str], patterns: tuple[str, str], expected: list[tuple[str, str]]
) -> None:
    pairs = find_pairs(*folders(tmp_path, images, masks), *patterns)
    assert [(pair.stem, pair.mask.name) for pair in pairs] == expected


def test_what_fits_no_pattern_is_said(tmp_path: Path) -> None:
    where = folders(tmp_path, ["img1.png", "img2.png"], ["label1.png", "img.png"])
    with pytest.raises(InputError, match=r"1 of 2 images have no mask called label2 .*img2\.png"):
        find_pairs(*where, "img{}", "label{}")
    with pytest.raises(InputError, match=r"None of the images in .* is called 'scan\{\}'; one is called img1\.png"):
        find_pairs(*where, "scan{}", "label{}")
    with pytest.raises(InputError, match=r"None of the masks .*'\{\}_mask'"):
        find_pairs(*where, "img{}", "{}_mask")


def test_unpaired_images_are_named(tmp_path: Path) -> None:
    where = folders(tmp_path, [f"i{n}.png" for n in range(9)], ["i0.png", "i1_mask.png"])
    with pytest.raises(InputError, match=r"8 of 9 images.*i1\.png, i2\.png, i3\.png \.\.\..*i0\.png"):
        find_pairs(*where)


def test_folders_that_do_not_serve(tmp_path: Path) -> None:
    images, masks = folders(tmp_path, ["a.png", "a.tif"], [])
    with pytest.raises(InputError, match=r"a\.png and a\.tif"):
        find_pairs(images, masks)
    (images / "a.tif").unlink()
    with pytest.raises(InputError, match="no masks"):
        find_pairs(images, masks)
    with pytest.raises(InputError, match="is a file"):
        find_pairs(images / "a.png", masks)
    with pytest.raises(InputError, match="no file or folder"):
        find_pairs(images, tmp_path / "absent")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 255), (0, 1)),
        ((255, 255), (1, 1)),
        ((0, 0), (0, 0)),
        ((0, 1), (0, 1)),
        ((1, 3), (1, 3)),
        ((0, 254), (0, 254)),
    ],
)
def test_meaning_of_values(tmp_path: Path, values: tuple[int, int], expected: tuple[int, int]) -> None:
    Image.fromarray(np.array([values], np.uint8)).save(tmp_path / "m.png")
    labels = read_mask(tmp_path / "m.png", (1, 1, 2))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[list(expected)]]


def test_labels_with_255_for_unannotated_stay(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 3, 4, 5, 255]], np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", (1, 1, 7))[0], values)


def test_one_bit_palette_colour_and_wide_masks(tmp_path: Path) -> None:
    grid = (1, *DISC.shape)
    Image.fromarray(DISC * 255).convert("1").save(tmp_path / "bit.png")
    indices = Image.fromarray(DISC * 2, mode="P")
    indices.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    indices.save(tmp_path / "palette.png")
    Image.fromarray(DISC * 255).convert("RGBA").save(tmp_path / "rgba.png")
    for name, value in (("bit", 1), ("palette", 2), ("rgba", 1)):
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png", grid)[0], DISC * value)
    wide = Volume((DISC.astype(np.int32) * 1234)[None, None], kind="label")
    labels = read_mask(write(tmp_path / "wide.tif", wide), grid)
    assert labels.dtype == np.uint16
    assert labels.max() == 1234


def test_a_jpeg_mask_is_cut_in_the_middle(tmp_path: Path) -> None:
    bands = np.repeat(np.array([0, 100, 155, 255], dtype=np.uint8), 16)  # 16 wide: no band shares a JPEG block
    Image.fromarray(np.tile(bands, (16, 1))).save(tmp_path / "m.jpg", quality=95)
    found = read_mask(tmp_path / "m.jpg", (1, 16, 64))
    np.testing.assert_array_equal(found[0], np.tile(bands > 127, (16, 1)))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_lossy_masks_are_cut_in_the_middle(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(DISC * 255).save(tmp_path / "m.jpg", quality=95)
    with Image.open(tmp_path / "m.jpg") as image:
        lossy = np.asarray(image)
    assert not set(np.unique(lossy)) <= {0, 255}
    if suffix == "png":
        # Ringing stays near both ends where the outline is sharp; the few greys between are what a re-save removes.
        Image.fromarray(np.where(lossy > 127, np.maximum(lossy, 230), np.minimum(lossy, 20))).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / f"m.{suffix}", (1, *DISC.shape))[0], DISC)


def test_masks_that_cannot_be_labels(tmp_path: Path) -> None:
    Image.fromarray(DISC).save(tmp_path / "dark.jpg", quality=100)
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "photo.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).save(tmp_path / "colour.png")
    np.save(tmp_path / "half.npy", np.full((4, 4), 0.5))
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    np.save(tmp_path / "minus.npy", np.full((4, 4), -1))
    np.save(tmp_path / "two.npy", np.zeros((2, 1, 4, 4)))
    for name, grid, words in [
        ("dark.jpg", (1, *DISC.shape), "blurs label values"),
        ("photo.png", (1, 16, 16), "256 grey values"),
        ("colour.png", (1, 9, 9), "colour image"),
        ("half.npy", (1, 4, 4), "fractions"),
        ("nan.npy", (1, 4, 4), "NaN"),
        ("minus.npy", (1, 4, 4), "-1 to -1"),
        ("two.npy", (1, 4, 4), "2 channels"),
    ]:
        with pytest.raises(InputError, match=words):
            read_mask(tmp_path / name, grid)


def test_other_size_names_both(tmp_path: Path) -> None:
    Image.fromarray(DISC).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"'m\.png' has 1 slice\(s\) of 40 x 50 .* 1 slice\(s\) of 41 x 50"):
        read_mask(tmp_path / "m.png", (1, 41, 50))
    with pytest.raises(InputError, match="41 x 50"):
        read_mask(tmp_path / "m.png", Volume(np.zeros((3, 1, 41, 50))))


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([1, -1])] * 3), st.integers(0, 999))
def test_mask_in_another_orientation_is_turned_onto_the_scan(
    order: list[int], signs: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 9, (3, 4, 5)).astype(np.uint8)
    affine = affine_from_spacing((3.0, 0.7, 0.5))
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ affine[:3, :3]
    affine[:3, 3] = rng.normal(size=3) * 90
    scan = Volume(np.zeros((1, 3, 4, 5)), affine, unit="mm")
    # The same voxels stored in another order: index of the stored array -> index of the scan.
    stored = labels[tuple(slice(None, None, sign) for sign in signs)].transpose(order)
    to_scan = np.eye(4)
    for axis, sign in enumerate(signs):
        if sign < 0:
            to_scan[axis, axis], to_scan[axis, 3] = -1, labels.shape[axis] - 1
    to_scan = to_scan @ np.eye(4)[:, [*order, 3]]
    mask = Volume(stored[None], affine @ to_scan, kind="label", unit="mm")
    np.testing.assert_array_equal(_turned(stored, mask, scan, "m"), labels)


def test_mask_elsewhere_is_refused(tmp_path: Path) -> None:
    scan = Volume(np.zeros((1, 3, 4, 5)), affine_from_spacing((3, 1, 1)), unit="mm")
    moved = affine_from_spacing((3, 1, 1))
    moved[1, 3] = 7
    coarse = affine_from_spacing((3, 2, 2))
    for affine in (moved, coarse):
        path = write(tmp_path / "m.nii.gz", Volume(np.ones((1, 3, 4, 5), np.uint8), affine, kind="label", unit="mm"))
        with pytest.raises(InputError, match="elsewhere"):
            read_mask(path, scan)
        assert read_mask(path, scan.grid).shape == scan.grid


@pytest.mark.data
def test_real_labels_that_run_against_the_dicom_rows(data_dir: Path) -> None:
    folder = data_dir / "totalsegmentator_examples"
    if not (folder / "example_ct_dicom").is_dir():
        pytest.skip(f"{folder} is absent")
    scan = read(folder / "example_ct_dicom")
    labels = read_mask(folder / "example_seg_dicom.nii.gz", scan)
    as_stored = read(folder / "example_seg_dicom.nii.gz").data[0]
    assert not np.array_equal(labels, as_stored)
    # Organs are soft tissue; in a wrong orientation much of the labels lies in air.
    values = scan.data[0]
    assert np.mean(values[labels > 0] < -500) < np.mean(values[as_stored > 0] < -500)


@pytest.mark.data
@pytest.mark.parametrize("name", ["busi", "isic2017_256", "kvasir_256"])
def test_real_folders_pair_and_read(data_dir: Path, name: str) -> None:
    folder = data_dir / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    pairs = find_pairs(folder / "images", folder / "masks")
    for pair in pairs[:: len(pairs) // 20]:
        image = read(pair.image)
        assert set(np.unique(read_mask(pair.mask, image))) <= {0, 1}
