"""``llm4seg evaluate``: means, rows and failures."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folders(tmp_path: Path, scan: Path) -> tuple[Path, Path]:
    """Two scans; a model that says "lesion" everywhere is right on the first and half right on the second."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    half = np.zeros((30, 40), np.uint8)
    half[:15] = 255
    for name, mask in (("whole", np.full((30, 40), 255, np.uint8)), ("half", half)):
        shutil.copy(scan, images / f"{name}.png")
        Image.fromarray(mask).save(masks / f"{name}.png")
    return images, masks


@pytest.mark.slow
def test_means_and_rows(llm4seg, everywhere, folders, tmp_path) -> None:
    images, masks = folders
    rows = tmp_path / "out" / "rows.csv"
    answer = llm4seg(
        "evaluate", "--model", everywhere, "--images", images, "--masks", masks, "--json", "--per-case", rows
    )
    assert answer.status == 0
    found = answer.json
    assert found["n"] == 2
    assert found["iou"] == pytest.approx(0.75)
    assert found["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["hd95_mm"] > 0
    assert found["config"]["checkpoint"] == "Everywhere"
    with rows.open(newline="") as file:
        assert {row["case"]: float(row["iou"]) for row in csv.DictReader(file)} == {"whole": 1.0, "half": 0.5}
    text = llm4seg("evaluate", "--model", everywhere, "--images", images, "--masks", masks).out
    assert "IoU 0.7500" in text


def test_a_case_without_score_is_named(llm4seg, everywhere, folders) -> None:
    images, masks = folders
    (images / "half.png").write_bytes(b"broken")
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(masks / "whole.png")
    answer = llm4seg("evaluate", "--model", everywhere, "--images", images, "--masks", masks, "--json")
    assert answer.status == 1
    assert "half" in answer.err
    assert answer.json["n"] == 1
    assert [failure["case"] for failure in answer.json["failed"]] == ["half"]


def test_no_folder(llm4seg, everywhere, tmp_path) -> None:
    answer = llm4seg("evaluate", "--model", everywhere, "--images", tmp_path / "no", "--masks", tmp_path)
    assert answer.status == 1
    assert len(answer.err.strip().splitlines()) == 1
