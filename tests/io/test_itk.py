"""NRRD and MetaImage: voxels and world against SimpleITK, segments, units, time points, broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import TimeStack, read, read_stack, write
from napari_llm4seg.volume import Volume
from tests.io.geometry import CLASSES, GRIDS, SHAPES, labels_on

FILES = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = ("v.mha", "v.mhd", "v.nrrd", "v.nhdr")
VALUES = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def nrrd(path: Path, *lines: str, values: np.ndarray = VALUES, sizes: str = "4 3 2") -> Path:
    """Write an NRRD file by hand, with header lines that SimpleITK cannot be made to write."""
    kind = {"i2": "short", "u1": "uchar"}[values.dtype.str[1:]]
    head = ["NRRD0004", f"type: {kind}", f"dimension: {len(sizes.split())}", f"sizes: {sizes}", "encoding: raw"]
    path.write_bytes("\n".join([*head, "endian: little", *lines, "", ""]).encode() + values.tobytes())
    return path


@FILES
@given(GRIDS, SHAPES, st.sampled_from(NAMES), st.sampled_from(["u1", "i2", "u2", "f4", "f8"]))
def test_voxels_lie_where_simpleitk_finds_them(tmp_path: Path, affine, shape, name: str, dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 99, shape).astype(dtype)
    image = sitk.GetImageFromArray(values)
    matrix = affine[:3, :3][::-1, ::-1]
    spacing = np.linalg.norm(matrix, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3][::-1].tolist())
    sitk.WriteImage(image, str(tmp_path / name), useCompression=name in ("v.mha", "v.nrrd"))
    volume = read(tmp_path / name)
    np.testing.assert_array_equal(volume.data[0], values)
    assert (volume.data.dtype, volume.unit, volume.kind, volume.name) == (values.dtype, "mm", "intensity", "v")
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)


@FILES
@given(GRIDS, SHAPES, st.sampled_from(["v.mha", "v.nrrd", "v.seg.nrrd"]))
def test_labels_come_back_with_their_classes(tmp_path: Path, affine, shape, name: str) -> None:
    labels = labels_on(affine, shape)
    again = read(write(tmp_path / name, labels))
    np.testing.assert_array_equal(again.data, labels.data)
    np.testing.assert_allclose(again.affine, affine, atol=1e-4)
    assert (again.kind, again.name) == ("label", "v")
    assert again.metadata["classes"] == CLASSES


@pytest.mark.parametrize("name", NAMES)
def test_one_slice_and_colour(tmp_path: Path, name: str) -> None:
    values = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    image = sitk.GetImageFromArray(values, isVector=True)
    image.SetSpacing((0.5, 0.25))
    sitk.WriteImage(image, str(tmp_path / name))
    volume = read(tmp_path / name)
    np.testing.assert_array_equal(volume.data[:, 0], np.moveaxis(values, -1, 0))
    np.testing.assert_allclose(volume.spacing, (1, 0.25, 0.5))


def test_time_points(tmp_path: Path) -> None:
    series = np.stack([VALUES, VALUES + 1])
    image = sitk.GetImageFromArray(series, isVector=False)
    sitk.WriteImage(image, str(tmp_path / "t.mha"))
    many = np.stack([VALUES + t for t in range(6)], axis=-1)
    nrrd(tmp_path / "t.nrrd", "kinds: list domain domain domain", values=many, sizes="6 4 3 2")
    for name, count in (("t.mha", 2), ("t.nrrd", 6)):
        stack = read_stack(tmp_path / name)
        assert isinstance(stack, TimeStack)
        assert stack.data.shape == (1, count, 2, 3, 4)
        np.testing.assert_array_equal(read(tmp_path / name, time=2).data[0], VALUES + 1)
        with pytest.raises(InputError, match=f"{count} time points"):
            read(tmp_path / name)


def test_units_and_orientation_of_nrrd(tmp_path: Path) -> None:
    place = "space directions: (1,0,0) (0,2,0) (0,0,3)"
    lps, ras = "space: left-posterior-superior", "space: right-anterior-superior"
    micro = read(nrrd(tmp_path / "um.nrrd", lps, place, 'space units: "um" "um" "um"', "space origin: (10,20,30)"))
    np.testing.assert_allclose(micro.spacing, (0.003, 0.002, 0.001))
    np.testing.assert_allclose(micro.affine[:3, 3], (0.03, 0.02, 0.01))
    turned = read(nrrd(tmp_path / "ras.nrrd", ras, place, "space origin: (5,6,7)"))
    np.testing.assert_allclose(turned.affine, [[3, 0, 0, 7], [0, -2, 0, -6], [0, 0, -1, -5], [0, 0, 0, 1]])
    assert read(nrrd(tmp_path / "none.nrrd")).unit == "pixel"
    assert read(nrrd(tmp_path / "some.nrrd", "spacings: 1 2 3")).spacing == (3, 2, 1)


def test_segments_in_layers_are_laid_over_each_other(tmp_path: Path) -> None:
    layers = np.zeros((2, 3, 4, 2), np.uint8)
    layers[0, 0, :, 0] = 1
    layers[0, 0, 1:, 1] = 1
    fields = ["kinds: list domain domain domain"]
    for number, name in enumerate(("liver", "lesion")):
        about = {"ID": f"S{number}", "Name": name, "LabelValue": "1", "Layer": str(number), "Color": "1 0 0"}
        fields += [f"Segment{number}_{key}:={value}" for key, value in about.items()]
    volume = read(nrrd(tmp_path / "m.seg.nrrd", *fields, values=layers, sizes="2 4 3 2"))
    assert volume.data[0, 0, 0].tolist() == [1, 2, 2, 2]
    assert volume.metadata["classes"] == ((1, "liver", "#FF0000"), (2, "lesion", "#FF0000"))
    assert "2 layers and were numbered anew; 3 voxels belong to several" in volume.metadata["messages"][0]


@pytest.mark.parametrize("name", ["v.mha", "v.nrrd", "v.mhd"])
def test_cut_off_and_foreign(tmp_path: Path, name: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((9, 9, 9), np.int16)), str(tmp_path / name))
    whole = (tmp_path / name).read_bytes()
    for content in (whole[:1], whole[:20], whole[: len(whole) // 2], whole[:-9], b"hello\n" * 50, bytes(999)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert "SimpleITK-build" not in str(caught.value)


def test_damaged_segments_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "m.seg.nrrd", labels_on(np.eye(4), (2, 3, 4)))
    whole = path.read_bytes()
    for old, new in (
        (b"Segment0_Color:=0.", b"Segment0_Color:=x."),
        (b"Segment0_LabelValue:=1", b"Segment0_LabelValue:=?"),
    ):
        assert old in whole
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(InputError, match=r"m\.seg\.nrrd"):
            read(path)


def test_data_file_that_is_missing(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(tmp_path / "v.mhd"))
    (tmp_path / "v.raw").unlink()
    with pytest.raises(InputError, match=r"v\.mhd"):
        read(tmp_path / "v.mhd")


def test_complex_values_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.complex64)), str(tmp_path / "v.nrrd"))
    try:
        volume = read(tmp_path / "v.nrrd")
    except InputError as error:
        assert "complex" in str(error)  # noqa: PT017 - or read as two channels, as NRRD has no complex numbers
    else:
        assert isinstance(volume, Volume)
        assert volume.channels == 2


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_header_that_promises_too_much_takes_no_memory(tmp_path: Path, encoding: str) -> None:
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 20000 20000 20\nencoding: {encoding}\nendian: little\n\n"
    (tmp_path / "v.nrrd").write_bytes(head.encode() + b"abc")
    with pytest.raises(InputError, match="cut off: 16000000000 bytes"):
        read(tmp_path / "v.nrrd")
