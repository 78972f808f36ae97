"""The shipped model behind the dock, without a window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import BackboneConfig, Card, CheckpointConfig, ModelConfig, PreprocessConfig
from napari_llm4seg.gui.controllers.segment import SegmentController
from napari_llm4seg.gui.models import SAMPLES, Models, sample
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.viewer_port import NapariPort
from napari_llm4seg.jobs import InlineRunner
from napari_llm4seg.models.build import build_network


@pytest.fixture(autouse=True)
def _threads():
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_starter_finds_the_phantom_s_lesion(fakes):
    viewer, view, session = ViewerModel(), fakes.RecordingView(), Session()
    controller = SegmentController(session, NapariPort(viewer), Models(), view, InlineRunner, Settings())
    controller.start()
    assert view.state.model == "breast-ultrasound"
    assert view.state.devices[0].label.startswith("auto: ")
    assert "cpu" in [choice.key for choice in view.state.devices]
    controller.open_sample("ultrasound_phantom")
    controller.segment_slice()
    result = next(layer for layer in viewer.layers if "· seg ·" in layer.name)
    truth = next(layer for layer in viewer.layers if layer.name.endswith("lesion"))
    assert dice(result.data > 0, truth.data > 0) > 0.5
    about = result.metadata["napari_llm4seg"]["provenance"]
    assert about["checkpoint"]["name"] == "breast-ultrasound"
    assert about["frozen_layers"]
    # Other options run the same network.
    controller.set_option("threshold", 0.99)
    controller.segment_slice()
    assert (result.data > 0).sum() < truth.data.size


def test_a_colour_image_is_run_and_what_was_converted_is_said(fakes):
    viewer, view = ViewerModel(), fakes.RecordingView()
    controller = SegmentController(Session(), NapariPort(viewer), Models(), view, InlineRunner, Settings())
    grey = sample("ultrasound_phantom")[0].data[0, 0]
    viewer.add_image(np.stack([grey] * 3, axis=-1), rgb=True, name="photo")
    controller.start()
    controller.segment_slice()
    assert any("· seg ·" in layer.name for layer in viewer.layers)
    assert view.state.message.kind == "info"
    assert "colour" in view.state.message.text.lower() or "grey" in view.state.message.text.lower()


def test_added_checkpoints_that_are_gone_are_left_out(tmp_path):
    (tmp_path / "there").mkdir()
    keys = [entry.key for entry in Models([str(tmp_path / "there"), str(tmp_path / "gone")]).catalogue().models]
    assert str(tmp_path / "there") in keys
    assert str(tmp_path / "gone") not in keys


def test_what_a_model_of_ones_own_is_for_is_known_before_it_is_loaded(tmp_path):
    ct = PreprocessConfig(intensity="window", window=(-160.0, 240.0), channels="grey", mean=(0.0,), sd=(1.0,))
    model = ModelConfig(backbone=BackboneConfig(in_channels=1), block=None)
    config = CheckpointConfig(model=model, preprocess=ct, card=Card(name="liver v1", modality="CT"))
    Checkpoint(config, dict(build_network(model).trained_tensors())).save(tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    mine, empty = Models([str(tmp_path / "mine"), str(tmp_path / "empty")]).catalogue().models[-2:]
    assert (mine.name, mine.card.modality, mine.look.signed, mine.starter) == ("liver v1", "CT", True, False)
    assert (empty.name, empty.card, empty.look) == ("empty", None, None)


@pytest.mark.parametrize("key", [key for key, _ in SAMPLES])
def test_every_sample_opens(key):
    volumes = sample(key)
    assert volumes[0].kind == "intensity"
    assert all(volume.kind == "label" for volume in volumes[1:])


@pytest.mark.data
def test_a_real_lesion_is_found_on_a_real_image(data_dir, fakes):
    masks = [path for path in sorted((data_dir / "busi" / "masks").glob("*.png")) if "normal" not in path.name]
    assert masks
    from napari_llm4seg.io import read

    viewer, view = ViewerModel(), fakes.RecordingView()
    controller = SegmentController(Session(), NapariPort(viewer), Models(), view, InlineRunner, Settings())
    controller.start()
    scores = []
    for mask in masks[:: len(masks) // 8]:
        viewer.layers.clear()
        controller.open_scan(data_dir / "busi" / "images" / mask.name)
        controller.segment_slice()
        truth = read(mask).data[0, 0] > 0
        result = next(layer for layer in viewer.layers if "· seg ·" in layer.name)
        assert result.data.shape == truth.shape
        scores.append(dice(result.data > 0, truth))
    assert np.mean(scores) > 0.4, scores
