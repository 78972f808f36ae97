from __future__ import annotations

import pytest

from napari_llm4seg.modalities import mismatch, modality, stated


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("US", "ultrasound"),
        ("breast-ultrasound", "ultrasound"),
        ("CT", "CT"),
        ("ct_abdomen", "CT"),
        ("MR", "MR"),
        ("abdominal MRI", "MR"),
        ("octopus", ""),
        ("", ""),
    ],
)
def test_modality(text, expected):
    assert modality(text) == expected


def test_stated_by_a_header():
    assert stated({}) == ""
    assert stated({"dicom": {"Modality": "CT"}}) == "CT"
    assert stated({"dicom": {"Modality": "CT"}, "modality": "MR"}) == "MR"
    assert stated({"dicom": None}) == ""


def test_a_mismatch_is_said_where_both_are_known():
    assert mismatch("CT", "breast ultrasound") == (
        "This model was trained on ultrasound; the scan is CT. Expect a poor mask."
    )
    for scan, model in (("", "ultrasound"), ("CT", "unknown"), ("US", "ultrasound")):
        assert mismatch(scan, model) == ""
