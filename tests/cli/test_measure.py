"""``llm4seg measure``: tables for people and for programs, with the scan's grid and against another mask."""

from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

AFFINE = np.diag([0.5, 0.5, 2.0, 1.0])


@pytest.fixture
def labels():
    """(x, y, z) as NIfTI has it: a box of class 1, two voxels of class 4 apart."""
    labels = np.zeros((20, 18, 6), np.uint8)
    labels[4:14, 5:11, 1:4] = 1
    labels[1, 1, 5] = labels[18, 16, 5] = 4
    return labels


def save(path, array, affine=AFFINE):
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def test_a_table_for_people(llm4seg, tmp_path, labels) -> None:
    answer = llm4seg("measure", save(tmp_path / "mask.nii.gz", labels))
    assert answer.status == 0
    head, one, four = answer.out.splitlines()
    assert head.split("  ")[0] == "class"
    assert one.split() == ["label", "1", "90", "mm³", "1", "–", "7.9"]
    assert four.split()[:5] == ["label", "4", "1", "mm³", "2"]


def test_json_and_csv_say_the_same(llm4seg, tmp_path, labels) -> None:
    scan = np.random.default_rng(0).normal(50, 9, labels.shape).astype(np.float32)
    # the scan runs against the mask's rows: the affine brings them together
    turned = AFFINE.copy()
    turned[0, 0], turned[0, 3] = -0.5, 0.5 * 19
    place = tmp_path / "out" / "table.csv"
    answer = llm4seg(
        "measure", save(tmp_path / "mask.nii.gz", labels),
        "--scan", save(tmp_path / "scan.nii.gz", scan[::-1].copy(), turned), "--csv", place, "--json",
    )  # fmt: skip
    assert answer.status == 0
    one, four = answer.json["classes"]
    assert (one["value"], one["name"], one["pixels"], one["volume_ml"], one["components"]) == (
        1,
        "label 1",
        180,
        0.09,
        1,
    )
    assert one["mean"] == pytest.approx(scan[labels == 1].mean(), rel=1e-5)
    assert one["sd"] == pytest.approx(scan[labels == 1].std(), rel=1e-4)
    assert four["components"] == 2
    with place.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == [one["mean"], four["mean"]]
    assert set(rows[0]) == set(one)


def test_a_picture_has_an_area_in_pixels(llm4seg, tmp_path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[5:10, 5:25] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    answer = llm4seg("measure", tmp_path / "mask.png", "--json")
    (row,) = answer.json["classes"]
    assert (row["pixels"], row["diameter_pixel"]) == (100, pytest.approx(np.hypot(20, 4)))
    assert "volume_ml" not in row


@pytest.mark.slow
def test_against_another_mask_of_another_grid(llm4seg, tmp_path, labels) -> None:
    moved = np.zeros_like(labels)
    moved[6:16, 5:11, 1:4] = 1
    turned = AFFINE.copy()
    turned[0, 0], turned[0, 3] = -0.5, 0.5 * 19
    arguments = (
        "measure", save(tmp_path / "mask.nii.gz", labels),
        "--against", save(tmp_path / "other.nii.gz", moved[::-1].copy(), turned), "--tolerance", 1,
    )  # fmt: skip
    one, four = llm4seg(*arguments, "--json").json["classes"]
    assert (one["dice"], one["hd95_mm"], one["surface_dice"], one["tolerance_mm"]) == (
        0.8,
        pytest.approx(1.0),
        1.0,
        1.0,
    )
    assert (four["dice"], four["hd95_mm"], four["other_pixels"]) == (0.0, None, 0)
    answer = llm4seg(*arguments)
    assert "surface Dice at 1 mm" in answer.out
    assert "another grid" in answer.err


def test_an_empty_mask_and_wrong_use(llm4seg, tmp_path, labels) -> None:
    empty = save(tmp_path / "empty.nii.gz", np.zeros_like(labels))
    assert "no label" in llm4seg("measure", empty).out
    before = empty.read_bytes()
    assert llm4seg("measure", empty, "--csv", empty).status == 2
    assert empty.read_bytes() == before
    assert llm4seg("measure", empty, "--tolerance", -1).status == 2
    small = save(tmp_path / "small.nii.gz", labels[:5])
    answer = llm4seg("measure", small, "--scan", save(tmp_path / "scan.nii.gz", labels.astype(np.float32)))
    assert (answer.status, "but its image has" in answer.err) == (1, True)
    assert llm4seg("measure", tmp_path / "nowhere.nii.gz").status == 1
