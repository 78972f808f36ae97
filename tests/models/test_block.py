from __future__ import annotations

import copy

import pytest
import torch

from napari_llm4seg.config import BlockConfig, LayerRef
from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.block import LLMBlock
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.spec import LayerSpec
from tests.models.base import SPEC

REF = LayerRef(repository="made/layer", index=0, sha256="0" * 64)


def block() -> LLMBlock:
    return LLMBlock(6, BlockConfig(layers=(REF,), hidden=SPEC.hidden), [LLMLayer.random(SPEC, 0)]).eval()


def test_a_layer_of_another_width_is_refused() -> None:
    wide = LLMLayer.random(LayerSpec("llama", 64, 64, 4, 2, 16))
    with pytest.raises(ConfigError, match="width 64 came for a block of width 48"):
        LLMBlock(6, BlockConfig(layers=(REF,), hidden=48), [wide])


def test_random_layers_follow_the_block_to_another_dtype_and_copy() -> None:
    made = block()
    made.set_state("random", 1)
    features = torch.randn(1, 6, 3, 3)
    with torch.inference_mode():
        wanted = made(features)
        assert torch.equal(copy.deepcopy(made)(features), wanted)
        doubled = made.double()(features.double())
    assert doubled.dtype == torch.float64
    torch.testing.assert_close(doubled.float(), wanted, rtol=1e-4, atol=1e-4)
    assert not any("_random" in name for name in made.state_dict())


def test_off_keeps_the_adapters() -> None:
    made = block()
    made.set_state("off")
    features = torch.randn(1, 6, 3, 3)
    with torch.inference_mode():
        wanted = made.bridge.leave(made.bridge.enter(features), (3, 3))
        assert torch.equal(made(features), wanted)


def test_swapping_several_layers_runs_them_in_order() -> None:
    made = block()
    first, second = LLMLayer.random(SPEC, 1), LLMLayer.random(SPEC, 2)
    made.swap([first, second])
    assert made.running() == [first, second]
    features = torch.randn(1, 6, 3, 3)
    with torch.inference_mode():
        tokens = made.bridge.enter(features)
        angles = made.bridge.angles(SPEC, (3, 3), tokens.device)
        mask = made.bridge.mask(9, tokens.device)
        wanted = made.bridge.leave(second(first(tokens, angles, mask), angles, mask), (3, 3))
        assert torch.equal(made(features), wanted)
