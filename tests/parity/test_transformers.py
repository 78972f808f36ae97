"""Our decoder layer against transformers' own classes, in float32."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_llm4seg.assets import asset
from napari_llm4seg.models.bridge import build_angles, build_mask
from napari_llm4seg.models.gguf import layer_from_gguf
from napari_llm4seg.models.llm_layer import Angles, LLMLayer
from napari_llm4seg.models.packs import read_pack
from napari_llm4seg.models.spec import LayerSpec

pytestmark = [pytest.mark.parity, pytest.mark.slow]

TOLERANCE = 1e-5
SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **SMALL},
    "llama-biases": {"model_type": "llama", **SMALL, "attention_bias": True, "mlp_bias": True},
    "llama-one-kv-head": {"model_type": "llama", **SMALL, "num_key_value_heads": 1},
    "llama-all-kv-heads": {"model_type": "llama", **SMALL, "num_key_value_heads": 6},
    "llama-wide-heads": {"model_type": "llama", **SMALL, "head_dim": 24},
    "llama-linear": {"model_type": "llama", **SMALL, "rope_parameters": LINEAR},
    "llama-llama3": {"model_type": "llama", **SMALL, "head_dim": 32, "rope_parameters": LLAMA3},
    "qwen2": {"model_type": "qwen2", **SMALL, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "qwen2-linear": {"model_type": "qwen2", **SMALL, "rope_parameters": LINEAR},
    "qwen3": {"model_type": "qwen3", **SMALL, "head_dim": 16},
    "qwen3-biases": {"model_type": "qwen3", **SMALL, "head_dim": 16, "attention_bias": True},
    "qwen3-llama3": {"model_type": "qwen3", **SMALL, "rope_parameters": LLAMA3},
    "mistral": {"model_type": "mistral", **SMALL},
    "mistral-linear": {"model_type": "mistral", **SMALL, "head_dim": 20, "rope_parameters": LINEAR},
}


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def relative(came: Tensor, wanted: Tensor) -> float:
    """Return the largest difference over the largest value."""
    assert came.shape == wanted.shape
    assert torch.isfinite(came).all()
    return float((came - wanted).abs().max() / wanted.abs().max())


class Reference:
    """transformers' decoder layer and rotary embedding of a config, with given or random weights."""

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None, attention: str) -> None:
        from transformers.models.llama import configuration_llama, modeling_llama
        from transformers.models.mistral import configuration_mistral, modeling_mistral
        from transformers.models.qwen2 import configuration_qwen2, modeling_qwen2
        from transformers.models.qwen3 import configuration_qwen3, modeling_qwen3

        family = config["model_type"]
        settings, classes, prefix = {
            "llama": (configuration_llama, modeling_llama, "Llama"),
            "qwen2": (configuration_qwen2, modeling_qwen2, "Qwen2"),
            "qwen3": (configuration_qwen3, modeling_qwen3, "Qwen3"),
            "mistral": (configuration_mistral, modeling_mistral, "Mistral"),
        }[family]
        plain = {key: value for key, value in config.items() if key != "model_type"}
        self.config = getattr(settings, f"{prefix}Config")(**plain, attn_implementation=attention)
        torch.manual_seed(0)
        self.layer = getattr(classes, f"{prefix}DecoderLayer")(self.config, 0).eval()
        for name, parameter in self.layer.named_parameters():
            # the classes start biases at 0 and gains at 1, which would hide a wrong one
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if "norm" in name else 0.0))
        if tensors is not None:
            self.layer.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        self.rotary = getattr(classes, f"{prefix}RotaryEmbedding")(self.config)

    def angles(self, tokens: int) -> tuple[Tensor, Tensor]:
        cos, sin = self.rotary(torch.zeros(1), torch.arange(tokens)[None])
        return cos, sin

    def run(self, x: Tensor, mask: Tensor | None, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return the layer's output under a bool mask (N, N), or with no mask handed over at all."""
        additive = None
        if mask is not None:
            additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)[None, None]
        embeddings = self.angles(x.shape[1]) if angles is None else angles
        out = self.layer(x, attention_mask=additive, position_embeddings=embeddings)
        # a tuple in transformers 4
        return out[0] if isinstance(out, tuple) else out

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)[None, None]
        normed = self.layer.input_layernorm(x)
        attention = self.layer.self_attn(
            hidden_states=normed, position_embeddings=self.angles(x.shape[1]), attention_mask=additive
        )
        return attention[1]


