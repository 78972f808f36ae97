"""One made grid through every format and its own library: the same voxels at the same places in the world."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_llm4seg.io import read
from napari_llm4seg.volume import Volume
from tests.io.geometry import GRIDS, SHAPES, corners
from tests.io.made_dicom import made, save

FILES = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
Matrix = npt.NDArray[np.float64]


def lps_of(affine: Matrix) -> Matrix:
    """Return our (z, y, x) affine as DICOM's and ITK's, (x, y, z) to (left, posterior, superior)."""
    found = affine.copy()
    found[:3, :3], found[:3, 3] = affine[:3, :3][::-1, ::-1], affine[:3, 3][::-1]
    return found


def as_nifti(folder: Path, values: np.ndarray, lps: Matrix) -> Path:
    nib.save(nib.Nifti1Image(values.T, LPS_TO_RAS @ lps), folder / "v.nii.gz")
    return folder / "v.nii.gz"


def as_itk(folder: Path, values: np.ndarray, lps: Matrix, name: str) -> Path:
    image = sitk.GetImageFromArray(values)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(folder / name))
    return folder / name


def as_dicom(folder: Path, values: np.ndarray, lps: Matrix) -> Path:
    """Save a series; DICOM's numbers have at most sixteen characters, which costs less than 1e-6 mm here."""
    folder = folder / "series"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    across, down = (lps[:3, column] / spacing[column] for column in (0, 1))
    for z in range(len(values)):
        place = {
            "ImagePositionPatient": [f"{part:.9g}" for part in lps[:3, 3] + z * lps[:3, 2]],
            "ImageOrientationPatient": [f"{part:.9g}" for part in (*across, *down)],
            "PixelSpacing": [f"{spacing[1]:.9g}", f"{spacing[0]:.9g}"],
            "SliceThickness": f"{spacing[2]:.9g}",
        }
        save(made(values[z], **place), folder / f"{z}")
    return folder


def as_zarr(folder: Path, values: np.ndarray, affine: Matrix) -> Path:
    group = zarr.open_group(folder / "v.ome.zarr", mode="w", zarr_format=3)
    group.create_array("0", data=values)
    axes = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"]
    steps = [
        {"type": "scale", "scale": np.diag(affine)[:3].tolist()},
        {"type": "translation", "translation": affine[:3, 3].tolist()},
    ]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return folder / "v.ome.zarr"


def check(volume: Volume, values: np.ndarray, affine: Matrix) -> None:
    """Compare voxels and the world coordinates of all corners, in whichever order the file gives its slices."""
    data, found = np.asarray(volume.data)[0], volume.affine
    if found[:3, 0] @ affine[:3, 0] < 0:  # a series is read along its normal, whatever the order of its files
        data = data[::-1]
        found = found @ np.array([[-1, 0, 0, len(data) - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(data, values)
    shape = values.shape
    np.testing.assert_allclose(found @ corners(shape), affine @ corners(shape), atol=1e-4)
    assert volume.unit == "mm"


@FILES
@given(GRIDS, SHAPES, st.integers(0, 99))
def test_oblique_flipped_and_anisotropic_grids(tmp_path: Path, affine, shape, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)
    lps = lps_of(affine)
    check(read(as_nifti(tmp_path, values, lps)), values, affine)
    for name in ("v.mha", "v.nrrd"):
        check(read(as_itk(tmp_path, values, lps, name)), values, affine)
    if shape[0] > 1:  # one slice has no step of its own in DICOM
        check(read(as_dicom(tmp_path, values, lps)), values, affine)


@FILES
@given(st.tuples(*[st.floats(0.01, 9)] * 3), st.tuples(*[st.floats(-500, 500)] * 3), SHAPES)
def test_zarr_grids(tmp_path: Path, spacing, origin, shape) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    check(read(as_zarr(tmp_path, values, affine)), values, affine)


def resampled(labels: Volume, onto: Volume) -> np.ndarray:
    """Return ``labels`` on the grid of ``onto`` by their affines alone, nearest neighbour, 0 outside."""
    found = np.zeros(onto.grid, labels.data.dtype)
    index = np.linalg.inv(labels.affine) @ onto.affine
    rows, columns = np.mgrid[: onto.grid[1], : onto.grid[2]]
    for z in range(onto.n_slices):
        place = np.stack([np.full(rows.size, z), rows.ravel(), columns.ravel(), np.ones(rows.size)])
        nearest = np.rint(index @ place)[:3].astype(int)
        inside = np.logical_and.reduce(
            [(n >= 0) & (n < length) for n, length in zip(nearest, labels.grid, strict=True)]
        )
        flat = found[z].ravel()
        flat[inside] = labels.data[0][tuple(nearest[:, inside])]
        found[z] = flat.reshape(found[z].shape)
    return found


@pytest.mark.data
def test_dicom_and_its_nifti_labels_overlay_by_affine(data_dir: Path) -> None:
    folder = data_dir / "totalsegmentator_examples"
    series, mask = folder / "example_ct_dicom", folder / "example_seg_dicom.nii.gz"
    if not (series.is_dir() and mask.is_file()):
        pytest.skip(f"{series} or {mask.name} is absent")
    scan, labels = read(series), read(mask)
    ours = resampled(labels, scan)

    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(sitk.ReadImage(str(mask)), image, sitk.Transform(), sitk.sitkNearestNeighbor)
    )
    present = set(np.unique(labels.data)) - {0}
    assert len(present) > 5
    for value in present:
        a, b = ours == value, theirs == value
        assert 2 * np.count_nonzero(a & b) == np.count_nonzero(a) + np.count_nonzero(b)  # Dice 1.0
        assert np.count_nonzero(a) == np.count_nonzero(labels.data == value)  # and nothing lost on the way
    # The rows of the two files run in opposite directions, so that laying array on array would not do.
    assert not np.array_equal(ours, labels.data[0])
