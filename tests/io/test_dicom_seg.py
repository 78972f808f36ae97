"""DICOM-SEG: voxels and places against highdicom and pydicom, the validator, and what cannot be written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import read, write
from napari_llm4seg.io._dicom_codes import concepts_for
from napari_llm4seg.volume import Volume
from tests.io.geometry import CLASSES, corners, oblique
from tests.io.test_dicom import CARRIED, made, save

FILES = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
PROVENANCE = {"checkpoint": {"name": "abdomen", "sha256": "ab" * 32}, "versions": {"napari-llm4seg": "0.1.0"}}
PATIENT = {"PatientName": "Müller^Änne", "PatientID": "42", "SpecificCharacterSet": "ISO_IR 100", "StudyID": "7"}


def scan_in(folder: Path, shape: tuple[int, int, int], affine: np.ndarray, **elements: Any) -> Volume:
    """Save a CT series on a grid and read it."""
    folder.mkdir()
    down, across = np.linalg.norm(affine[:3, 1:3], axis=0)
    cosines = [*(affine[:3, 2] / across)[::-1], *(affine[:3, 1] / down)[::-1]]
    for z in range(shape[0]):
        pixels = np.full(shape[1:], z, np.int16)
        header = made(
            pixels,
            "1.2.3.4",
            FrameOfReferenceUID="1.2.3.5",
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            ImageOrientationPatient=[float(f"{part:.12g}") for part in cosines],
            ImagePositionPatient=[float(f"{part:.10g}") for part in (affine[:3, 3] + z * affine[:3, 0])[::-1]],
            PixelSpacing=[float(f"{down:.12g}"), float(f"{across:.12g}")],
            SliceThickness=1.0,
            InstanceNumber=z + 1,
            SeriesNumber=3,
            **{"StudyInstanceUID": "1.2.3", **PATIENT, **elements},
        )
        save(header, folder / f"{shape[0] - z:03d}")
    return read(folder)


def labelled(scan: Volume, seed: int = 0, **metadata: Any) -> Volume:
    values = np.random.default_rng(seed).integers(0, 3, (1, *scan.grid)).astype(np.uint8)
    about = {**scan.metadata, "classes": CLASSES, "provenance": PROVENANCE, **metadata}
    return scan.with_data(values, kind="label", metadata=about)


def errors_of(path: Path) -> list[str]:
    """Return what the validator finds wrong; skips where it is not installed."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert "Segmentation" in said
    return [line for line in said.splitlines() if line.startswith("Error")]


@FILES
@given(st.integers(0, 2**31), st.tuples(*[st.floats(0.3, 6)] * 3), st.sampled_from([(4, 3, 5), (2, 8, 8), (1, 5, 4)]))
def test_highdicom_finds_the_same_voxels_at_the_same_places(
    tmp_path_factory: pytest.TempPathFactory, seed: int, spacing: tuple[float, float, float], shape
) -> None:
    folder = tmp_path_factory.mktemp("seg")
    scan = scan_in(folder / "scan", shape, oblique(seed, spacing, flipped=False))
    labels = labelled(scan, seed)
    found = highdicom.seg.segread(write(folder / "m.dcm", labels))
    volume = found.get_volume(combine_segments=True, allow_missing_positions=True)
    # highdicom numbers the slices along the other normal where the rows ask for it, and leaves empty ones out
    to_index = np.linalg.inv(scan.affine)
    seen = np.zeros_like(labels.data[0])
    for place in np.ndindex(*volume.spatial_shape):
        world = (volume.affine @ (*place, 1.0))[:3][::-1]
        index = (to_index @ (*world, 1.0))[:3]
        np.testing.assert_allclose(index * scan.spacing, np.round(index) * scan.spacing, atol=1e-3)
        z, y, x = np.round(index).astype(int)
        seen[z, y, x] = (0, 1, 2, 7)[int(volume.array[place])]
    np.testing.assert_array_equal(seen, labels.data[0])


