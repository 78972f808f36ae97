"""Records: what is in them, what is not, and that a file which is none says so."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import read
from napari_llm4seg.predict import Predictor
from napari_llm4seg.predict.export import export
from napari_llm4seg.predict.record import Record, labels_digest, record_place
from napari_llm4seg.volume import Volume
from tests.predict.helpers import checkpoint


def scan(tmp_path: Path) -> Volume:
    path = tmp_path / "scans" / "scan.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 14), dtype=np.uint8)).save(path)
    return read(path)


def test_what_a_record_holds(tmp_path: Path) -> None:
    volume = scan(tmp_path)
    prediction = Predictor(checkpoint(), "cpu").predict(volume, keep_probabilities=False)
    written = export(tmp_path / "out" / "mask.nii.gz", prediction, volume)
    assert written.paths == [tmp_path / "out" / "mask.nii.gz", tmp_path / "out" / "mask.record.json"]
    record = Record.load(tmp_path / "out" / "mask.record.json")
    assert (record.input.name, record.input.path) == ("scan.png", "../scans/scan.png")
    assert record.input.files_sha256 == hashlib.sha256((tmp_path / "scans" / "scan.png").read_bytes()).hexdigest()
    assert record.input.sha256 == prediction.provenance["source"]["sha256"]
    assert (record.input.grid, record.input.dtype, record.input.unit) == ((1, 12, 14), "uint8", "pixel")
    assert (record.model.name, record.model.sha256) == ("identity", "0" * 64)
    assert record.model.predict["threshold"] == 0.5
    assert (record.run.torch_device, record.run.slices, record.run.first) == ("cpu", None, 0)
    assert {"torch", "numpy", "napari-llm4seg", "python"} <= set(record.run.versions)
    assert record.run.threads
    assert record.result.name == "mask.nii.gz"
    assert record.result.voxels == {1: int(prediction.labels.sum())}
    assert record.result.sha256 == labels_digest(prediction.labels, prediction.affine)
    assert str(tmp_path) not in (tmp_path / "out" / "mask.record.json").read_text()


def test_some_slices_are_noted(tmp_path: Path) -> None:
    volume = Volume(np.random.default_rng(0).integers(0, 255, (1, 5, 8, 8), dtype=np.uint8), name="made")
    prediction = Predictor(checkpoint(), "cpu").predict(volume, slices=[1, 3, 4], first=3)
    record = Record.of(prediction, volume)
    assert (record.run.slices, record.run.first) == ((1, 3, 4), 3)
    assert (record.input.files, record.input.files_sha256) == (0, None)


def test_a_digest_does_not_depend_on_how_labels_are_held() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    import dask.array

    digest = labels_digest(labels)
    assert labels_digest(labels.astype(np.uint16)) == digest
    assert labels_digest(dask.array.from_array(labels, chunks=(2, 6, 7))) == digest
    assert labels_digest(np.asfortranarray(labels)) == digest
    assert labels_digest(labels.reshape(5, 7, 6)) != digest
    assert labels_digest(labels, np.eye(4)) != digest
    changed = labels.copy()
    changed[2, 3, 4] += 1
    assert labels_digest(changed) != digest


def test_labels_of_unknown_origin_get_no_record(tmp_path: Path) -> None:
    volume = scan(tmp_path)
    labels = volume.with_data(np.zeros((1, 1, 12, 14), np.uint8), kind="label")
    assert export(tmp_path / "m.png", labels, volume).paths == [tmp_path / "m.png"]
    with pytest.raises(InputError, match="not known"):
        Record.of(labels, volume)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other/1"}', '{"format": "napari-llm4seg-record/1"}'])
def test_what_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json") as caught:
        Record.load(tmp_path / "r.json")
    assert "\n" not in str(caught.value)


def test_a_newer_record_with_more_in_it_is_read(tmp_path: Path) -> None:
    volume = scan(tmp_path)
    prediction = Predictor(checkpoint(), "cpu").predict(volume)
    value = json.loads(Record.of(prediction, volume).model_dump_json())
    value["run"]["weather"] = "fine"
    (tmp_path / "r.json").write_text(json.dumps(value))
    assert Record.load(tmp_path / "r.json") == Record.of(prediction, volume)


@pytest.mark.parametrize(
    ("output", "record"),
    [
        ("mask.nii.gz", "mask.record.json"),
        ("a.b.seg.nrrd", "a.b.record.json"),
        ("m.png", "m.record.json"),
        ("m.ome.zarr", "m.record.json"),
    ],
)
def test_where_the_record_lies(output: str, record: str) -> None:
    assert record_place(Path("x") / output) == Path("x") / record
