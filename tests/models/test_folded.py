"""The exact folding on real layers; the made ones are in base.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_llm4seg.config import BlockConfig, LayerRef
from napari_llm4seg.models.block import LLMBlock
from napari_llm4seg.models.folded import FoldedBlock
from napari_llm4seg.models.llm_layer import LLMLayer
from tests.models.base import SPEC, relative

REF = LayerRef(repository="made/layer", index=0, sha256="0" * 64)


def blocks(layers: list[LLMLayer], channels: int, **fields: Any) -> tuple[LLMBlock, FoldedBlock]:
    torch.manual_seed(0)
    config = BlockConfig(layers=(REF,) * len(layers), hidden=layers[0].spec.hidden, **fields)
    block = LLMBlock(channels, config, layers).eval()
    return block, FoldedBlock(block)


def check(layers: list[LLMLayer], channels: int, grid: tuple[int, ...], **fields: Any) -> None:
    block, folded = blocks(layers, channels, **fields)
    features = torch.randn(1, channels, *grid, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = block(features)
        assert relative(folded(features), wanted) < 1e-5
        plain = block.bridge.leave(block.bridge.enter(features), grid)
    assert relative(plain, wanted) > 1e-2, "the layer does nothing here, so nothing was compared"


@pytest.mark.parametrize("positions", ["none", "own", "axial", "paper"])
@pytest.mark.parametrize("mask", ["causal", "full"])
@pytest.mark.parametrize("grid", [(8, 8), (3, 4, 5)])
def test_the_real_smollm2_layer(smollm2: LLMLayer, positions: str, mask: str, grid: tuple[int, ...]) -> None:
    check([smollm2], 256, grid, positions=positions, mask=mask)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("positions", ["none", "own", "axial", "paper"])
@pytest.mark.parametrize("mask", ["causal", "full"])
def test_the_real_qwen2_layer(qwen2: LLMLayer, positions: str, mask: str) -> None:
    check([qwen2], 256, (6, 6), positions=positions, mask=mask)


@pytest.mark.parametrize("channels", [16, 48, 64])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_several_layers_and_wide_bottlenecks(channels: int, count: int) -> None:
    """From a bottleneck as wide as the language model on, a fold would cost more and is left out."""
    block, folded = blocks([LLMLayer.random(SPEC, i) for i in range(count)], channels)
    assert folded.folded_out == (channels < SPEC.hidden)
    features = torch.randn(2, channels, 4, 4)
    with torch.inference_mode():
        assert relative(folded(features), block(features)) < 1e-5


def test_biases_and_head_norms_are_kept() -> None:
    import dataclasses

    spec = dataclasses.replace(SPEC, family="qwen3", qkv_bias=True, o_bias=True, mlp_bias=True, qk_norm=True)
    layer = LLMLayer.random(spec, 0)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape) * 0.3)
    block, folded = blocks([layer], 16)
    features = torch.randn(2, 16, 4, 4)
    with torch.inference_mode():
        assert relative(folded(features), block(features)) < 1e-5


def test_the_fold_owns_no_weights_and_takes_no_gradient() -> None:
    block, folded = blocks([LLMLayer.random(SPEC, 0)], 16)
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    assert not folded.state_dict()
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert block.bridge.adapter_in.weight.requires_grad, "folding must not freeze what it is made from"
    assert all(torch.equal(tensor, before[name]) for name, tensor in block.state_dict().items())


def test_the_shipped_layer_costs_fewer_operations_folded(smollm2: LLMLayer) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    block, folded = blocks([smollm2], 256)
    features = torch.randn(1, 256, 16, 16)
    counts = []
    for module in (block, folded):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            module(features)
        counts.append(counter.get_total_flops())
    assert counts[1] < counts[0]
