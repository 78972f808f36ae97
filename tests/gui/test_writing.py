"""napari's File > Save As: labels with the exact grid of their scan, names, colours and record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from npe2 import PluginManifest

from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.controllers.ports import ResultSpec, SlicePart
from napari_llm4seg.gui.layer_tuples import layer_tuples
from napari_llm4seg.gui.layers import volume_from_layer
from napari_llm4seg.gui.writing import export_source, write_labels
from napari_llm4seg.io import WRITERS, read, write
from napari_llm4seg.io._files import suffix_of
from napari_llm4seg.predict import Predictor
from napari_llm4seg.predict.record import Record
from napari_llm4seg.volume import Volume
from tests.conftest import ROOT
from tests.io.geometry import oblique
from tests.predict.helpers import checkpoint

CLASSES = ((1, "lesion", "#E69F00"), (4, "cyst", "#56B4E9"))


def opened(viewer: ViewerModel, volume: Volume) -> Layer:
    """Show a scan as the reader does."""
    ((data, options, kind),) = layer_tuples(volume)
    return viewer.add_layer(Layer.create(data, options, kind))


def result(fakes: Any, viewer: ViewerModel, scan: Layer, slices: int) -> Any:
    handle = fakes.begun(viewer, scan, ResultSpec("model", "0" * 64, CLASSES, None, ()))
    for z in range(slices):
        labels = np.zeros(scan.data.shape[-2:], np.uint8)
        labels[1, 2] = 4
        handle.write(SlicePart(z, labels, None))
    return viewer.layers[handle.name]


def saved(layer: Layer, path: Path) -> list[str]:
    return write_labels(str(path), *layer.as_layer_data_tuple()[:2])


@pytest.mark.parametrize("slices", [1, 3])
def test_a_result_has_the_header_of_its_scans_file(tmp_path: Path, slices: int, fakes: Any) -> None:
    header = nib.Nifti1Image(np.zeros((6, 5, slices), np.int16), None).header
    affine = np.array([[-0.7, 0.1, 0.3, 90.3], [0, 0.8, 0.2, -120.7], [0.2, 0, 2.5, -301.9], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.zeros((6, 5, slices), np.int16), affine, header)
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=3)
    nib.save(image, tmp_path / "ct.nii.gz")
    viewer = ViewerModel()
    layer = result(fakes, viewer, opened(viewer, read(tmp_path / "ct.nii.gz")), slices)
    saved(layer, tmp_path / "m.nii.gz")
    found, source = nib.load(tmp_path / "m.nii.gz").header, nib.load(tmp_path / "ct.nii.gz").header
    for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim"):
        np.testing.assert_array_equal(found[field], source[field], field)
    back = read(tmp_path / "m.nii.gz")
    assert back.metadata["classes"] == CLASSES
    assert np.unique(back.data[:, :, 1, 2]).tolist() == [4]
    assert np.count_nonzero(back.data) == slices


@pytest.mark.parametrize("shape", [(1, 1, 5, 6), (1, 4, 5, 6)])
def test_the_grid_comes_back_to_the_bit_until_the_layer_is_moved(shape: tuple[int, ...]) -> None:
    for seed in range(5):
        volume = Volume(np.zeros(shape, np.int16), oblique(seed, (2.5, 0.7, 0.8), flipped=seed > 2), unit="mm")
        layer = opened(ViewerModel(), volume)
        np.testing.assert_array_equal(volume_from_layer(layer).affine, volume.affine)
        layer.translate = np.asarray(layer.translate) + 1
        assert not np.allclose(volume_from_layer(layer).affine, volume.affine)


def test_every_format_of_the_manifest_is_written_and_the_other_way_round(tmp_path: Path, fakes: Any) -> None:
    writers = PluginManifest.from_file(ROOT / "napari.yaml").contributions.writers or ()
    endings = [ending for writer in writers for ending in writer.filename_extensions]
    assert {suffix_of(f"m{ending}") for ending in endings} | {".npy"} == set(WRITERS)
    viewer = ViewerModel()
    layer = result(fakes, viewer, opened(viewer, Volume(np.zeros((1, 1, 5, 6), np.uint8))), 1)
    for ending in endings:
        if ending == ".dcm":
            with pytest.raises(InputError, match="did not come from"):
                saved(layer, tmp_path / f"m{ending}")
        else:
            assert saved(layer, tmp_path / f"m{ending}") == [str(tmp_path / f"m{ending}")]


def test_the_record_goes_along_and_says_what_was_edited(tmp_path: Path, fakes: Any) -> None:
    scan = Volume(np.random.default_rng(0).integers(0, 255, (1, 3, 5, 6), dtype=np.uint8), unit="mm", name="made")
    viewer = ViewerModel()
    image = opened(viewer, read(write(tmp_path / "scan.nii.gz", scan)))
    prediction = Predictor(checkpoint(), "cpu").predict(volume_from_layer(image))
    handle = fakes.begun(viewer, image, ResultSpec("model", "0" * 64, CLASSES, None, ()))
    for z in range(3):
        handle.write(SlicePart(z, prediction.labels[z], None))
    handle.finish(prediction.provenance)
    layer = viewer.layers[handle.name]
    source = export_source(layer, image)
    assert not source.edited
    assert source.scan is not None
    record = Record.of(source.labels, source.scan, tmp_path / "m.nii.gz")
    assert record.result.sha256 == Record.of(prediction, scan).result.sha256
    assert (record.input.name, record.input.path) == ("scan.nii.gz", "scan.nii.gz")
    assert record.input.sha256 == Record.of(prediction, scan).input.sha256
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 4)
    assert export_source(layer, image).edited
    assert json.loads(record.model_dump_json())["result"]["edited"] is False


def test_a_dicom_scan_gives_a_dicom_segmentation_until_its_mask_is_moved(tmp_path: Path, fakes: Any) -> None:
    from pydicom.data import get_testdata_file

    viewer = ViewerModel()
    scan = opened(viewer, read(get_testdata_file("CT_small.dcm")))
    layer = result(fakes, viewer, scan, 1)
    saved(layer, tmp_path / "m.dcm")
    back = read(tmp_path / "m.dcm")
    np.testing.assert_allclose(back.affine[:, 1:], volume_from_layer(scan).affine[:, 1:], atol=1e-6)
    assert back.metadata["classes"] == CLASSES
    layer.translate = (5, 0)
    with pytest.raises(InputError, match="does not lie on the slices"):
        saved(layer, tmp_path / "n.dcm")


def test_labels_that_a_person_painted_alone(tmp_path: Path) -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(np.eye(4, dtype=np.uint8) * 2, scale=(0.5, 0.25), units="mm")
    assert saved(layer, tmp_path / "m.tif") == [str(tmp_path / "m.tif")]
    back = read(tmp_path / "m.tif")
    assert (back.kind, back.unit, back.spacing) == ("label", "mm", (1.0, 0.5, 0.25))
    assert back.metadata["classes"][0][:2] == (2, "label 2")


def test_of_a_mask_of_time_points_the_one_on_show_is_written(fakes: Any) -> None:
    viewer = ViewerModel()
    scan = viewer.add_image(np.arange(4 * 2 * 5 * 6, dtype=np.int16).reshape(4, 2, 5, 6), axis_labels=tuple("tzyx"))
    handle = fakes.begun(viewer, scan, ResultSpec("model", "0" * 64, CLASSES, None, ()))
    labels = np.zeros((5, 6), np.uint8)
    labels[1, 2] = 4
    handle.write(SlicePart(2 * 2 + 1, labels, None))
    handle.finish({"checkpoint": "abc", "source": "of 1", "frames": {"1": "of 1", "2": "of 2"}})
    layer = viewer.layers[handle.name]
    with pytest.raises(InputError, match="holds 4 time points"):
        export_source(layer, scan)
    for frame, source in ((2, "of 2"), (1, "of 1"), (0, None)):
        found = export_source(layer, scan, frame)
        assert found.labels.grid == (2, 5, 6)
        assert bool(found.labels.data[0, 1, 1, 2]) == (frame == 2)
        assert found.scan is not None
        np.testing.assert_array_equal(found.scan.data[0], scan.data[frame])
        provenance = found.labels.metadata.get("provenance")
        assert (provenance and provenance["source"]) == source
        assert not found.edited
    layer.data[2, 0, 0, 0] = 1
    assert export_source(layer, scan, 2).edited
    assert not export_source(layer, scan, 1).edited
