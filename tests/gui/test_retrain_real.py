"""The dock's training with the real process, a real small network and real versions; only the window is missing."""

from __future__ import annotations

import os
import queue
import signal
import sys
import time

import numpy as np
import pytest

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import (
    BackboneConfig,
    Card,
    CheckpointConfig,
    ClassSpec,
    FinetuneConfig,
    FitConfig,
    ModelConfig,
    PreprocessConfig,
)
from napari_llm4seg.gui.controllers.keeping import ProjectKeeper
from napari_llm4seg.gui.controllers.retrain import RetrainController
from napari_llm4seg.gui.layers import volume_from_layer
from napari_llm4seg.gui.models import Models
from napari_llm4seg.gui.state.session import ModelEntry
from napari_llm4seg.jobs import InlineRunner
from napari_llm4seg.jobs.child import TrainingChild

pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path):
    """A network that has learnt nothing yet, as a checkpoint and an entry of the list."""
    from napari_llm4seg.models.build import build_network

    model = ModelConfig(
        backbone=BackboneConfig(kind="cmunext", in_channels=1, widths=(4, 8), depths=(1, 1), kernels=(3, 3)),
        block=None,
        classes=(ClassSpec(value=1, name="liver"), ClassSpec(value=2, name="spleen")),
        head="softmax",
    )
    preprocess = PreprocessConfig(channels="grey", size=(16, 16), mean=(0.0,), sd=(1.0,))
    config = CheckpointConfig(model=model, preprocess=preprocess, card=Card(name="liver"))
    Checkpoint(config, dict(build_network(model).trained_tensors())).save(tmp_path / "model")
    return ModelEntry("start", "liver", tmp_path / "model", config.card)


@pytest.fixture
def start_3d(tmp_path):
    """The same for whole volumes."""
    from napari_llm4seg.models.build import build_network

    model = ModelConfig(
        backbone=BackboneConfig(kind="unet", spatial_dims=3, in_channels=1, widths=(4, 8)),
        block=None,
        classes=(ClassSpec(value=1, name="liver"), ClassSpec(value=2, name="spleen")),
        head="softmax",
    )
    preprocess = PreprocessConfig(channels="grey", size=(16, 16), patch=(4, 8, 8), mean=(0.0,), sd=(1.0,))
    config = CheckpointConfig(model=model, preprocess=preprocess, card=Card(name="liver"))
    Checkpoint(config, dict(build_network(model).trained_tensors())).save(tmp_path / "model-3d")
    return ModelEntry("start", "liver", tmp_path / "model-3d", config.card)


class Room:
    """The dock's controllers on a viewer with a mask, and real children whose events wait to be heard."""

    def __init__(self, fakes, correct_bench, start, shape=(6, 12, 14)):
        self.bench, self.events, self.children = correct_bench.Bench(fakes, shape=shape), queue.Queue(), []
        models, self.view, self.wanted = Models(), fakes.RecordingView(), []
        session = self.bench.session
        self.controller = RetrainController(
            session,
            self.bench.controller,
            self.bench.port,
            models,
            ProjectKeeper(),
            self.make,
            self.view,
            lambda: InlineRunner(interval=0),
            aside=lambda call: call(),
        )
        session.model_wanted.connect(lambda entry, predictor: self.wanted.append((entry, predictor)))
        self.controller.start()
        self.controller.choose_parts("all")
        session.model, session.predictor = start, models.load(start, "cpu")

    def make(self, on_event):
        self.children.append(TrainingChild(on_event, self.events.put, threads=1))
        return self.children[-1]

    def until(self, condition):
        end = time.monotonic() + 120
        while not condition():
            self.events.get(timeout=max(0.1, end - time.monotonic()))()

    def close(self):
        self.controller.close()
        self.bench.controller.close()


def cross_checked(room, monkeypatch):
    """Train further on four slices, and have the learning judged on all of them; the decision stays as it was."""
    controller, view = room.controller, room.view
    room.bench.viewer.dims.set_current_step(0, 5)
    room.bench.controller.confirm()
    room.bench.written()
    room.bench.controller._render()
    short = FinetuneConfig(parts="all", fit=FitConfig(epochs=2, batch=2, validate_every=1), seconds=None, variants=2)
    monkeypatch.setattr(FinetuneConfig, "quick", classmethod(lambda cls, parts: short))
    controller.retrain()
    room.until(lambda: not view.state.busy)
    assert view.state.verdict.check.text.startswith("Check on all 4 slices (about "), view.state.message
    controller.cross_check()
    said = set()

    def over():
        said.add(view.state.progress.text if view.state.progress else "")
        return not view.state.busy

    room.until(over)
    assert view.state.verdict.lines[0] == "All 4 slices, each judged unseen", view.state.message
    assert any(text.startswith("cross-check 3 of 3 · epoch ") for text in said)
    controller.roll_back()


