from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_llm4seg.errors import CheckpointError, ConfigError
from napari_llm4seg.models.registry import LANGUAGE_MODELS, parse_layers, parse_source, slug
from napari_llm4seg.models.spec import LayerSpec

# weights of one layer as published (LLaMA, DeepSeek) and as counted in the real files (SmolLM2, Qwen)
WEIGHTS = {
    "smollm2-135m": 3_540_096,
    "qwen2.5-coder-1.5b": 46_797_824,
    "qwen2.5-coder-1.5b-instruct": 46_797_824,
    "deepseek-r1-distill-qwen-1.5b": 46_797_824,
    "llama-3.2-1b": 60_821_504,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_models_layer_has_the_known_size(name: str) -> None:
    spec = LayerSpec.from_config(LANGUAGE_MODELS[name].config)
    assert spec.n_weights() == WEIGHTS[name]
    assert LANGUAGE_MODELS[name].hidden == spec.hidden


def test_every_model_is_tested_here() -> None:
    assert set(WEIGHTS) == set(LANGUAGE_MODELS)


def test_the_published_layers_are_the_default() -> None:
    chosen = {name: (model.default_layer + 1, model.layers) for name, model in LANGUAGE_MODELS.items()}
    assert chosen["deepseek-r1-distill-qwen-1.5b"] == (28, 28)
    assert chosen["llama-3.2-1b"] == (15, 16)
    assert [name for name, model in LANGUAGE_MODELS.items() if model.gated] == ["llama-3.2-1b"]


@pytest.mark.data
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-coder-1.5b-instruct"])
def test_the_registry_agrees_with_the_models_own_config(weights_dir: Path, name: str) -> None:
    folder = weights_dir / LANGUAGE_MODELS[name].repository.split("/")[1].lower()
    theirs = json.loads((folder / "config.json").read_text())
    ours, real = LayerSpec.from_config(LANGUAGE_MODELS[name].config), LayerSpec.from_config(theirs)
    assert ours.eps == pytest.approx(real.eps)
    assert ours == LayerSpec.from_config(theirs | {"rms_norm_eps": ours.eps})
    assert LANGUAGE_MODELS[name].layers == theirs["num_hidden_layers"]


def test_names_are_read() -> None:
    source = parse_source("llama-3.2-1b")
    assert (source.kind, source.repository, source.default_layer) == ("hub", "meta-llama/Llama-3.2-1B", 14)
    source = parse_source("hf:meta-llama/Llama-3.2-1B@abc")
    assert (source.repository, source.revision, source.default_layer) == ("meta-llama/Llama-3.2-1B", "abc", 14)
    source = parse_source("hf:org/some.repo")
    assert (source.kind, source.repository, source.revision, source.default_layer) == (
        "hub",
        "org/some.repo",
        None,
        None,
    )
    source = parse_source("hf:org/repo/folder/model-q4.gguf@v1")
    assert (source.repository, source.file, source.revision) == ("org/repo", "folder/model-q4.gguf", "v1")
    source = parse_source("random:smollm2-135m")
    assert (source.kind, source.repository) == ("random", "random/smollm2-135m")
    assert parse_source("/some/where/My Model.gguf").repository == "local/my-model"
    assert parse_source("/some/where/Llama-3/").repository == "local/llama-3"


@pytest.mark.parametrize(
    "text", ["", "hf:", "hf:org", "hf:../..@x y/z", "hf:a b/c", "hf:org/repo@", "hf:org/repo/x.bin", "random:x", "a\0b"]
)
def test_what_is_no_name_gives_one_line(text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_source(text)
    assert "\n" not in str(caught.value)


def test_layers_are_read() -> None:
    assert parse_layers("14") == (14,)
    assert parse_layers("12, 13") == (12, 13)
    assert parse_layers("12-14") == (12, 13, 14)
    assert parse_layers("3,8-9,1") == (3, 8, 9, 1)


@pytest.mark.parametrize("text", ["", "x", "-1", "1-", "3-1", "1,1", "1-3,2", "0-32", "1.5", "99999"])
def test_wrong_layers_give_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="Layers") as caught:
        parse_layers(text)
    assert "\n" not in str(caught.value)


def test_a_slug_is_a_plain_name() -> None:
    assert slug("../Org/Répo 1") == "org-r-po-1"
    assert slug("///") == "model"
