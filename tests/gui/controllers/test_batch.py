"""The batch page's behaviour: real files, a model that thresholds, no window and no thread."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.gui.controllers.batch import BatchController
from napari_llm4seg.gui.models import Models
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.io import read, write
from napari_llm4seg.jobs import InlineRunner
from napari_llm4seg.volume import Volume, affine_from_spacing


def thresholds(fakes):
    """The fake predictor, saying of its results what a record needs."""
    predictor = fakes.FakePredictor(fakes.checkpoint())
    config = predictor.checkpoint.config
    plain = predictor.predict

    def predict(volume, **how):
        made = plain(volume, **how)
        provenance = {
            "checkpoint": {"name": "breast-ultrasound", "sha256": "0" * 64},
            "frozen_layers": [],
            "block_state": None,
            "model": config.model.model_dump(mode="json"),
            "preprocess": config.preprocess.model_dump(mode="json"),
            "predict": config.predict.model_dump(mode="json"),
            "source": {"name": volume.name, "sha256": "1" * 64, "grid": list(volume.grid)},
            "slices": list(range(volume.n_slices)),
            "device": "CPU",
            "versions": {"python": "3"},
            "date": "2026-01-01T00:00:00+00:00",
            "seconds": 0.1,
            "messages": [],
        }
        return replace(made, provenance=provenance)

    predictor.predict = predict
    return predictor


class Bench:
    """A session with a model, and the page's controller with a view that remembers."""

    def __init__(self, fakes):
        self.session, self.view, self.added = Session(), fakes.RecordingView(), []
        self.session.predictor = thresholds(fakes)
        source = Models()
        source.configured = lambda predictor, config: predictor
        self.controller = BatchController(
            self.session, source, self.view, lambda: InlineRunner(interval=0), PredictConfig, self.added.append
        )
        self.controller.start()

    @property
    def state(self):
        return self.view.state


@pytest.fixture
def bench(fakes):
    return Bench(fakes)


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "c"):
        data = np.zeros((1, 2, 8, 9), np.uint8)
        data[:, :, 2:5, 3:6] = 200
        write(tmp_path / "scans" / f"{name}.nii.gz", Volume(data, affine_from_spacing((2, 1, 1)), unit="mm"))
    return tmp_path / "scans"


def test_a_folder_is_segmented_and_said(bench, folder):
    assert "Choose a folder" in bench.state.start.tooltip
    bench.controller.choose_source(folder)
    assert bench.state.source_words == "3 scans found"
    assert bench.state.out == str(folder.with_name("scans_masks"))
    assert [row.name for row in bench.state.rows] == ["a", "b", "c"]
    assert bench.state.start.enabled
    bench.controller.start_batch()
    assert [row.status for row in bench.state.rows] == ["done"] * 3
    assert bench.state.rows[0].found == "lesion 36 mm³"
    assert "3 of 3 scans segmented" in bench.state.message.text
    assert read(folder.with_name("scans_masks") / "a_seg.nii.gz").data.sum() == 18
    assert bench.session.busy == ""
    assert any(state.busy and state.progress is not None for state in bench.view.states)
    bench.controller.start_batch()
    assert [row.status for row in bench.state.rows] == ["done before"] * 3


def test_a_bad_file_is_told_in_its_row(bench, folder):
    (folder / "b.nii.gz").write_bytes(b"no image")
    bench.controller.choose_source(folder)
    bench.controller.start_batch()
    assert [row.status for row in bench.state.rows] == ["done", "failed", "done"]
    assert "b.nii.gz" in bench.state.rows[1].details
    assert bench.state.message.kind == "warning"
    assert "1 failed" in bench.state.message.text
    bench.controller.open_case("b")
    assert not bench.added


def test_a_finished_case_is_opened_with_its_mask(bench, folder):
    bench.controller.choose_source(folder)
    bench.controller.start_batch()
    bench.controller.open_case("a")
    (volumes,) = bench.added
    assert [volume.kind for volume in volumes] == ["intensity", "label"]
    assert volumes[1].metadata["classes"][0][:2] == (1, "lesion")
    assert volumes[1].data.sum() == 18
    (folder.with_name("scans_masks") / "c_seg.nii.gz").unlink()
    bench.controller.open_case("c")
    assert bench.state.message.kind == "error"
    bench.controller.dismiss_message()
    assert bench.state.message is None


def test_what_cannot_be_started_says_why(bench, tmp_path):
    (tmp_path / "empty").mkdir()
    bench.controller.choose_source(tmp_path / "empty")
    assert bench.state.message.kind == "error"
    assert "No scan was found" in bench.state.start.tooltip
    write(tmp_path / "full" / "a.png", Volume(np.zeros((1, 1, 8, 9), np.uint8)))
    bench.controller.choose_out(tmp_path / "here")
    bench.controller.choose_source(tmp_path / "full")
    assert bench.state.out == str(tmp_path / "here"), "a chosen place stays chosen"
    bench.session.busy = "'ct' is being segmented."
    assert "Wait until" in bench.state.start.tooltip
    bench.session.busy = ""
    bench.session.predictor = None
    assert "model" in bench.state.start.tooltip


def test_cancel_keeps_what_was_finished(bench, folder):
    predict = bench.session.predictor.predict

    def once(volume, **how):
        if volume.name == "b":
            bench.controller.cancel_batch()
        return predict(volume, **how)

    bench.session.predictor.predict = once
    bench.controller.choose_source(folder)
    bench.controller.start_batch()
    assert bench.state.message.text.startswith("Stopped.")
    assert [path.name for path in Path(bench.state.out).glob("*.nii.gz")] == ["a_seg.nii.gz"]
    assert [row.status for row in bench.state.rows] == ["done", "stopped", ""]
    assert bench.session.busy == ""
    assert not bench.state.busy


def test_a_closed_page_lets_go(bench, folder):
    bench.controller.choose_source(folder)
    bench.controller.close()
    shown = len(bench.view.states)
    bench.session.busy = "something"
    assert len(bench.view.states) == shown
    bench.controller.close()
