from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.models.bridge import build_angles, build_mask
from napari_llm4seg.models.llm_layer import LLMLayer, RMSNorm, rotate
from napari_llm4seg.models.spec import LayerSpec
from tests.models.base import SPEC, relative


@st.composite
def specs(draw: st.DrawFn) -> LayerSpec:
    kv = draw(st.integers(1, 3))
    return LayerSpec(
        family=draw(st.sampled_from(["llama", "qwen2", "qwen3", "mistral"])),
        hidden=draw(st.integers(1, 24)),
        intermediate=draw(st.integers(1, 24)),
        heads=kv * draw(st.integers(1, 3)),
        kv_heads=kv,
        head_dim=2 * draw(st.integers(1, 6)),
        qkv_bias=draw(st.booleans()),
        o_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
    )


@settings(max_examples=40, deadline=None)
@given(specs(), st.integers(1, 9), st.sampled_from(["causal", "full"]), st.sampled_from(["none", "own", "paper"]))
def test_weights_and_output_come_from_the_same_arithmetic(spec: LayerSpec, n: int, mask: str, positions: str) -> None:
    layer = LLMLayer.random(spec, 1)
    assert set(layer.state_dict()) == set(spec.tensor_shapes())
    x = torch.randn(2, n, spec.hidden, generator=torch.Generator().manual_seed(0))
    angles, allowed = build_angles(spec, (n,), positions), build_mask(n, mask)
    with torch.no_grad():
        plain = layer(x, angles, allowed)
        out, weights = layer.forward_with_weights(x, angles, allowed)
    assert relative(out, plain) < 1e-5
    assert weights.shape == (2, spec.heads, n, n)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, spec.heads, n))
    assert (weights[..., ~allowed] == 0).all()


def test_causal_tokens_do_not_see_later_ones() -> None:
    layer = LLMLayer.random(SPEC, 1)
    x = torch.randn(1, 8, SPEC.hidden)
    changed = x.clone()
    changed[:, 5:] += 1
    angles = build_angles(SPEC, (8,), "own")
    with torch.no_grad():
        for kind, same in (("causal", True), ("full", False)):
            a, b = (layer(tokens, angles, build_mask(8, kind)) for tokens in (x, changed))
            assert torch.allclose(a[:, :5], b[:, :5]) == same


def test_rotation_depends_on_the_distance_alone() -> None:
    angles = build_angles(SPEC, (12,), "own")
    assert angles is not None
    q, k = torch.randn(2, 1, SPEC.head_dim, generator=torch.Generator().manual_seed(0)).expand(2, 12, -1)
    scores = rotate(q, angles) @ rotate(k, angles).T
    for distance in range(-5, 6):
        along = scores.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-4, atol=1e-4)


def test_huge_activations_stay_finite_in_half_precision() -> None:
    """Hidden states of the real models reach 22,500; their squares do not fit float16."""
    norm = RMSNorm(8, 1e-5)
    out = norm(torch.full((1, 8), 20000.0, dtype=torch.float16))
    torch.testing.assert_close(out, torch.ones(1, 8), rtol=1e-3, atol=1e-3, check_dtype=False)


def test_random_layers_depend_on_their_seed_alone() -> None:
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    a, b, c = LLMLayer.random(SPEC, 1), LLMLayer.random(SPEC, 1), LLMLayer.random(SPEC, 2)
    assert torch.equal(torch.random.get_rng_state(), state), "a control must not shift the run it is compared with"
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name])
        if tensor.ndim == 2:
            assert not torch.equal(tensor, c.state_dict()[name])
            bound = (6 / sum(tensor.shape)) ** 0.5
            assert tensor.abs().max() <= bound
            assert tensor.abs().max() > 0.9 * bound
        else:
            assert (tensor == 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("mlp.up_proj.weight"), "lacks 'mlp.up_proj.weight'"),
        (lambda t: t.update({"mlp.extra": torch.ones(1)}), "has 'mlp.extra'"),
        (lambda t: t.update({"input_layernorm.weight": torch.ones(3)}), r"is \(3,\)"),
        (lambda t: t.update({"input_layernorm.weight": torch.ones(48, dtype=torch.int32)}), "int32"),
    ],
)
def test_wrong_tensors_are_named(change: Callable[[dict[str, torch.Tensor]], object], words: str) -> None:
    tensors = dict(LLMLayer.random(SPEC).state_dict())
    change(tensors)
    with pytest.raises(CheckpointError, match=words):
        LLMLayer.from_tensors(SPEC, tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_layers_compute_in_float32_whatever_they_are_stored_in(dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in LLMLayer.random(SPEC).state_dict().items()}
    layer = LLMLayer.from_tensors(SPEC, tensors)
    assert {p.dtype for p in layer.parameters()} == {torch.float32}
    assert not any(p.is_meta for p in layer.parameters())