@FILES
@given(st.integers(0, 2**31), st.tuples(*[st.floats(0.3, 6)] * 3), st.floats(-0.6, 0.6))
def test_it_reads_back_on_its_place_also_tilted_and_with_slices_left_out(
    tmp_path_factory: pytest.TempPathFactory, seed: int, spacing: tuple[float, float, float], tilt: float
) -> None:
    folder = tmp_path_factory.mktemp("seg")
    affine = oblique(seed, spacing, flipped=False)
    affine[:3, 0] += tilt * affine[:3, 1] / spacing[1]
    scan = scan_in(folder / "scan", (6, 3, 5), affine)
    labels = labelled(scan, seed)
    labels.data[:, [0, 3]] = 0
    labels.data[:, [1, 5], 0, 0] = 2
    back = read(write(folder / "m.dcm", labels))
    assert back.kind == "label"
    assert back.metadata["classes"] == CLASSES
    np.testing.assert_array_equal(back.data, labels.data[:, 1:])
    expected = scan.affine @ (corners((5, 3, 5)) + np.array([[1], [0], [0], [0]]))
    np.testing.assert_allclose(back.affine @ corners(back.grid), expected, atol=1e-4)


def test_the_validator_finds_no_error(tmp_path: Path) -> None:
    scan = scan_in(tmp_path / "scan", (4, 8, 8), np.diag([3.0, 0.5, 0.5, 1.0]))
    assert errors_of(write(tmp_path / "m.dcm", labelled(scan))) == []


