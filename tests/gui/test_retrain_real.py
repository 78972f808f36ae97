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
from napari_llm4seg.config import BackboneConfig, Card, CheckpointConfig, ClassSpec, ModelConfig, PreprocessConfig
from napari_llm4seg.gui.controllers.keeping import ProjectKeeper
from napari_llm4seg.gui.controllers.retrain import RetrainController
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


def test_train_kill_train_again_keep_roll_back_and_begin_anew(fakes, correct_bench, start):
    bench = correct_bench.Bench(fakes)
    events: queue.Queue = queue.Queue()
    children = []

    def make(on_event):
        children.append(TrainingChild(on_event, events.put, threads=1))
        return children[-1]

    models, view = Models(), fakes.RecordingView()
    controller = RetrainController(
        bench.session,
        bench.controller,
        bench.port,
        models,
        ProjectKeeper(),
        make,
        view,
        lambda: InlineRunner(interval=0),
        aside=lambda call: call(),
    )
    wanted = []
    bench.session.model_wanted.connect(lambda entry, predictor: wanted.append((entry, predictor)))

    def until(condition):
        end = time.monotonic() + 120
        while not condition():
            events.get(timeout=max(0.1, end - time.monotonic()))()

    try:
        controller.start()
        controller.choose_parts("all")
        bench.session.model = start
        bench.session.predictor = models.load(start, "cpu")
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
        controller.new_model("abdomen")
        until(lambda: view.state.curve is not None)
        controller.stop()
        until(lambda: not view.state.busy)
        assert view.state.verdict is not None, view.state.message
        controller.keep()
        entry, predictor = wanted[-1]
        assert [spec.name for spec in predictor.checkpoint.config.model.classes] == ["liver", "spleen"]
        assert [row.number for row in view.state.versions] == [1, 2]
        assert np.array_equal(layer.data[::2], before[::2])
    finally:
        controller.close()
        bench.controller.close()
