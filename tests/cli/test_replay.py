"""``llm4seg segment --replay``: identical, different, moved, wrong."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
from PIL import Image

from napari_llm4seg.io import read
from tests.cli.helpers import save_model


def test_a_recorded_run_is_repeated(llm4seg, everywhere, scan, tmp_path) -> None:
    assert llm4seg("segment", scan, "-o", tmp_path / "out" / "mask.tif", "-m", everywhere).status == 0
    record = tmp_path / "out" / "mask.record.json"
    answer = llm4seg("segment", "--replay", record)
    assert answer.status == 0
    assert "Identical" in answer.out
    again = llm4seg("segment", "--replay", record, "-o", tmp_path / "again.nii.gz", "--json")
    assert (again.json["identical"], again.json["differing_voxels"], again.json["differences"]) == (True, 0, [])
    np.testing.assert_array_equal(read(tmp_path / "again.nii.gz").data, read(tmp_path / "out" / "mask.tif").data)
    assert (tmp_path / "again.record.json").exists()


def test_a_folder_of_results_moved_elsewhere_still_finds_its_scan_and_model(llm4seg, tmp_path, scan) -> None:
    model = save_model(tmp_path / "case" / "model", "Local", 2.0)
    shutil.move(scan, tmp_path / "case" / "scan.png")
    llm4seg("segment", tmp_path / "case" / "scan.png", "-o", tmp_path / "case" / "m.png", "-m", model)
    shutil.move(tmp_path / "case", tmp_path / "elsewhere")
    assert llm4seg("segment", "--replay", tmp_path / "elsewhere" / "m.record.json").status == 0


def test_another_scan_and_model_are_said_and_counted(llm4seg, everywhere, scan, tmp_path) -> None:
    llm4seg("segment", scan, "-o", tmp_path / "mask.nii.gz", "-m", everywhere)
    nowhere = save_model(tmp_path / "nowhere", "Nowhere", -2.0)
    other = tmp_path / "other.png"
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(other)
    record = tmp_path / "mask.record.json"
    answer = llm4seg("segment", "--replay", record, other, "-m", nowhere, "--json")
    assert answer.status == 1
    found = answer.json
    assert found["identical"] is False
    assert found["differing_voxels"] == 1200
    assert found["classes"][0]["dice"] == 0
    assert any("values" in sentence for sentence in found["differences"])
    assert any("Nowhere" in sentence for sentence in found["differences"])
    said = llm4seg("segment", "--replay", record, other, "-m", nowhere)
    assert "1200 of 1200 voxels differ" in said.out
    assert "1200 voxels then, 0 now, Dice 0.0000" in said.out


def test_what_is_missing_is_one_line(llm4seg, everywhere, scan, tmp_path) -> None:
    llm4seg("segment", scan, "-o", tmp_path / "mask.png", "-m", everywhere)
    record = tmp_path / "mask.record.json"
    kept = scan.read_bytes()
    scan.unlink()
    answer = llm4seg("segment", "--replay", record)
    assert (answer.status, "is not at" in answer.err) == (1, True)
    scan.write_bytes(kept)
    shutil.rmtree(tmp_path / "cache")
    answer = llm4seg("segment", "--replay", record)
    assert (answer.status, "Give it with --model" in answer.err) == (1, True)
    assert llm4seg("segment", "--replay", tmp_path / "none.json").status == 1


def test_wrong_use(llm4seg, scan, tmp_path) -> None:
    assert llm4seg("segment", "-o", tmp_path / "m.png").status == 2
    assert llm4seg("segment", scan).status == 2
    (tmp_path / "r.json").write_text("{}")
    assert llm4seg("segment", "--replay", tmp_path / "r.json", scan, scan).status == 2
    assert llm4seg("segment", "--replay", tmp_path / "r.json", "-o", tmp_path).status == 2


def test_a_nifti_scan_with_its_own_grid(llm4seg, everywhere, tmp_path) -> None:
    affine = np.array([[0.0, -0.5, 0, 3], [0.7, 0, 0, -4], [0, 0, 2.5, 9], [0, 0, 0, 1]])
    values = np.random.default_rng(0).normal(size=(10, 12, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "ct.nii.gz")
    llm4seg("segment", tmp_path / "ct.nii.gz", "-o", tmp_path / "out", "-m", everywhere)
    answer = llm4seg("segment", "--replay", tmp_path / "out" / "ct_seg.record.json", "--json")
    assert (answer.status, answer.json["identical"]) == (0, True)
