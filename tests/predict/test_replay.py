"""Replaying: identical on the same scan, and what is said when something changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_llm4seg.errors import InputError
from napari_llm4seg.predict import Predictor
from napari_llm4seg.predict.record import Record
from napari_llm4seg.predict.replay import find_scan, replay
from napari_llm4seg.volume import Volume
from tests.predict.helpers import checkpoint


def made(seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).integers(0, 255, (1, 4, 9, 8), dtype=np.uint8), name="made")


def test_the_same_run_gives_the_same_result() -> None:
    predictor = Predictor(checkpoint(threshold=0.4), "cpu")
    volume = made()
    record = Record.of(predictor.predict(volume, slices=[3, 1], first=3), volume)
    # another predictor's own settings do not matter: the record's are used
    found = replay(record, volume, Predictor(checkpoint(threshold=0.9), "cpu"))
    assert found.identical
    assert found.differing_voxels == 0
    assert [(each.voxels_then, each.dice) for each in found.classes] == [(record.result.voxels[1], 1.0)]
    assert found.differences == ()


def test_threads_are_as_recorded_and_put_back() -> None:
    before = torch.get_num_threads()
    predictor = Predictor(checkpoint(), "cpu")
    record = Record.of(predictor.predict(made()), made())
    other = record.model_copy(update={"run": record.run.model_copy(update={"threads": before + 1})})
    found = replay(other, made(), predictor)
    assert found.prediction.provenance["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_what_differs_is_counted_and_named() -> None:
    predictor = Predictor(checkpoint(), "cpu")
    volume = made()
    prediction = predictor.predict(volume)
    record = Record.of(prediction, volume)
    other = volume.data.copy()
    other[0, 0, 0, :3] = 255 - other[0, 0, 0, :3]
    moved = Volume(other, np.diag([1.0, 2.0, 1.0, 1.0]), name="made")
    versions = {**record.run.versions, "torch": "1.0"}
    update = {
        "run": record.run.model_copy(update={"versions": versions, "device": "NVIDIA X"}),
        "model": record.model.model_copy(update={"sha256": "1" * 64}),
    }
    found = replay(record.model_copy(update=update), moved, predictor, original=prediction.as_volume())
    assert not found.identical
    assert found.differing_voxels == int((found.prediction.labels != prediction.labels).sum())
    assert 0 < found.differing_voxels <= 3
    (row,) = found.classes
    assert row.dice is not None
    assert 0.9 < row.dice < 1
    said = " ".join(found.differences)
    for word in ("values", "affine", "checkpoint", "torch 1.0 then", "Device: NVIDIA X then, CPU now"):
        assert word in said


def test_an_export_that_was_changed_is_not_counted_against() -> None:
    predictor = Predictor(checkpoint(), "cpu")
    volume = made()
    prediction = predictor.predict(volume)
    record = Record.of(prediction, volume)
    painted = prediction.as_volume().with_data(1 - prediction.labels[None])
    found = replay(record, made(1), predictor, original=painted)
    assert (found.identical, found.differing_voxels, found.classes[0].dice) == (False, None, None)


def test_an_export_without_its_empty_slices_is_counted_against() -> None:
    predictor = Predictor(checkpoint(), "cpu")
    volume = made()
    prediction = predictor.predict(volume, slices=[1, 2])
    record = Record.of(prediction, volume)
    affine = np.eye(4)
    affine[0, 3] = 1
    cut = Volume(prediction.labels[None, 1:3], affine, kind="label")
    other = Volume(255 - volume.data, name="made")
    found = replay(record, other, predictor, original=cut)
    assert found.differing_voxels == int((found.prediction.labels != prediction.labels).sum()) > 0


def test_tried_out_layers_are_refused() -> None:
    predictor = Predictor(checkpoint(), "cpu")
    record = Record.of(predictor.predict(made()), made())
    swapped = record.model_copy(update={"model": record.model.model_copy(update={"block_state": "swapped"})})
    with pytest.raises(InputError, match="other language-model layers"):
        replay(swapped, made(), predictor)


def test_finding_the_scan(tmp_path: Path) -> None:
    record = Record.of(Predictor(checkpoint(), "cpu").predict(made()), made())
    with pytest.raises(InputError, match="not at"):
        find_scan(record, tmp_path)
    (tmp_path / "made").touch()
    assert find_scan(record, tmp_path) == tmp_path / "made"
