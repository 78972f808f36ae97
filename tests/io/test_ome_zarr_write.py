"""OME-Zarr out: values, grid, names and colours as zarr itself and the specification have them."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import read, write
from napari_llm4seg.io.ome_zarr_write import creating
from napari_llm4seg.volume import Volume, affine_from_spacing
from tests.io.geometry import CLASSES, GRIDS, SHAPES, labels_on

FILES = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FILES
@given(GRIDS, SHAPES, st.sampled_from([np.uint8, np.uint16, np.int32]))
def test_labels_round_trip(tmp_path: Path, affine, shape, dtype) -> None:
    volume = labels_on(affine, shape)
    volume = volume.with_data(volume.data.astype(dtype))
    path = write(tmp_path / "m.ome.zarr", volume)
    np.testing.assert_array_equal(zarr.open_group(str(path), mode="r")["0"][:], volume.data[0])
    back = read(path)
    assert (back.kind, back.unit, back.data.dtype) == ("label", "mm", dtype)
    np.testing.assert_array_equal(back.affine, affine)
    np.testing.assert_array_equal(np.asarray(back.data), volume.data)
    assert back.metadata["classes"] == CLASSES


def test_metadata_as_ngff_has_them(tmp_path: Path) -> None:
    affine = affine_from_spacing((3.0, 0.5, 0.25))
    affine[:3, 3] = (-20, 10, 5)
    group = zarr.open_group(str(write(tmp_path / "m.zarr", labels_on(affine, (2, 3, 4)))), mode="r")
    ome = group.attrs["ome"]
    assert group.metadata.zarr_format == 3
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert [(axis["name"], axis["type"], axis["unit"]) for axis in image["axes"]] == [
        (name, "space", "millimeter") for name in "zyx"
    ]
    (dataset,) = image["datasets"]
    assert dataset["coordinateTransformations"] == [
        {"type": "scale", "scale": [3.0, 0.5, 0.25]},
        {"type": "translation", "translation": [-20.0, 10.0, 5.0]},
    ]
    assert group[dataset["path"]].metadata.dimension_names == ("z", "y", "x")
    label = ome["image-label"]
    assert label["colors"][0] == {"label-value": 1, "rgba": [0xE6, 0x9F, 0x00, 255]}
    assert [(item["label-value"], item["name"]) for item in label["properties"]] == [
        (value, name) for value, name, _ in CLASSES
    ]


def test_large_planes_get_coarser_levels(tmp_path: Path) -> None:
    labels = np.zeros((1, 1, 1300, 2500), np.uint8)
    labels[..., 4, 8] = 1
    labels[..., 5, 5] = 2
    group = zarr.open_group(str(write(tmp_path / "m.zarr", Volume(labels, kind="label"))), mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert [group[each["path"]].shape for each in datasets] == [(1, 1300, 2500), (1, 650, 1250), (1, 325, 625)]
    assert [each["coordinateTransformations"][0]["scale"] for each in datasets] == [[1, 1, 1], [1, 2, 2], [1, 4, 4]]
    assert group["2"][0, 1, 2] == 1
    assert set(np.unique(group["1"][:])) == {0, 1}  # taken, never blended: label values stay label values


def test_intensities_keep_their_channels_and_lazy_data_go_slab_by_slab(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 40, 5, 6)).astype(np.float32)
    lazy = da.from_array(values, chunks=(2, 7, 5, 6))
    back = read(write(tmp_path / "v.ome.zarr", Volume(lazy, unit="mm")))
    assert back.kind == "intensity"
    np.testing.assert_array_equal(np.asarray(back.data), values)
    with pytest.raises(InputError, match="complex"):
        write(tmp_path / "c.zarr", Volume(values.astype(np.complex64)))


def test_a_result_piece_by_piece_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    scan = Volume(np.zeros((1, 4, 5, 6), np.int16), affine_from_spacing((2, 1, 1)), unit="mm")

    def stopped() -> None:
        with creating(tmp_path / "m.zarr", scan, CLASSES, np.uint8) as array:
            array[0] = 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped()
    assert list(tmp_path.iterdir()) == []
    with creating(tmp_path / "m.zarr", scan, CLASSES, np.uint8) as array:
        array[1] = 2
    back = read(tmp_path / "m.zarr")
    assert back.metadata["classes"] == CLASSES
    np.testing.assert_array_equal(back.affine, scan.affine)
    assert np.asarray(back.data).sum() == 2 * 30


def test_what_is_no_zarr_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "m.zarr").mkdir()
    (tmp_path / "m.zarr" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        write(tmp_path / "m.zarr", labels_on(np.eye(4), (2, 3, 4)))
    write(tmp_path / "n.zarr", labels_on(np.eye(4), (2, 3, 4)))
    write(tmp_path / "n.zarr", labels_on(np.eye(4), (2, 5, 4)))
    assert read(tmp_path / "n.zarr").grid == (2, 5, 4)
