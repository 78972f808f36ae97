"""NRRD and MetaImage: the grid against SimpleITK, names and colours as 3D Slicer keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import write
from napari_llm4seg.volume import Volume, affine_from_spacing
from tests.io.geometry import CLASSES, GRIDS, SHAPES, corners, labels_on

FILES = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FILES
@given(GRIDS, SHAPES, st.sampled_from(["m.nrrd", "m.seg.nrrd", "m.mha"]))
def test_simpleitk_finds_the_same_voxels_at_the_same_places(tmp_path: Path, affine, shape, name: str) -> None:
    volume = labels_on(affine, shape)
    image = sitk.ReadImage(str(write(tmp_path / name, volume)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume.data[0])
    for corner in corners(shape).T:
        expected = (affine @ corner)[:3][::-1]
        found = image.TransformContinuousIndexToPhysicalPoint([float(part) for part in corner[:3][::-1]])
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.bool_, np.int16, np.uint16, np.int64, np.float16, np.float32, np.float64])
def test_intensities_and_colours(tmp_path: Path, dtype: type[np.generic]) -> None:
    data = np.arange(3 * 2 * 4 * 5).reshape(3, 2, 4, 5).astype(dtype)
    image = sitk.ReadImage(str(write(tmp_path / "v.nrrd", Volume(data, affine_from_spacing((3, 2, 1)), unit="mm"))))
    assert image.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_array_equal(np.moveaxis(sitk.GetArrayFromImage(image), -1, 0), data)


def test_segments_as_slicer_reads_them(tmp_path: Path) -> None:
    labels = np.zeros((1, 4, 5, 6), np.uint8)
    labels[0, 1:3, 2, 4:] = 2
    labels[0, 0, 0, 0] = 9  # painted, but no class
    volume = Volume(labels, kind="label", unit="mm", metadata={"classes": CLASSES})
    image = sitk.ReadImage(str(write(tmp_path / "m.seg.nrrd", volume)))
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("Segment")}
    assert fields["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert fields["Segmentation_SourceRepresentation"] == "Binary labelmap"
    assert [fields[f"Segment{n}_LabelValue"] for n in range(4)] == ["1", "2", "7", "9"]
    assert [fields[f"Segment{n}_Name"] for n in range(4)] == ["liver", "left kidney", "Läsion 3", "label 9"]
    assert fields["Segment1_Extent"] == "4 5 2 2 1 2"
    assert fields["Segment2_Extent"] == "0 -1 0 -1 0 -1"
    assert fields["Segment0_Layer"] == "0"
    colour = [float(part) for part in fields["Segment0_Color"].split()]
    np.testing.assert_allclose(colour, np.array([0xE6, 0x9F, 0x00]) / 255, atol=1e-5)
    assert "Segment4_ID" not in fields


def test_a_tilted_gantry_is_refused_in_one_line(tmp_path: Path) -> None:
    affine = affine_from_spacing((3, 1, 1))
    affine[1, 0] = 0.5
    with pytest.raises(InputError, match=r"right angles.*\.nii\.gz") as caught:
        write(tmp_path / "m.nrrd", Volume(np.zeros((1, 2, 3, 4), np.uint8), affine))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("sitk::ERROR: NrrdImageIO could not\nwrite")

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(InputError, match="cannot be written") as caught:
        write(tmp_path / "m.nrrd", labels_on(np.eye(4), (2, 3, 4)))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
