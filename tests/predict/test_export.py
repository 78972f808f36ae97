"""Exports: every format by its suffix, and results that go to the disk as they are found."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from napari_llm4seg.io import read
from napari_llm4seg.predict import Predictor
from napari_llm4seg.predict.export import export, segment_to
from napari_llm4seg.predict.record import Record
from napari_llm4seg.predict.replay import exported, replay
from napari_llm4seg.volume import Volume, affine_from_spacing
from tests.predict.helpers import checkpoint


def lazy(slices: int, side: int = 16) -> Volume:
    one = np.random.default_rng(0).integers(0, 255, (1, 1, side, side), dtype=np.uint8)
    data = da.concatenate([da.from_array(one, chunks=one.shape)] * slices, axis=1)
    return Volume(data, affine_from_spacing((2, 1, 1)), unit="mm", name="long")


def test_into_zarr_gives_what_memory_gives_and_the_same_record(tmp_path: Path) -> None:
    volume, predictor = lazy(20), Predictor(checkpoint(), "cpu")
    there, written = segment_to(tmp_path / "m.ome.zarr", predictor, volume)
    assert not isinstance(there.labels, np.ndarray)  # on the disk, never whole in memory
    here, plain = segment_to(tmp_path / "m2.nii.gz", predictor, volume)
    np.testing.assert_array_equal(np.asarray(there.labels), here.labels)
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "m.ome.zarr").data[0]), here.labels)
    records = [Record.load(path.record) for path in (written, plain) if path.record]
    assert records[0].result.sha256 == records[1].result.sha256
    assert records[0].result.voxels == records[1].result.voxels
    assert replay(records[0], volume, predictor, original=exported(records[0], tmp_path)).identical


@pytest.mark.parametrize("name", ["m.nii.gz", "m.seg.nrrd", "m.mha", "m.tif", "m.npy", "m.zarr"])
def test_every_format_has_its_record(tmp_path: Path, name: str) -> None:
    volume = Volume(np.random.default_rng(0).integers(0, 255, (1, 3, 9, 8), dtype=np.uint8), unit="mm", name="made")
    prediction = Predictor(checkpoint(), "cpu").predict(volume)
    written = export(tmp_path / name, prediction, volume)
    assert [path.name for path in written.paths] == [name, "m.record.json"]
    assert written.record is not None
    back = exported(Record.load(written.record), tmp_path)
    assert back is not None
    np.testing.assert_array_equal(np.asarray(back.data[0]), prediction.labels)
