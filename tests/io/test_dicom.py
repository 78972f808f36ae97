"""DICOM: the files pydicom carries, made series against SimpleITK, broken files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UltrasoundMultiFrameImageStorage

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import read
from tests.io.made_dicom import made, made_series, save

FILES = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
CARRIED = Path(pydicom.__file__).parent / "data" / "test_files"


# Refused for a reason, each by name, so that no other one slips away unnoticed.
NO_IMAGE = {
    "ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "UN_sequence.dcm", "badVR.dcm", "empty_charset_LEI.dcm",
    "meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm", "no_meta.dcm",
    "no_meta_group_length.dcm", "priv_SQ.dcm", "reportsi.dcm", "reportsi_with_empty_number_tags.dcm", "rtdose.dcm",
    "rtdose_1frame.dcm", "rtdose_expb.dcm", "rtdose_expb_1frame.dcm", "rtdose_rle.dcm", "rtdose_rle_1frame.dcm",
    "rtplan.dcm", "rtplan_truncated.dcm", "rtstruct.dcm", "test-SR.dcm", "waveform_ecg.dcm",
}  # fmt: skip
# Damaged, or compressed in a way whose decoder is optional.
MAY_FAIL = {
    "MR_truncated.dcm", "JPEG2000-embedded-sequence-delimiter.dcm", "JPEG-lossy.dcm", "JPGExtended.dcm",
    "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm", "SC_rgb_jpeg_gdcm.dcm",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(CARRIED.glob("*.dcm")), ids=lambda path: path.name)
def test_every_carried_file_opens_or_says_why_not(path: Path) -> None:
    try:
        volume = read(path)
    except InputError as error:
        assert path.name in NO_IMAGE | MAY_FAIL, str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017 - most files must not raise at all
    else:
        assert path.name not in NO_IMAGE
        header = pydicom.dcmread(path, force=True)
        assert volume.grid[1:] == (header.Rows, header.Columns)
        assert volume.data.min() < volume.data.max()


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "MR_small_jp2klossless"])
def test_lossless_encodings_agree(name: str) -> None:
    plain = read(CARRIED / "MR_small.dcm")
    other = read(CARRIED / f"{name}.dcm")
    np.testing.assert_array_equal(other.data, plain.data)
    np.testing.assert_array_equal(other.affine, plain.affine)


@pytest.mark.parametrize("name", ["CT_small", "MR_small", "examples_overlay", "693_J2KI"])
def test_values_and_world_agree_with_simpleitk(name: str) -> None:
    volume, image = read(CARRIED / f"{name}.dcm"), sitk.ReadImage(str(CARRIED / f"{name}.dcm"))
    np.testing.assert_allclose(volume.data[0], sitk.GetArrayFromImage(image))
    assert volume.unit == "mm"
    for index in [(0, 0, 0), (0, 5, 7)]:
        expected = image.TransformIndexToPhysicalPoint(index[::-1])[::-1]
        np.testing.assert_allclose((volume.affine @ (*index, 1.0))[:3], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["CT_small", "MR_small_jp2klossless", "examples_ybr_color"])
def test_cut_off(tmp_path: Path, name: str) -> None:
    whole = (CARRIED / f"{name}.dcm").read_bytes()
    for part in (1, 100, 131, 132, 200, 600, len(whole) // 2, len(whole) * 9 // 10):
        (tmp_path / "cut.dcm").write_bytes(whole[:part])
        with pytest.raises(InputError, match="cut") as caught:
            read(tmp_path / "cut.dcm")
        assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
@example(24804)  # an identifier of an unknown kind
def test_damaged_bytes_never_give_a_traceback(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = bytearray((CARRIED / "MR_small.dcm").read_bytes())
    for place in rng.integers(132, 1500, 6):
        whole[place] = int(rng.integers(256))
    (tmp_path / "bad.dcm").write_bytes(whole)
    try:
        assert read(tmp_path / "bad.dcm").data.ndim == 4
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 - some damage does no harm


@pytest.mark.parametrize("content", [b"hello", b"<html>" * 100, bytes(4000), bytes(range(256)) * 20])
def test_other_files_called_dcm(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.dcm").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.dcm"):
        read(tmp_path / "x.dcm")


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_damage_that_ends_gdcm_with_the_whole_process_is_one_line(tmp_path: Path, name: str) -> None:
    whole = bytearray((CARRIED / name).read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(20):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole) - 4000, len(whole), 40):
            damaged[place] = int(rng.integers(256))
        (tmp_path / "x.dcm").write_bytes(damaged)
        try:
            read(tmp_path / "x.dcm")
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - some damage changes values alone


def test_name_without_suffix(tmp_path: Path) -> None:
    shutil.copy(CARRIED / "CT_small.dcm", tmp_path / "1.2.840.17")
    assert read(tmp_path / "1.2.840.17").name == "1.2.840.17"


def test_nothing_about_the_patient_is_kept() -> None:
    header = pydicom.dcmread(CARRIED / "CT_small.dcm")
    assert str(header.PatientName) not in str(read(CARRIED / "CT_small.dcm").metadata)


def test_ultrasound_regions_give_the_spacing() -> None:
    volume = read(CARRIED / "examples_palette.dcm")
    assert volume.unit == "mm"
    np.testing.assert_allclose(volume.spacing[1:], 0.2622878766)
    assert volume.channels == 3
    assert read(CARRIED / "examples_rgb_color.dcm").unit == "pixel"


def test_frames_are_slices(tmp_path: Path) -> None:
    frames = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    path = save(made(frames, SOPClassUID=UltrasoundMultiFrameImageStorage, Modality="US"), tmp_path / "us.dcm")
    np.testing.assert_array_equal(read(path).data[0], frames)


def test_enhanced_frames_are_ordered_by_position(tmp_path: Path) -> None:
    frames = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    transform = Dataset()
    transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 2, -7, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [transform]
    groups = []
    for z in (4, 0, 2):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [1, 2, z]
        group.PlanePositionSequence = [position]
        groups.append(group)
    dataset = made(frames, SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=groups)
    volume = read(save(dataset, tmp_path / "e.dcm"))
    np.testing.assert_array_equal(volume.data[0], frames[[1, 2, 0]] * 2 - 7)
    np.testing.assert_allclose(volume.spacing, (2, 0.5, 0.75))
    np.testing.assert_allclose(volume.affine[:3, 3], (0, 2, 1))
    sources = volume.metadata["dicom"]["slices"]
    assert [source["frame"] for source in sources] == [2, 3, 1]
    assert {(source["file"], source["uid"]) for source in sources} == {
        (str(tmp_path / "e.dcm"), dataset.SOPInstanceUID)
    }


def test_monochrome1_is_inverted_but_not_quantities(tmp_path: Path) -> None:
    pixels = np.array([[0, 10], [1000, 4095]], dtype=np.uint16)
    options = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    inverted = read(save(made(pixels, Modality="DX", **options), tmp_path / "dx.dcm"))
    np.testing.assert_array_equal(inverted.data[0, 0], 4095 - pixels)
    assert inverted.data.dtype == np.uint16
    kept = read(save(made(pixels, Modality="PT", **options), tmp_path / "pt.dcm"))
    np.testing.assert_array_equal(kept.data[0, 0], pixels)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(1, -1024, np.int16), (1, 0, np.uint16), (0.5, 3, np.float32), (9, 0, np.int32)]
)
def test_rescale(tmp_path: Path, slope: float, intercept: float, dtype: type[np.generic]) -> None:
    pixels = np.array([[0, 10], [1000, 4095]], dtype=np.uint16)
    volume = read(save(made(pixels, RescaleSlope=slope, RescaleIntercept=intercept), tmp_path / "a.dcm"))
    assert volume.data.dtype == dtype
    np.testing.assert_array_equal(volume.data[0, 0], pixels.astype(float) * slope + intercept)


def test_frames_are_rescaled_each_by_its_own_slope(tmp_path: Path) -> None:
    frames = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    groups = []
    for slope, intercept in ((0.5, 1.0), (2.0, -3.0)):
        transform, group = Dataset(), Dataset()
        transform.RescaleSlope, transform.RescaleIntercept = slope, intercept
        group.PixelValueTransformationSequence = [transform]
        groups.append(group)
    dataset = made(frames, PerFrameFunctionalGroupsSequence=groups)
    values = read(save(dataset, tmp_path / "a.dcm")).data[0]
    np.testing.assert_array_equal(values, np.stack([frames[0] * 0.5 + 1, frames[1] * 2.0 - 3]))


def test_detector_spacing_is_said(tmp_path: Path) -> None:
    volume = read(save(made(np.eye(4, dtype=np.uint16), ImagerPixelSpacing=[0.2, 0.3]), tmp_path / "dx.dcm"))
    np.testing.assert_allclose(volume.spacing[1:], (0.2, 0.3))
    assert "detector" in volume.metadata["messages"][0]


@FILES
@given(st.integers(0, 2**32 - 1), st.floats(0.4, 6), st.tuples(st.integers(2, 6), st.integers(2, 5), st.integers(2, 5)))
def test_series_agrees_with_simpleitk(
    tmp_path_factory: pytest.TempPathFactory, seed: int, step: float, shape: tuple[int, int, int]
) -> None:
    folder = tmp_path_factory.mktemp("series")
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    turn[2] = np.cross(turn[0], turn[1])
    values = made_series(folder, shape, turn, round(step, 3), seed)
    (folder / "notes.txt").write_text("not an image")
    volume = read(folder)
    np.testing.assert_array_equal(volume.data[0], values)
    assert volume.metadata["messages"] == []
    for z, source in enumerate(volume.metadata["dicom"]["slices"]):
        dataset = pydicom.dcmread(source["file"])
        assert (source["uid"], source["frame"]) == (dataset.SOPInstanceUID, 1)
        np.testing.assert_array_equal(dataset.pixel_array, values[z])

    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), values)
    for index in [(0, 0, 0), tuple(n - 1 for n in shape)]:
        expected = image.TransformIndexToPhysicalPoint(tuple(int(i) for i in index[::-1]))[::-1]
        np.testing.assert_allclose((volume.affine @ (*index, 1.0))[:3], expected, atol=1e-2)


def test_series_without_positions_goes_by_number(tmp_path: Path) -> None:
    for number in (2, 1, 3):
        save(made(np.full((2, 2), number, np.int16), InstanceNumber=number), tmp_path / f"f{9 - number}")
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.data[0, :, 0, 0], [1, 2, 3])
    assert "instance numbers" in volume.metadata["messages"][0]


def test_folder_with_one_file(tmp_path: Path) -> None:
    shutil.copy(CARRIED / "MR_small.dcm", tmp_path / "only")
    np.testing.assert_array_equal(read(tmp_path).data, read(CARRIED / "MR_small.dcm").data)


@pytest.mark.data
def test_real_series_agrees_with_simpleitk(data_dir: Path) -> None:
    folder = data_dir / "totalsegmentator_examples" / "example_ct_dicom"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    volume = read(folder)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(volume.data[0], sitk.GetArrayFromImage(image))
    for index in [(0, 0, 0), tuple(n - 1 for n in volume.grid)]:
        expected = image.TransformIndexToPhysicalPoint(tuple(int(i) for i in index[::-1]))[::-1]
        np.testing.assert_allclose((volume.affine @ (*index, 1.0))[:3], expected, atol=1e-2)
