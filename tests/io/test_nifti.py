"""NIfTI: geometry against nibabel and SimpleITK, value types, odd and broken files."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import TimeStack, nifti, read, read_stack, write
from napari_llm4seg.volume import Prediction, Volume, affine_from_spacing

FILES = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Our world (superior, posterior, left) in terms of NIfTI's (right, anterior, superior), by sign and axis.
SHAPES = st.tuples(*[st.integers(2, 6)] * 3)


@st.composite
def ras_affines(draw: st.DrawFn, shear: bool = False) -> np.ndarray:
    """Oblique, flipped, permuted and anisotropic affines, as float32 holds them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spacing = np.array(draw(st.tuples(*[st.floats(0.1, 8)] * 3)))
    matrix = np.eye(4)
    kind = draw(st.sampled_from(["straight", "permuted", "oblique"]))
    turn = np.eye(3)
    if kind == "permuted":
        turn = turn[rng.permutation(3)]
    if kind == "oblique":
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    signs = np.array(draw(st.tuples(*[st.sampled_from([-1, 1])] * 3)))
    matrix[:3, :3] = turn * spacing * signs
    if shear and kind == "oblique":
        matrix[:3, 2] += 0.3 * matrix[:3, 1]
    matrix[:3, 3] = rng.normal(size=3) * 100
    return matrix.astype(np.float32).astype(np.float64)


def world_ras(volume: Volume, index_zyx: tuple[int, int, int]) -> np.ndarray:
    superior, posterior, left, _ = volume.affine @ (*index_zyx, 1.0)
    return np.array([-left, -posterior, superior])


@FILES
@given(SHAPES, ras_affines(shear=True), st.integers(0, 4), st.integers(0, 4), st.sampled_from(["i2", "u1", "f8"]))
def test_read_agrees_with_nibabel_and_writes_the_same_back(
    tmp_path: Path, shape: tuple[int, int, int], affine: np.ndarray, sform: int, qform: int, dtype: str
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=sform)
    image.set_qform(affine, code=qform, strip_shears=True)
    nib.save(image, tmp_path / "a.nii.gz")
    reference = nib.load(tmp_path / "a.nii.gz")

    volume = read(tmp_path / "a.nii.gz")
    assert volume.data.dtype == array.dtype
    assert volume.unit == "mm"
    for x, y, z in [(0, 0, 0), (1, 0, 1), tuple(n - 1 for n in shape)]:
        assert volume.data[0, z, y, x] == array[x, y, z]
        np.testing.assert_allclose(world_ras(volume, (z, y, x)), nib.affines.apply_affine(reference.affine, (x, y, z)))

    back = nib.load(write(tmp_path / "b.nii.gz", volume))
    np.testing.assert_array_equal(np.asarray(back.dataobj), array)
    np.testing.assert_array_equal(back.affine, reference.affine)
    for field in ("sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(back.header[field], reference.header[field])
    np.testing.assert_array_equal(back.header["pixdim"][:4], reference.header["pixdim"][:4])
    np.testing.assert_array_equal(read(tmp_path / "b.nii.gz").affine, volume.affine)


@FILES
@given(SHAPES, ras_affines())
def test_world_agrees_with_simpleitk(tmp_path: Path, shape: tuple[int, int, int], affine: np.ndarray) -> None:
    labels = (np.arange(np.prod(shape)).reshape(shape[::-1]) % 7).astype(np.uint8)
    volume = Volume(labels[None], nifti.from_ras(affine), kind="label", unit="mm")
    image = sitk.ReadImage(str(write(tmp_path / "m.nii.gz", volume)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), labels)
    for index in [(0, 0, 0), (1, 0, 1), tuple(n - 1 for n in labels.shape)]:
        left, posterior, superior = image.TransformIndexToPhysicalPoint(tuple(int(i) for i in index[::-1]))
        np.testing.assert_allclose((volume.affine @ (*index, 1.0))[:3], (superior, posterior, left), atol=2e-3)
    np.testing.assert_allclose(image.GetSpacing()[::-1], volume.spacing, rtol=1e-4)


@FILES
@given(ras_affines(shear=True))
def test_affine_there_and_back_is_exact(affine: np.ndarray) -> None:
    np.testing.assert_array_equal(nifti.to_ras(nifti.from_ras(affine)), affine)


def test_labels_of_a_prediction_lie_on_the_source_grid(tmp_path: Path) -> None:
    affine = np.array([[-0.7, 0, 0, 9], [0, -0.7, 0, 8], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine), tmp_path / "a.nii.gz")
    scan = read(tmp_path / "a.nii.gz")
    labels = np.random.default_rng(0).integers(0, 3, scan.grid).astype(np.uint8)
    prediction = Prediction(labels, None, scan.affine, scan.unit, scan.name, ((1, "lesion", "#E69F00"),))
    back = nib.load(write(tmp_path / "m.nii.gz", prediction))
    assert back.get_data_dtype() == np.uint8
    np.testing.assert_allclose(back.affine, affine, rtol=1e-6)
    assert back.header.get_xyzt_units()[0] == "mm"
    again = read(tmp_path / "m.nii.gz")
    assert again.kind == "label"
    np.testing.assert_array_equal(again.data[0], labels)


def test_codes_of_the_source_are_kept(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.set_qform(np.diag([2.0, 3, 4, 1]), code=3)
    image.set_sform(np.diag([-2.0, 3, 4, 1]), code=4)
    nib.save(image, tmp_path / "a.nii.gz")
    scan = read(tmp_path / "a.nii.gz")
    prediction = Prediction(np.zeros(scan.grid, np.uint8), None, scan.affine, scan.unit, scan.name, ())
    back = nib.load(write(tmp_path / "m.nii.gz", prediction, like=scan)).header
    assert (int(back["qform_code"]), int(back["sform_code"])) == (3, 4)
    np.testing.assert_array_equal(back.get_qform(), image.get_qform())
    np.testing.assert_array_equal(back.get_sform(), image.get_sform())


def test_pixel_units_survive(tmp_path: Path) -> None:
    volume = Volume(np.zeros((1, 1, 4, 5), np.uint8))
    assert read(write(tmp_path / "p.nii.gz", volume)).unit == "pixel"
    assert read(write(tmp_path / "p.nii", read(tmp_path / "p.nii.gz"))).unit == "pixel"


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("micron", 1e-3), ("mm", 1.0), ("unknown", 1.0)])
def test_other_units_become_mm_and_are_written_back(tmp_path: Path, unit: str, factor: float) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.diag([2.0, 3, 4, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    volume = read(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.spacing, np.array([4, 3, 2]) * factor)
    again = read(write(tmp_path / "b.nii", volume))
    np.testing.assert_allclose(again.affine, volume.affine)
    if factor != 1.0:
        moved = Volume(volume.data, affine_from_spacing((1, 2, 3)), unit="mm", metadata=volume.metadata)
        np.testing.assert_allclose(read(write(tmp_path / "c.nii", moved)).spacing, (1, 2, 3))


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "u4", "i8", "f4", "f8", ">i2", "f2", "?"])
def test_value_types(tmp_path: Path, dtype: str) -> None:
    data = (np.arange(24).reshape(2, 3, 2, 2) % 2).astype(dtype)
    back = read(write(tmp_path / "a.nii", Volume(data)))
    np.testing.assert_array_equal(back.data, data)


