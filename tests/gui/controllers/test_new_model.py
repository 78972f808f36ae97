"""What a new model can be made of: what works is offered, with its cost; the choice is kept and can be sent."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from napari_llm4seg.engine.scratch import LAYER, Kind, Preset, frozen_layer
from napari_llm4seg.files import cache_folder
from napari_llm4seg.gui.controllers.new_model import NewModel
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.jobs import InlineRunner
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import write_pack
from napari_llm4seg.models.random_layers import random_pack
from tests.models.base import LANGUAGE_MODEL, SPEC


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))
    return Settings.load()


@pytest.fixture
def toy_layer(settings):
    """A small layer in the user's cache."""
    tensors = LLMLayer.random(SPEC, 0).state_dict()
    where = {"repository": "org/model", "revision": "a", "index": 2, "licence": "MIT"}
    return write_pack(cache_folder() / "layers" / "toy", tensors, LANGUAGE_MODEL, **where).ref


def new(settings):
    made = NewModel(settings, InlineRunner(interval=0), lambda: None)
    made.look()
    return made


def test_every_size_and_backbone_is_offered_with_what_it_costs(settings):
    state = new(settings).state(True)
    assert [choice.key for choice in state.sizes] == list(get_args(Preset))
    assert [choice.key for choice in state.backbones] == list(get_args(Kind))
    assert [choice.key for choice in state.layers] == [LAYER, "random", "none"]
    assert all(choice.tooltip for choice in (*state.sizes, *state.backbones, *state.layers))
    assert all(frozen_layer(choice.key) is not None for choice in state.layers[:2])
    assert frozen_layer(state.layers[2].key) is None
    assert f"layer {frozen_layer(LAYER).index}" in state.layers[0].label


def test_layers_at_hand_are_offered_and_go_as_json(settings, toy_layer):
    random_pack(LAYER, 3)  # was made as a control, and is none to choose by itself
    made = new(settings)
    (other,) = [choice for choice in made.state(True).layers if choice.key not in (LAYER, "random", "none")]
    assert other.label == f"{toy_layer.repository}, layer {toy_layer.index}"
    made.choose("layer", other.key)
    assert json.loads(json.dumps(made.made()))["layer"] == toy_layer.model_dump()
    assert new(Settings.load()).state(True).layer == other.key, "kept from one start to the next"


def test_a_layer_that_is_gone_or_a_setting_that_is_none_gives_the_usual(settings):
    settings.new_model = {"preset": 3, "backbone": "vit", "layer": "local/gone:1:abc"}
    made = new(settings)
    assert made.made() == {"preset": "small", "backbone": "cmunext", "layer": LAYER}
    made.choose("preset", "tiny")
    assert made.made()["preset"] == "tiny"
    assert settings.new_model["layer"] == "local/gone:1:abc", "it may come back"


def test_nothing_is_drawn_once_it_is_closed(settings, toy_layer):
    drawn = []
    made = NewModel(settings, InlineRunner(interval=0), lambda: drawn.append(1))
    made.close()
    made.look()
    assert not drawn
