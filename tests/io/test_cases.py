"""The cases of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.io import read
from napari_llm4seg.io.cases import find_cases


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)


def names(folder, **how):
    return [case.name for case in find_cases(folder, **how)]


def test_files_of_sub_folders_keep_their_place(tmp_path):
    for name in ("b.png", "a.png", "one/ct.png", "two/ct.tif"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no scan")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    assert names(tmp_path) == ["a", "b", "one/ct", "two/ct"]
    assert find_cases(tmp_path)[2].path == tmp_path / "one" / "ct.png"


def test_results_are_no_cases(tmp_path):
    for name in ("a.png", "a_seg.png", "a_seg_2.png", "out/a.png", "segment.png"):
        picture(tmp_path / name)
    assert names(tmp_path, leave_out=tmp_path / "out") == ["a", "segment"]


def test_equal_names_are_numbered_apart(tmp_path):
    for name in ("a.bmp", "a.png", "a.tif", "a_2.png"):
        picture(tmp_path / name)
    found = find_cases(tmp_path)
    assert len({case.name for case in found}) == 4
    by_path = {case.path.name: case.name for case in found}
    assert by_path["a_2.png"] == "a_2", "a name of its own is not taken away"
    assert by_path["a.bmp"] == "a"


def test_a_folder_of_dicom_files_is_one_case(tmp_path):
    from pydicom.data import get_testdata_file

    source = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    for name in ("patient/1.dcm", "patient/noending"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(source)
    (tmp_path / "uid").mkdir()
    (tmp_path / "uid" / "CT.1.3.12.2.1107").write_bytes(source)
    picture(tmp_path / "x.png")
    assert names(tmp_path)[-1] == "x"
    assert {tmp_path / "patient", tmp_path / "uid"} <= {case.path for case in find_cases(tmp_path)}


def test_each_series_of_a_folder_is_a_case_of_its_own(tmp_path):
    from pydicom import dcmread
    from pydicom.data import get_testdata_file
    from pydicom.uid import generate_uid

    source = dcmread(get_testdata_file("CT_small.dcm"))
    for name, words in (("one", "Thorax (2 mm)"), ("sub/two", "Abdomen")):
        source.SeriesInstanceUID, source.SeriesDescription = generate_uid(), words
        source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        (tmp_path / "export" / name).parent.mkdir(parents=True, exist_ok=True)
        source.save_as(tmp_path / "export" / name)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "x.dcm").write_bytes(b"no DICOM")
    found = find_cases(tmp_path)
    assert found[0].name == "damaged", "it fails when its turn comes"
    assert sorted(case.name[:9] for case in found[1:]) == ["export/01", "export/02"]
    assert any(case.name.endswith("Thorax_2_mm") for case in found)
    assert len({read(case.path, series=case.series).metadata["dicom"]["SeriesInstanceUID"] for case in found[1:]}) == 2


def test_a_zarr_is_one_case(tmp_path):
    for name in ("big.ome.zarr/.zattrs", "plain.zarr/zarr.json", "big.ome.zarr/0/.zarray"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert names(tmp_path) == ["big", "plain"]
    assert names(tmp_path / "plain.zarr") == ["plain"]


def test_nothing_to_do_is_said(tmp_path):
    with pytest.raises(InputError, match="No scan was found"):
        find_cases(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        find_cases(tmp_path / "absent")
    picture(tmp_path / "a.png")
    with pytest.raises(Cancelled):
        find_cases(tmp_path, cancel=lambda: True)
