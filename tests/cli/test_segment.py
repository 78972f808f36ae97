"""``llm4seg segment``: where masks go, what is said about them, and that cases do not share their failures."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_llm4seg.cli.outputs import FORMATS, names_a_file
from napari_llm4seg.cli.segment import _target
from napari_llm4seg.io import WRITERS, read
from napari_llm4seg.predict import run
from napari_llm4seg.volume import Volume, affine_from_spacing
from tests.cli.helpers import save_model
from tests.io.made_dicom import made, save


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_folder_gets_a_png_for_an_image(llm4seg, everywhere, scan, tmp_path) -> None:
    answer = llm4seg("segment", scan, "-o", tmp_path / "out", "--model", everywhere)
    assert answer.status == 0
    mask = pixels(tmp_path / "out" / "scan_seg.png")
    assert mask.shape == (30, 40)
    assert (mask == 3).all()
    assert "lesion 1200 pixels (100.0 % of the scan)" in answer.out


def test_json_says_everything_once(llm4seg, everywhere, scan, tmp_path) -> None:
    answer = llm4seg("segment", scan, "-o", tmp_path / "mask.tif", "--model", everywhere, "--json", "--device", "cpu")
    found = answer.json
    case = found["cases"][0]
    assert case["input"] == str(scan)
    assert case["output"] == str(tmp_path / "mask.tif")
    assert case["classes"] == [{"value": 3, "name": "lesion", "pixels": 1200}]
    assert case["seconds"] >= 0
    assert found["model"] == "Everywhere"
    assert len(found["digest"]) == 64
    assert (found["failed"], found["device"], case["device"]) == (0, "cpu", "CPU")
    assert (np.asarray(read(tmp_path / "mask.tif").data) == 3).all()


def test_one_bad_case_does_not_stop_the_others(llm4seg, everywhere, scan, tmp_path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    answer = llm4seg("segment", broken, scan, tmp_path / "none.png", "-o", tmp_path / "out", "-m", everywhere, "--json")
    assert answer.status == 1
    assert [case["status"] for case in answer.json["cases"]] == ["failed", "ok", "failed"]
    assert answer.json["failed"] == 2
    assert (tmp_path / "out" / "scan_seg.png").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scan_seg.png", "scan_seg.record.json"]


def test_a_stack_in_mm_keeps_its_grid_and_gets_a_volume(llm4seg, everywhere, tmp_path) -> None:
    path = tmp_path / "ct.nii.gz"
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(20, 18, 4)).astype(np.float32), affine), path)
    answer = llm4seg("segment", path, "-o", tmp_path / "out", "-m", everywhere, "--json")
    mask = nib.load(tmp_path / "out" / "ct_seg.nii.gz")
    assert mask.shape == (20, 18, 4)
    np.testing.assert_allclose(mask.affine, affine, atol=1e-6)
    (row,) = answer.json["cases"][0]["classes"]
    assert row["pixels"] == 20 * 18 * 4
    assert row["volume_ml"] == pytest.approx(20 * 18 * 4 * 0.5 * 0.5 * 2 / 1000, abs=1e-4)


def test_a_stack_does_not_fit_a_png(llm4seg, everywhere, tmp_path) -> None:
    path = tmp_path / "stack.npy"
    np.save(path, np.zeros((3, 20, 20), np.uint8))
    answer = llm4seg("segment", path, "-o", tmp_path / "mask.png", "-m", everywhere)
    assert answer.status == 1
    assert "has 3 slices" in answer.err
    assert not (tmp_path / "mask.png").exists()


def test_overlay_and_probabilities(llm4seg, everywhere, scan, tmp_path) -> None:
    answer = llm4seg(
        "segment", scan, "-o", tmp_path / "mask.png", "-m", everywhere,
        "--overlay", tmp_path / "look.png", "--probabilities", tmp_path / "p.nii.gz",
    )  # fmt: skip
    assert answer.status == 0
    assert pixels(tmp_path / "look.png").shape == (30, 40, 3)
    probabilities = np.asarray(nib.load(tmp_path / "p.nii.gz").dataobj)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-2.0)), atol=1e-3)


def test_the_checkpoints_own_threshold_decides(llm4seg, tmp_path, scan) -> None:
    strict = save_model(tmp_path / "strict", "Strict", bias=2.0, threshold=0.9)
    answer = llm4seg("segment", scan, "-o", tmp_path / "mask.png", "-m", strict)
    assert not pixels(tmp_path / "mask.png").any()
    assert "nothing found" in answer.out


@pytest.mark.parametrize("name", ["mask.ima", "mask.jpg", "mask.xyz"])
def test_formats_that_cannot_be_written(llm4seg, scan, tmp_path, name) -> None:
    answer = llm4seg("segment", scan, "-o", tmp_path / name)
    assert answer.status == 2
    assert "cannot be written" in answer.err


def test_the_formats_named_here_are_those_that_can_be_written() -> None:
    assert set(FORMATS) == set(WRITERS)


def test_wrong_use(llm4seg, scan, tmp_path) -> None:
    assert llm4seg("segment", scan, scan, "-o", tmp_path / "one.png").status == 2
    assert llm4seg("segment", scan, scan, "-o", tmp_path, "--overlay", tmp_path / "o.png").status == 2
    assert llm4seg("segment", scan, "-o", tmp_path, "--overlay", tmp_path / "o.jpg").status == 2
    assert llm4seg("segment", scan, "-o", tmp_path, "--probabilities", tmp_path / "p.png").status == 2
    before = scan.read_bytes()
    assert llm4seg("segment", scan, "-o", scan).status == 2
    assert scan.read_bytes() == before


def test_an_unknown_model_names_those_there_are(llm4seg, everywhere, scan, tmp_path) -> None:
    answer = llm4seg("segment", scan, "-o", tmp_path, "--model", "nope")
    assert answer.status == 1
    assert "everywhere" in answer.err


@pytest.mark.parametrize(
    ("name", "is_file"),
    [("out", False), ("results.2026-11", False), ("x.nii.gz", True), ("x.NII.GZ", True), ("x.tif", True)],
)
def test_what_names_a_file(tmp_path, name, is_file) -> None:
    assert names_a_file(tmp_path / name) is is_file


def test_an_existing_folder_is_a_folder_whatever_its_name(tmp_path) -> None:
    (tmp_path / "folder.png").mkdir()
    assert names_a_file(tmp_path / "folder.png") is False


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]), st.sampled_from(["s", "t"]), st.sampled_from([".png", ".tif", ".nii.gz"])
        ),
        max_size=8,
    ),
    st.sampled_from([1, 3]),
    st.sampled_from(["mm", "pixel"]),
)
def test_no_mask_is_written_over_another(names, slices, unit) -> None:
    volume = Volume(np.zeros((1, slices, 4, 4)), affine_from_spacing((1, 1, 1)), unit=unit)
    taken: set[Path] = set()
    places = [_target(Path(folder) / (stem + end), volume, Path("out"), False, taken) for folder, stem, end in names]
    assert len(set(places)) == len(places)
    assert all(place.parent == Path("out") for place in places)
    assert slices == 1 or all(place.suffix != ".png" for place in places)


def test_a_series_is_listed_and_chosen(llm4seg, everywhere, tmp_path) -> None:
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    for number, (series, z) in enumerate([("1.1", 0), ("1.1", 5), ("2.2", 0)]):
        slice_ = made(np.zeros((8, 9), np.int16), series, ImagePositionPatient=[0, 0, z], **place)
        (tmp_path / "ct").mkdir(exist_ok=True)
        save(slice_, tmp_path / "ct" / str(number))
    answer = llm4seg("segment", tmp_path / "ct", "-o", tmp_path / "out", "-m", everywhere)
    assert answer.status == 1
    assert "--series N" in answer.err
    assert "1: CT, 2 slices of 9 × 8; 2: CT, 1 image of 9 × 8" in answer.err
    answer = llm4seg("segment", tmp_path / "ct", "--series", "1.1", "-o", tmp_path / "m.nii.gz", "-m", everywhere)
    assert answer.status == 0
    assert read(tmp_path / "m.nii.gz").n_slices == 2


def test_a_time_point_is_chosen(llm4seg, everywhere, tmp_path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 2, 6), np.uint8), np.eye(4)), tmp_path / "f.nii.gz")
    answer = llm4seg("segment", tmp_path / "f.nii.gz", "-o", tmp_path / "m.nii.gz", "-m", everywhere)
    assert (answer.status, "6 time points" in answer.err, "--time T" in answer.err) == (1, True, True)
    answer = llm4seg("segment", tmp_path / "f.nii.gz", "--time", 6, "-o", tmp_path / "m.nii.gz", "-m", everywhere)
    assert answer.status == 0
    assert read(tmp_path / "m.nii.gz").grid == (2, 8, 9)


def test_slices_of_another_plane_are_said_and_wrong_ones_refused(llm4seg, everywhere, tmp_path) -> None:
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), np.diag([-1.0, -1, 2, 1])), path)
    answer = llm4seg("segment", path, "-o", tmp_path / "out.nii.gz", "-m", everywhere, "--axis", "coronal", "--json")
    assert answer.status == 0
    assert any("5 slices (0, 1, 2, 3, 4) have" in message for message in answer.json["cases"][0]["messages"])
    assert nib.load(tmp_path / "out.nii.gz").shape == (6, 5, 4)
    again = llm4seg("segment", "--replay", tmp_path / "out.record.json", "--json")
    assert again.status == 0
    assert again.json["identical"] is True
    wrong = llm4seg("segment", path, "-o", tmp_path / "no.nii.gz", "-m", everywhere, "--axis", "frontal")
    assert wrong.status == 2
    assert "--axis 'frontal': there are stored, axial, coronal, sagittal." in wrong.err


def test_keeping_the_largest_pieces_is_recorded_and_repeated(llm4seg, everywhere, tmp_path, monkeypatch) -> None:
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), np.diag([-1.0, -1, 2, 1])), tmp_path / "ct.nii.gz")
    made = run.labels_from_probabilities
    monkeypatch.setattr(run, "labels_from_probabilities", lambda *how: made(*how) * (np.arange(6) != 2))
    arguments = ("segment", tmp_path / "ct.nii.gz", "-m", everywhere, "--json")
    assert llm4seg(*arguments, "-o", tmp_path / "all.nii.gz").json["cases"][0]["classes"][0]["pixels"] == 4 * 5 * 5
    answer = llm4seg(*arguments, "-o", tmp_path / "out.nii.gz", "--keep-largest")
    assert answer.status == 0, answer.err
    (case,) = answer.json["cases"]
    assert case["classes"][0]["pixels"] == 4 * 5 * 3
    assert "Of lesion the largest of 2 pieces was kept (80 mm³ removed)." in case["messages"]
    assert llm4seg("segment", "--replay", tmp_path / "out.record.json", "--json").json["identical"] is True


def test_a_dicom_seg_of_what_is_no_dicom_is_refused_before_the_run(
    llm4seg, everywhere, scan, tmp_path, monkeypatch
) -> None:
    from napari_llm4seg.predict import Predictor

    def never(*_, **__):
        raise AssertionError("the scan was segmented for nothing")

    monkeypatch.setattr(Predictor, "predict", never)
    answer = llm4seg("segment", scan, "-o", tmp_path / "mask.dcm", "-m", everywhere)
    assert answer.status == 1
    assert "'scan' did not come from one. Use .nii.gz" in answer.err


def test_a_model_that_nobody_named_is_named(llm4seg, everywhere, scan, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("napari_llm4seg.cli.predictor.default_model", lambda: "everywhere")
    answer = llm4seg("segment", scan, "-o", tmp_path / "mask.png")
    assert answer.err.startswith("No --model was given: 'everywhere' is taken.")
    assert "--model" not in llm4seg("segment", scan, "-o", tmp_path / "mask.png", "-m", "everywhere").err


def test_a_model_of_another_modality_is_doubted(llm4seg, everywhere, tmp_path) -> None:
    for code, doubted in (("CT", True), ("US", False)):
        slice_ = save(made(np.zeros((12, 16), np.uint8), Modality=code), tmp_path / code)
        answer = llm4seg("segment", slice_, "-o", tmp_path / "mask.nii.gz", "-m", everywhere)
        assert answer.status == 0
        assert ("trained on ultrasound; the scan is CT. Expect a poor mask." in answer.err) == doubted