def test_scaled_values(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    image.header.set_slope_inter(2, -1000)
    nib.save(image, tmp_path / "a.nii.gz")
    reference = nib.load(tmp_path / "a.nii.gz").get_fdata()
    volume = read(tmp_path / "a.nii.gz")
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data[0], reference.T)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 5), (1, 1, 5, 4)),
        ((4, 5, 1), (1, 1, 5, 4)),
        ((4, 5, 6, 1), (1, 6, 5, 4)),
        ((4, 5, 6, 3), (3, 6, 5, 4)),
        ((4, 5, 6, 1, 2), (2, 6, 5, 4)),
    ],
)
def test_axes(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    volume = read(tmp_path / "a.nii")
    assert volume.data.shape == expected
    again = read(write(tmp_path / "b.nii", volume))
    np.testing.assert_array_equal(again.data, volume.data)


def test_flat_image_without_thickness(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5), np.uint8), None)
    image.header["sform_code"] = 1
    image.header["srow_x"], image.header["srow_y"] = (0.5, 0, 0, 0), (0, 0.25, 0, 0)
    nib.save(nib.Nifti1Image(image.dataobj, None, header=image.header), tmp_path / "a.nii")
    assert not nib.load(tmp_path / "a.nii").affine[:3, 2].any()
    np.testing.assert_allclose(read(tmp_path / "a.nii").spacing[1:], (0.25, 0.5))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 5, 6, 7), np.uint8), "holds 7 time points.*--time T"),
        (np.zeros((4, 5, 6, 2, 3, 2), np.uint8), "axes"),
        (np.zeros((4, 5, 6), np.complex64), "complex"),
        (np.zeros((4, 5, 6), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])), "RGB structures"),
    ],
)
def test_what_is_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a.nii.gz")


def test_time_points_are_chosen_or_come_together(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (4, 5, 6, 7, 2)).astype(np.int16)
    image = nib.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 1500
    nib.save(image, tmp_path / "a.nii.gz")
    stack = read_stack(tmp_path / "a.nii.gz")
    assert isinstance(stack, TimeStack)
    assert (stack.data.shape, stack.seconds, stack.unit) == ((2, 7, 6, 5, 4), 1.5, "mm")
    chosen = read(tmp_path / "a.nii.gz", time=3)
    np.testing.assert_array_equal(chosen.data, values[:, :, :, 2].T)
    np.testing.assert_array_equal(chosen.affine, stack.affine)
    np.testing.assert_allclose(chosen.spacing, (3, 2, 1))
    for time in (0, 8, -1):
        with pytest.raises(InputError, match="time points 1 to 7"):
            read(tmp_path / "a.nii.gz", time=time)


