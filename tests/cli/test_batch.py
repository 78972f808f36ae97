"""``llm4seg segment FOLDER``: a batch on the command line."""

from __future__ import annotations

import csv

import numpy as np
from PIL import Image

from napari_llm4seg.io import write
from napari_llm4seg.volume import Volume, affine_from_spacing


def fill(folder):
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.full((30, 40), 90, np.uint8)).save(folder / f"{name}.png")
    write(
        folder / "deep" / "ct.nii.gz",
        Volume(np.zeros((1, 3, 8, 9), np.int16), affine_from_spacing((2, 1, 1)), unit="mm"),
    )
    return folder


def test_a_folder_of_scans_is_done_once(llm4seg, everywhere, tmp_path) -> None:
    folder, out = fill(tmp_path / "in"), tmp_path / "out"
    answer = llm4seg("segment", folder, "-o", out, "--model", everywhere)
    assert answer.status == 0
    assert "3/3 deep/ct: lesion 0.43 mL" in answer.out
    assert (out / "deep" / "ct_seg.nii.gz").is_file()
    assert (out / "a_seg.record.json").is_file()
    rows = list(csv.DictReader((out / "summary.csv").open()))
    assert [(row["case"], row["pixels"]) for row in rows] == [("a", "1200"), ("b", "1200"), ("deep/ct", "216")]
    again = llm4seg("segment", folder, "-o", out, "--model", everywhere, "--json")
    assert [case["status"] for case in again.json["cases"]] == ["skipped"] * 3
    assert again.json["skipped"] == 3
    assert again.json["cases"][0]["output"] == str(out / "a_seg.png")


def test_a_damaged_scan_is_told_and_tried_again(llm4seg, everywhere, tmp_path) -> None:
    folder, out = fill(tmp_path / "in"), tmp_path / "out"
    good = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(b"no image at all")
    answer = llm4seg("segment", folder, "-o", out, "-m", everywhere)
    assert answer.status == 1
    assert "2/3 b: 'b.png' is not a PNG" in answer.err
    assert "1 failed; run the command again" in answer.err
    (folder / "b.png").write_bytes(good)
    answer = llm4seg("segment", folder, "-o", out, "-m", everywhere, "--json")
    assert answer.status == 0
    assert [case["status"] for case in answer.json["cases"]] == ["skipped", "ok", "skipped"]


def test_results_inside_the_folder_are_no_cases(llm4seg, everywhere, tmp_path) -> None:
    folder = fill(tmp_path / "in")
    for _ in range(2):
        answer = llm4seg("segment", folder, "-o", folder / "masks", "-m", everywhere, "--json")
        assert len(answer.json["cases"]) == 3


def test_wrong_use(llm4seg, everywhere, tmp_path) -> None:
    folder = fill(tmp_path / "in")
    assert llm4seg("segment", folder, "-o", tmp_path / "one.nii.gz", "-m", everywhere).status == 2
    answer = llm4seg("segment", folder, "-o", tmp_path / "o", "--overlay", tmp_path / "x.png", "-m", everywhere)
    assert answer.status == 2
    assert "holds 3 scans" in answer.err
    (tmp_path / "none").mkdir()
    answer = llm4seg("segment", tmp_path / "none", "-o", tmp_path / "o", "-m", everywhere)
    assert answer.status == 1
    assert "No scan was found" in answer.err
