"""Read, write, read with another library: the same voxels at the same places of the world, for every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings

from napari_llm4seg.io import read, write
from napari_llm4seg.io.pairs import read_mask
from napari_llm4seg.volume import Volume
from tests.io.geometry import GRIDS, SHAPES, corners, labels_on

FILES = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Millimetres; NIfTI holds its affine in single precision.
CLOSE = 1e-4


def by_nibabel(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return labels (Z, Y, X) and the affine (x, y, z) to (left, posterior, superior)."""
    image = nib.load(path)
    return np.asarray(image.dataobj).T, np.diag([-1.0, -1, 1, 1]) @ np.asarray(image.affine)


def by_simpleitk(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), affine


def assert_same_place(affine: npt.NDArray[np.float64], volume: Volume) -> None:
    """Compare corners: another library's (x, y, z) to (left, posterior, superior) with ours, reversed in both."""
    ours = volume.affine @ corners(volume.grid)
    index = corners(volume.grid)[[2, 1, 0, 3]]
    np.testing.assert_allclose((affine @ index)[:3], ours[2::-1], atol=CLOSE)


@FILES
@given(GRIDS, SHAPES)
def test_made_grids(tmp_path: Path, affine, shape) -> None:
    volume = labels_on(affine, shape)
    for name, other in (("m.nii.gz", by_nibabel), ("m.nrrd", by_simpleitk), ("m.mha", by_simpleitk)):
        labels, found = other(write(tmp_path / name, volume))
        np.testing.assert_array_equal(labels, volume.data[0])
        # single precision of origins up to some 300 mm and steps up to 9 mm
        assert_same_place(found, volume)
        back = read(tmp_path / name)
        np.testing.assert_allclose(back.affine @ corners(back.grid), affine @ corners(shape), atol=CLOSE)
        assert back.metadata["classes"] == volume.metadata["classes"]


def real_scans(data_dir: Path) -> list[Path]:
    examples = data_dir / "totalsegmentator_examples"
    hippocampi = sorted((data_dir / "msd_hippocampus").rglob("*.nii.gz"))
    return [*sorted(examples.glob("*.nii.gz")), examples / "example_ct_dicom", *hippocampi[::20]]


@pytest.mark.data
def test_real_scans_keep_their_place(data_dir: Path, tmp_path: Path) -> None:
    seen = 0
    for path in real_scans(data_dir):
        if not path.exists():
            continue
        scan = read(path)
        labels = (np.indices(scan.grid).sum(axis=0) % 3).astype(np.uint8)[None]
        mask = scan.with_data(labels, kind="label", metadata={"classes": ((1, "a", "#E69F00"),)})
        for name, other in (("m.nii.gz", by_nibabel), ("m.nrrd", by_simpleitk), ("m.mha", by_simpleitk)):
            found, affine = other(write(tmp_path / name, mask, like=scan))
            np.testing.assert_array_equal(found, labels[0], err_msg=f"{path.name} as {name}")
            assert_same_place(affine, scan)
        if path.suffix == ".gz":
            before, after = nib.load(path), nib.load(tmp_path / "m.nii.gz")
            np.testing.assert_array_equal(after.affine, before.affine)
            for field in ("sform_code", "qform_code", "srow_x", "quatern_b", "qoffset_x"):
                np.testing.assert_array_equal(after.header[field], before.header[field], f"{path.name}: {field}")
        seen += 1
    if not seen:
        pytest.skip(f"{data_dir} has none of the test volumes")


@pytest.mark.data
def test_the_given_labels_of_the_real_series_come_back_through_every_format(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "totalsegmentator_examples"
    if not (folder / "example_seg_dicom.nii.gz").exists():
        pytest.skip(f"{folder} is absent")
    scan, given = read(folder / "example_ct_dicom"), read(folder / "example_seg_dicom.nii.gz")
    labels = read_mask(folder / "example_seg_dicom.nii.gz", scan)[None]
    mask = scan.with_data(labels, kind="label", metadata={**scan.metadata, "classes": given.metadata["classes"]})
    for name in ("m.dcm", "m.nii.gz", "m.seg.nrrd"):
        back = read(write(tmp_path / name, mask))
        first = round(float((np.linalg.inv(scan.affine) @ back.affine[:, 3])[0]))  # DICOM-SEG leaves empty slices out
        whole = np.zeros_like(labels)
        whole[:, first : first + back.n_slices] = np.asarray(back.data)
        np.testing.assert_array_equal(whole, labels, err_msg=name)
        assert dict((v, n) for v, n, _ in back.metadata["classes"]) == dict(
            (v, n) for v, n, _ in given.metadata["classes"]
        )