def test_it_refers_to_its_source_and_keeps_the_patient(tmp_path: Path) -> None:
    scan = scan_in(tmp_path / "scan", (3, 8, 8), np.diag([3.0, 0.5, 0.5, 1.0]))
    found = pydicom.dcmread(write(tmp_path / "m.dcm", labelled(scan)))
    source = pydicom.dcmread(tmp_path / "scan" / "001")
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyID"):
        assert found[name].value == source[name].value
    series = found.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == {
        str(each["uid"]) for each in scan.metadata["dicom"]["slices"]
    }
    assert found.SeriesInstanceUID != source.SeriesInstanceUID
    segment = found.SegmentSequence[1]
    assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("left kidney", "AUTOMATIC")
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("64033007", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert found.SegmentSequence[2].SegmentLabel == "Läsion 3"
    colour = highdicom.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
    assert "#{:02X}{:02X}{:02X}".format(*colour) == CLASSES[1][2]


def test_identifiers_that_were_taken_out_are_made_up_and_said(tmp_path: Path) -> None:
    from napari_llm4seg.predict.export import export

    bare = {"StudyInstanceUID": "", "SeriesInstanceUID": "", "SOPClassUID": "", "SOPInstanceUID": ""}
    scan = scan_in(tmp_path / "scan", (2, 8, 8), np.diag([3.0, 0.5, 0.5, 1.0]), **bare)
    found = []
    for name in ("a.dcm", "b.dcm"):
        written = export(tmp_path / name, labelled(scan, provenance={}), scan)
        assert "made-up" in written.messages[0]
        found.append(pydicom.dcmread(tmp_path / name))
    assert found[0].StudyInstanceUID == found[1].StudyInstanceUID != ""
    source = pydicom.dcmread(tmp_path / "scan" / "001")
    referenced = found[0].ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert source.file_meta.MediaStorageSOPInstanceUID in {item.ReferencedSOPInstanceUID for item in referenced}
    assert errors_of(tmp_path / "a.dcm") == []
    whole = scan_in(tmp_path / "whole", (2, 8, 8), np.diag([3.0, 0.5, 0.5, 1.0]))
    assert export(tmp_path / "c.dcm", labelled(whole), whole).messages == ()


def test_labels_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    scan = scan_in(tmp_path / "scan", (3, 8, 8), oblique(4, (3.0, 0.5, 0.5), flipped=False))
    other = enhanced(tmp_path / "e.dcm")
    for source in (scan, other):
        moved = source.affine.copy()
        moved[2, 3] += 1
        mirrored = source.affine.copy()
        mirrored[:3, 3] += mirrored[:3, 1] * (source.grid[1] - 1)
        mirrored[:3, 1] *= -1
        for affine in (moved, mirrored):
            with pytest.raises(InputError, match="does not lie on the slices"):
                write(tmp_path / "m.dcm", labelled(source).with_data(labelled(source).data, affine=affine))
        assert write(tmp_path / "m.dcm", labelled(source)).exists()


def test_painted_labels_become_segments_too(tmp_path: Path) -> None:
    scan = scan_in(tmp_path / "scan", (2, 8, 8), np.diag([3.0, 0.5, 0.5, 1.0]))
    labels = labelled(scan, provenance={})
    labels.data[0, 0, 0, 0] = 9
    back = read(write(tmp_path / "m.dcm", labels))
    assert back.data[0, 0, 0, 0] == 9
    assert [name for _, name, _ in back.metadata["classes"]] == ["liver", "left kidney", "Läsion 3", "label 9"]
    assert pydicom.dcmread(tmp_path / "m.dcm").SegmentSequence[0].SegmentAlgorithmType == "MANUAL"


def enhanced(path: Path) -> Volume:
    """Save an enhanced MR file whose frames lie in another order than their places, and read it."""
    frames = np.arange(4 * 8 * 8, dtype=np.uint16).reshape(4, 8, 8)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [0.5, 0.75], 2, 2
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    groups = []
    for z in (4, 0, 2, 6):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [1, 2, z]
        group.PlanePositionSequence = [position]
        groups.append(group)
    dataset = made(
        frames,
        SOPClassUID=EnhancedMRImageStorage,
        Modality="MR",
        FrameOfReferenceUID="1.2.9",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups,
    )
    dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    return read(save(dataset, path))


def test_frames_of_one_file(tmp_path: Path) -> None:
    scan = enhanced(tmp_path / "e.dcm")
    assert [each["frame"] for each in scan.metadata["dicom"]["slices"]] == [2, 3, 1, 4]
    labels = labelled(scan)
    back = read(write(tmp_path / "m.dcm", labels))
    np.testing.assert_array_equal(back.data, labels.data)
    np.testing.assert_allclose(back.affine, scan.affine, atol=1e-6)
    found = pydicom.dcmread(tmp_path / "m.dcm")
    first = found.PerFrameFunctionalGroupsSequence[0]
    source = first.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
    z = first.PlanePositionSequence[0].ImagePositionPatient[2]
    assert {1: 4, 2: 0, 3: 2, 4: 6}[source] == z
    assert errors_of(tmp_path / "m.dcm") == []


def test_what_is_no_dicom_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did not come from one\. Use \.nii\.gz") as caught:
        write(tmp_path / "m.dcm", Volume(np.ones((1, 2, 3, 4), np.uint8), kind="label", name="photo"))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_sources_that_moved_or_changed(tmp_path: Path) -> None:
    scan = scan_in(tmp_path / "scan", (2, 8, 8), np.diag([3.0, 0.5, 0.5, 1.0]))
    labels = labelled(scan)
    shutil.copy(tmp_path / "scan" / "001", tmp_path / "scan" / "002")
    with pytest.raises(InputError, match="no longer the file"):
        write(tmp_path / "m.dcm", labels)
    (tmp_path / "scan" / "002").unlink()
    with pytest.raises(InputError, match="cannot be read any more"):
        write(tmp_path / "m.dcm", labels)
    cropped = labels.with_data(labels.data[:, :1])
    with pytest.raises(InputError, match="has 1 slices, its DICOM source 2"):
        write(tmp_path / "m.dcm", cropped)
    assert not (tmp_path / "m.dcm").exists()


@pytest.mark.parametrize("path", sorted(CARRIED.glob("*.dcm")), ids=lambda path: path.name)
def test_every_carried_image_gets_a_segmentation_or_a_reason(path: Path, tmp_path: Path) -> None:
    try:
        scan = read(path)
    except InputError:
        pytest.skip("not readable here")
    if scan.kind == "label":
        pytest.skip("a segmentation itself")
    try:
        back = read(write(tmp_path / "m.dcm", labelled(scan)))
    except InputError as error:
        assert "Use .nii.gz" in str(error)  # noqa: PT017 - most must not raise at all
        assert "\n" not in str(error)  # noqa: PT017
        assert path.name in NO_SEGMENTATION
    else:
        assert path.name not in NO_SEGMENTATION
        np.testing.assert_array_equal(back.data, labelled(scan).data)


# Several frames or a position without a frame of reference, and a time that is none.
NO_SEGMENTATION = {
    "693_J2KI.dcm", "ExplVR_BigEnd.dcm", "examples_ybr_color.dcm", "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_rle_32bit_2frame.dcm",
}  # fmt: skip


def test_fractional_and_overlapping_segments(tmp_path: Path) -> None:
    scan = scan_in(tmp_path / "scan", (2, 8, 8), np.diag([3.0, 0.5, 0.5, 1.0]))
    headers = [pydicom.dcmread(each["file"]) for each in scan.metadata["dicom"]["slices"]]
    for header in headers:
        for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"):
            setattr(header, name, "")
    pixels = np.zeros((2, 8, 8, 2), np.float64)
    pixels[0, :4, :, 0] = 0.7
    pixels[0, 4:, :, 0] = 0.3
    pixels[:, :, :2, 1] = 1.0
    category, kind, _ = concepts_for("lesion")
    segments = [
        highdicom.seg.SegmentDescription(number, f"part {number}", category, kind, "MANUAL") for number in (1, 2)
    ]
    made_by = dict(
        series_instance_uid="1.5", series_number=1, sop_instance_uid="1.6", instance_number=1, manufacturer="other",
        manufacturer_model_name="other", software_versions="1", device_serial_number="1",
    )  # fmt: skip
    highdicom.seg.Segmentation(headers, pixels, "FRACTIONAL", segments, **made_by).save_as(tmp_path / "f.dcm")
    back = read(tmp_path / "f.dcm")
    assert (back.data[0, 0, :4, 2:] == 1).all()
    assert (back.data[0, 0, 4:, 2:] == 0).all()
    assert (back.data[0, :, :, :2] == 2).all()
    assert back.metadata["messages"] == ["Segments overlap; where they do, the later one was kept."]
    assert [name for _, name, _ in back.metadata["classes"]] == ["part 1", "part 2"]


@pytest.mark.parametrize(
    ("name", "meaning", "side"),
    [
        ("liver", "Liver", None),
        ("right kidney", "Kidney", "Right"),
        ("kidneys", "Kidney", None),
        ("Lesion", "Lesion", None),
        ("tumour 2", "Neoplasm", None),
        ("polyp", "Lesion", None),
        ("lung_upper_lobe_left", "Upper lobe of lung", "Left"),
        ("right ventricle", "Right ventricle", None),
        ("vertebrae_L2", "L2 vertebra", None),
        ("rib_left_5", "Rib", "Left"),
        ("vertebrae 2", "Vertebra", None),
        ("anterior hippocampus", "Tissue", None),
        ("???", "Tissue", None),
    ],
)
def test_concepts(name: str, meaning: str, side: str | None) -> None:
    _, kind, found = concepts_for(name)
    assert kind.meaning == meaning
    assert (found.meaning if found is not None else None) == side


@pytest.mark.data
def test_the_real_series(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "totalsegmentator_examples"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    scan = read(folder / "example_ct_dicom")
    labels = np.zeros((1, *scan.grid), np.uint8)
    labels[0, 2:, 100:300, 50:400] = 1
    labels[0, 5:9, 200:210, 60:70] = 2
    volume = scan.with_data(labels, kind="label", metadata={**scan.metadata, "classes": CLASSES})
    path = write(tmp_path / "m.dcm", volume)
    back = read(path)
    np.testing.assert_array_equal(back.data, labels[:, 2:])
    np.testing.assert_allclose(back.affine[:3, 3], (scan.affine @ (2, 0, 0, 1))[:3], atol=1e-4)
    assert errors_of(path) == []