def compare(config: Mapping[str, Any], tensors: Mapping[str, Tensor] | None, tokens: int = 33) -> None:
    """Hold our layer to transformers' in every mask and attention implementation."""
    spec = LayerSpec.from_config(config)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, tokens, spec.hidden, generator=generator)
    angles = build_angles(spec, (tokens,), "own")
    for attention in ("eager", "sdpa"):
        reference = Reference(config, tensors, attention)
        ours = LLMLayer.from_tensors(spec, reference.layer.state_dict())
        cos, sin = reference.angles(tokens)
        assert angles is not None
        torch.testing.assert_close(angles.cos, cos[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(angles.sin, sin[0], rtol=0, atol=1e-6)
        for kind in ("causal", "full"):
            mask = build_mask(tokens, kind)
            wanted = reference.run(x, mask)
            assert relative(ours(x, angles, mask), wanted) < TOLERANCE, (attention, kind)
            out, weights = ours.forward_with_weights(x, angles, mask)
            assert relative(out, wanted) < TOLERANCE, (attention, kind)
            if attention == "eager":
                assert relative(weights, reference.weights(x, mask)) < TOLERANCE
        causal, full = (ours(x, angles, build_mask(tokens, kind)) for kind in ("causal", "full"))
        assert relative(causal, full) > 100 * TOLERANCE, "the mask makes no difference here, so nothing was compared"


@pytest.mark.parametrize("name", CONFIGS)
def test_random_layers_of_every_family_agree(name: str) -> None:
    compare(CONFIGS[name], None)


def test_legacy_rope_scaling_reads_as_the_new_layout() -> None:
    new = LayerSpec.from_config(CONFIGS["llama-llama3"])
    old = {key: value for key, value in CONFIGS["llama-llama3"].items() if key != "rope_parameters"}
    scaling = {key: value for key, value in LLAMA3.items() if key != "rope_theta"}
    assert LayerSpec.from_config(old | {"rope_theta": 500000.0, "rope_scaling": scaling}) == new
    compare(old | {"rope_theta": 500000.0, "rope_scaling": scaling}, None)


def _smollm2() -> tuple[dict[str, Any], dict[str, Tensor]]:
    folder = asset("layers", "smollm2-135m-instruct-14")
    return json.loads((folder / "config.json").read_text()), read_pack(folder).tensors


def test_the_real_smollm2_layer_agrees() -> None:
    config, tensors = _smollm2()
    compare(config, tensors, tokens=256)


@pytest.mark.data
def test_the_real_qwen2_layer_agrees(weights_dir: Path) -> None:
    folder = weights_dir / "qwen2.5-coder-1.5b-instruct"
    config = json.loads((folder / "config.json").read_text())
    _, tensors = layer_from_gguf(folder / "layer27.gguf", 27, config)
    compare(config, tensors, tokens=64)


def compare_recorded(config: dict[str, Any], tensors: dict[str, Tensor], grid: tuple[int, int], mask: str) -> None:
    """Hold attention that was recorded in a network's forward to eager attention under the same mask and positions."""
    from napari_llm4seg.activations import ActivationRecorder, prove_layer
    from napari_llm4seg.config import BackboneConfig, BlockConfig, LayerRef, ModelConfig
    from napari_llm4seg.models.llm4seg import LLM4SegNet

    spec = LayerSpec.from_config(config)
    reference = Reference(config, tensors, "eager")
    block = BlockConfig.model_validate(
        {"layers": [LayerRef(repository="made", index=0, sha256="0" * 64)], "hidden": spec.hidden, "mask": mask}
    )
    backbone = BackboneConfig(kind="cmunext", widths=(4, 8), depths=(1, 1), kernels=(3, 3))
    torch.manual_seed(0)
    layer = LLMLayer.from_tensors(spec, tensors)
    net = LLM4SegNet(ModelConfig(backbone=backbone, block=block), [layer]).eval()
    torch.nn.init.normal_(net.llm_block().bridge.adapter_in.weight)
    with ActivationRecorder(net, ["layer.1.in", "layer.1.attention", "layer.1.out"]) as recorder:
        net(torch.randn(1, 1, 2 * grid[0], 2 * grid[1]))
    seen = recorder.activations
    assert seen.grid == grid
    rows = build_mask(grid[0] * grid[1], "causal" if mask == "causal" else "full")
    wanted = reference.weights(seen["layer.1.in"], rows)
    assert float((seen["layer.1.attention"] - wanted).abs().max()) < TOLERANCE
    assert relative(seen["layer.1.out"], reference.run(seen["layer.1.in"], rows)) < TOLERANCE
    assert prove_layer(seen, 1, layer).ok
    other = reference.weights(seen["layer.1.in"], build_mask(len(rows), "full" if mask == "causal" else "causal"))
    assert float((other - wanted).abs().max()) > 100 * TOLERANCE, "the mask makes no difference here"


@pytest.mark.parametrize("mask", ["causal", "full"])
def test_recorded_attention_of_smollm2_is_eager_attention(mask: str) -> None:
    compare_recorded(*_smollm2(), (16, 16), mask)


@pytest.mark.data
@pytest.mark.parametrize("mask", ["causal", "full"])
def test_recorded_attention_of_qwen2_is_eager_attention(weights_dir: Path, mask: str) -> None:
    folder = weights_dir / "qwen2.5-coder-1.5b-instruct"
    config = json.loads((folder / "config.json").read_text())
    _, tensors = layer_from_gguf(folder / "layer27.gguf", 27, config)
    compare_recorded(config, tensors, (8, 8), mask)


@pytest.mark.parametrize("real", [False, True], ids=["random", "smollm2"])
def test_paper_positions_are_what_the_published_call_computes(real: bool) -> None:
    """The published code hands [sin, cos] of the flat index, (1, T, 1), and no mask to a layer under SDPA."""
    config, tensors = _smollm2() if real else (CONFIGS["llama"], None)
    spec = LayerSpec.from_config(config)
    reference = Reference(config, tensors, "sdpa")
    ours = LLMLayer.from_tensors(spec, reference.layer.state_dict())
    index = torch.arange(256, dtype=torch.float32)[None, :, None]
    x = torch.randn(1, 256, spec.hidden, generator=torch.Generator().manual_seed(2))
    wanted = reference.run(x, None, (index.sin(), index.cos()))
    angles = build_angles(spec, (16, 16), "paper")
    assert relative(ours(x, angles, build_mask(256, "causal")), wanted) < TOLERANCE
    own = build_angles(spec, (16, 16), "own")
    assert relative(ours(x, own, build_mask(256, "causal")), wanted) > 100 * TOLERANCE


def test_paper_positions_turn_backwards_by_one_radian_per_token() -> None:
    """(sin t, cos t) as (cos, sin) is a turn by pi/2 - t: relative angles, so rotary at position -t."""
    spec = LayerSpec.from_config(CONFIGS["llama"])
    angles = build_angles(spec, (5, 7), "paper")
    assert angles is not None
    turned = LLMLayer.random(spec, 3)
    backwards = -torch.arange(35.0)[:, None].expand(35, spec.head_dim)
    x = torch.randn(1, 35, spec.hidden, generator=torch.Generator().manual_seed(4))
    mask = build_mask(35, "causal")
    wanted = turned(x, Angles(backwards.cos(), backwards.sin()), mask)
    assert relative(turned(x, angles, mask), wanted) < TOLERANCE


def test_the_module_itself_imports_no_transformers() -> None:
    import subprocess
    import sys

    code = "import sys, napari_llm4seg.models.llm4seg, napari_llm4seg.models.gguf; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