def test_train_kill_train_again_keep_roll_back_and_begin_anew(fakes, correct_bench, start, monkeypatch):
    room = Room(fakes, correct_bench, start)
    bench, controller, view, children = room.bench, room.controller, room.view, room.children
    wanted, until = room.wanted, room.until
    try:
        layer = bench.segment()
        for z in range(6):
            bench.viewer.dims.set_current_step(0, z)
            if z % 2 == 0:
                bench.controller.confirm()
        bench.written()
        bench.controller._render()
        before = layer.data.copy()
        assert view.state.train.text == "Retrain with 3 slices"
        controller.retrain()
        if sys.platform != "win32":
            until(lambda: view.state.curve is not None)
            os.kill(children[0].pid, signal.SIGKILL)
            until(lambda: not view.state.busy)
            assert "was killed" in view.state.message.text
            controller.retrain()
        until(lambda: view.state.curve is not None)
        controller.stop()
        until(lambda: not view.state.busy)
        assert view.state.verdict is not None, view.state.message
        assert "Not measured" in view.state.verdict.words
        assert "slice 5" in view.state.verdict.changes
        controller.keep()
        entry, predictor = wanted[-1]
        assert entry.name == "liver v1"
        assert Checkpoint.load(entry.path).digest == predictor.checkpoint.digest
        assert [row.name for row in view.state.versions] == ["liver v1"]
        assert np.array_equal(layer.data[::2], before[::2]), "what was confirmed stays"
        controller.roll_back()
        assert np.array_equal(layer.data, before)
        assert wanted[-1][0] == start
        assert entry.path.is_dir(), "the version stays"
        cross_checked(room, monkeypatch)
        controller.new_model("abdomen")
        until(lambda: view.state.curve is not None)
        controller.stop()
        until(lambda: not view.state.busy)
        assert view.state.verdict is not None, view.state.message
        controller.cross_check()
        until(lambda: view.state.progress.text.startswith("cross-check 1 of "))
        controller.cancel()
        until(lambda: not view.state.busy)
        assert "cross-check was stopped" in view.state.message.text
        controller.keep()
        entry, predictor = wanted[-1]
        assert [spec.name for spec in predictor.checkpoint.config.model.classes] == ["liver", "spleen"]
        assert [row.number for row in view.state.versions] == [1, 2]
        assert np.array_equal(layer.data[::2], before[::2])
    finally:
        room.close()


def test_a_network_of_volumes_learns_from_slices_is_judged_kept_and_rolled_back(fakes, correct_bench, start_3d):
    room = Room(fakes, correct_bench, start_3d, (14, 12, 14))
    bench, controller, view = room.bench, room.controller, room.view
    try:
        layer = bench.segment(found=range(2, 11))
        bench.controller.set_partial(True)
        bench.paint(layer, 1, 5, 5)
        bench.controller.set_partial(False)
        for z in (3, 6, 9, 12):
            bench.viewer.dims.set_current_step(0, z)
            bench.controller.confirm()
        bench.written()
        bench.controller._render()
        before = layer.data.copy()
        assert view.state.train.text == "Retrain with 5 slices"
        controller.retrain()
        room.until(lambda: view.state.curve is not None)
        store = bench.controller.project.store
        assert store.volume(store.scans()[0]).grid == (14, 12, 14), "the child reads the whole scan from the project"
        controller.stop()
        room.until(lambda: not view.state.busy)
        assert view.state.verdict is not None, view.state.message
        assert view.state.verdict.lines[0] == "Held back: 1 slice"
        if view.state.verdict.worse:
            controller.keep()
        controller.keep()
        entry, predictor = room.wanted[-1]
        assert entry.name == "liver v1"
        facts = predictor.checkpoint.config.card.training
        assert len(facts["samples"]) + len(facts["held_back"]) + len(facts["left_out"]) == 5
        corrected = [1, 3, 6, 9, 12]
        assert np.array_equal(layer.data[corrected], before[corrected]), "what was corrected stays"
        volume = volume_from_layer(bench.scan)
        fresh = predictor.predict(volume).labels
        untouched = [z for z in range(14) if z not in corrected]
        assert np.array_equal(layer.data[untouched], fresh[untouched]), "and the rest is the new model's"
        controller.roll_back()
        assert np.array_equal(layer.data, before)
        assert room.wanted[-1][0] == start_3d
    finally:
        room.close()
