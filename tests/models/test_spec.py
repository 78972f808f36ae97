from __future__ import annotations

from typing import Any

import pytest

from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.models.spec import LayerSpec
from tests.models.base import LANGUAGE_MODEL


def read(**changes: Any) -> LayerSpec:
    return LayerSpec.from_config(LANGUAGE_MODEL | changes)


def test_optional_fields_follow_the_family() -> None:
    assert read(model_type="qwen2").qkv_bias
    assert not read(model_type="qwen2").o_bias
    assert read(model_type="llama", attention_bias=True).o_bias
    assert read(model_type="llama", mlp_bias=True).mlp_bias
    assert read(model_type="qwen3").qk_norm
    # Mistral's class has no biases whatever a config says
    assert not read(model_type="mistral", attention_bias=True).qkv_bias
    assert read(num_key_value_heads=None).kv_heads == 4
    assert read(head_dim=None).head_dim == 12
    assert read(model_type="qwen3", head_dim=None).head_dim == 128


def test_a_spec_can_be_remembered_by() -> None:
    scaling = {"rope_type": "linear", "factor": 2, "rope_theta": 5e5, "else": [1, {}]}
    spec = read(rope_parameters=scaling)
    assert hash(spec) == hash(read(rope_parameters=scaling))
    assert spec.rope_theta == 5e5
    assert spec.inverse_frequencies()[0] == 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "type 'gpt2'"),
        ({"model_type": None}, "type 'None'"),
        ({"hidden_act": "gelu"}, "Activation 'gelu'"),
        ({"hidden_size": None}, "unusable number"),
        ({"hidden_size": "wide"}, "unusable number"),
        ({"hidden_size": float("inf")}, "unusable number"),
        ({"hidden_size": -4}, "make no decoder layer"),
        ({"hidden_size": 1 << 30}, "make no decoder layer"),
        ({"num_attention_heads": 0}, "make no decoder layer"),
        ({"num_attention_heads": 3}, "make no decoder layer"),
        ({"num_key_value_heads": -2}, "make no decoder layer"),
        ({"head_dim": 7}, "make no decoder layer"),
        ({"head_dim": [8]}, "unusable number"),
        ({"rms_norm_eps": float("nan")}, "not above 0"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "'yarn' is not supported"),
        ({"rope_parameters": {"rope_type": "linear"}}, "lacks 'factor'"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0}}, "not above 0"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, "lacks 'high_freq_factor'"),
        ({"rope_parameters": {"rope_theta": None}}, "unusable number"),
        ({"rope_parameters": 3}, "unusable number"),
    ],
)
def test_unusable_configs_give_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["hidden_size", "intermediate_size", "num_attention_heads"])
def test_missing_sizes_are_named(missing: str) -> None:
    with pytest.raises(CheckpointError, match=missing):
        LayerSpec.from_config({key: value for key, value in LANGUAGE_MODEL.items() if key != missing})