def test_a_few_volumes_are_channels_unless_a_time_is_chosen(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4 * 2, dtype=np.uint8).reshape(2, 3, 4, 2)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").channels == 2
    np.testing.assert_array_equal(read(tmp_path / "a.nii", time=2).data[0], values[..., 1].T)
    nib.save(nib.Nifti1Image(values[..., 0], np.eye(4)), tmp_path / "b.nii")
    with pytest.raises(InputError, match="no time points"):
        read(tmp_path / "b.nii", time=2)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_cut_off_and_foreign(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"a{suffix}")
    whole = (tmp_path / f"a{suffix}").read_bytes()
    for part in (1, 20, 200, 349, len(whole) // 2, len(whole) * 9 // 10):
        (tmp_path / f"cut{suffix}").write_bytes(whole[:part])
        with pytest.raises(InputError, match="cut") as caught:
            read(tmp_path / f"cut{suffix}")
        assert "\n" not in str(caught.value)
    (tmp_path / f"text{suffix}").write_bytes(gzip.compress(b"hello" * 200) if suffix == ".nii.gz" else b"hello" * 200)
    with pytest.raises(InputError, match="text"):
        read(tmp_path / f"text{suffix}")


def test_singular_affine(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    image.set_sform(np.diag([1.0, 0, 1, 1]), code=1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(InputError, match="affine"):
        read(tmp_path / "a.nii")


@pytest.mark.data
def test_real_scans_agree_with_simpleitk(tmp_path: Path, data_dir: Path) -> None:
    folder = data_dir / "totalsegmentator_examples"
    paths = [folder / "example_ct_sm.nii.gz", folder / "example_mr_sm.nii.gz", folder / "example_seg.nii.gz"]
    paths += sorted((data_dir / "msd_hippocampus" / "imagesTr").glob("*.nii.gz"))[:2]
    paths = [path for path in paths if path.exists()]
    if not paths:
        pytest.skip(f"no NIfTI scans below {data_dir}")
    for path in paths:
        volume, image = read(path), sitk.ReadImage(str(path))
        np.testing.assert_array_equal(volume.data[0], sitk.GetArrayFromImage(image))
        index = tuple(n - 1 for n in volume.grid)
        left, posterior, superior = image.TransformIndexToPhysicalPoint(tuple(int(i) for i in index[::-1]))
        np.testing.assert_allclose((volume.affine @ (*index, 1.0))[:3], (superior, posterior, left), atol=1e-2)
        back = nib.load(write(tmp_path / "back.nii.gz", volume))
        np.testing.assert_array_equal(back.affine, nib.load(path).affine)


def test_labels_keep_names_and_colours(tmp_path: Path) -> None:
    classes = ((1, "liver & co", "#E69F00"), (7, "Läsion <3>", "#0072B2"))
    labels = np.zeros((1, 2, 3, 4), np.uint8)
    labels[0, 0, 0, 0] = 9
    path = write(tmp_path / "m.nii.gz", Volume(labels, kind="label", unit="mm", metadata={"classes": classes}))
    back = read(path)
    assert (back.kind, back.metadata["classes"]) == (
        "label",
        (*classes, (9, "label 9", back.metadata["classes"][2][2])),
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), labels[0])
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj).T, labels[0])
    (extension,) = nib.load(path).header.extensions
    assert extension.get_code() == 30


@pytest.mark.parametrize("content", [b"<LabelTable", b"<a><LabelTable><Label Key='x'/></LabelTable></a>"])
def test_a_damaged_table_of_names_is_said(tmp_path: Path, content: bytes) -> None:
    image = nib.Nifti1Image(np.zeros((3, 4, 2), np.uint8), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, content))
    nib.save(image, tmp_path / "m.nii")
    volume = read(tmp_path / "m.nii")
    assert "label names" in volume.metadata["messages"][0]
    assert volume.kind == "intensity"


@pytest.mark.data
def test_totalsegmentators_names(data_dir: Path) -> None:
    path = data_dir / "totalsegmentator_examples" / "example_seg.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    volume = read(path)
    assert volume.kind == "label"
    assert (5, "liver", "#00FFFF") in volume.metadata["classes"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_too_much_takes_no_memory(tmp_path: Path, suffix: str) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((20000, 20000, 20))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    content = header.binaryblock + bytes(4) + b"abc"
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(InputError, match="cut off: 16000000000 bytes"):
        read(tmp_path / f"a{suffix}")
