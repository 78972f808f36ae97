"""Recorded attention is that of the run, and anything else is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from napari_llm4seg.activations import ActivationRecorder, Activations, inner_points_of, points_of, prove, prove_layer
from napari_llm4seg.errors import ConfigError, ProofError
from napari_llm4seg.models.bridge import build_mask
from napari_llm4seg.models.llm_layer import attention_weights
from tests.activations.test_recorder import image, network, traces


def recorded(net: Any, picture: Tensor, **settings: Any) -> Activations:
    with torch.inference_mode(), ActivationRecorder(net, points_of(net) + inner_points_of(net), **settings) as recorder:
        net(picture)
    return recorder.activations


def changed(seen: Activations, **tensors: Tensor) -> Activations:
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return Activations({**seen.tensors, **named}, seen.grid, seen.image_grid, seen.padded_grid, seen.handed)


@pytest.mark.parametrize("kind", ["2-D", "3-D"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"gate": "residual", "norm": True, "mask": "full"}, {"positions": "axial"}, {"positions": "paper"}],
    ids=["plain", "gated", "axial", "paper"],
)
def test_the_run_follows_from_the_recorded_attention(kind: str, settings: dict[str, Any]) -> None:
    net = network(kind, **settings)
    proof = prove(net, recorded(net, image(kind)))
    assert proof.ok
    assert proof.relative < proof.tolerance == 1e-5
    proof.require()
    assert "Same forward" in proof.words
    names = [check.name for check in proof.checks]
    assert names[:3] == ["layer 1 rows", "layer 1 attention", "layer 1 output"]
    assert names[-1] == "logits"
    assert len(names) == 7


def test_attention_under_another_mask_is_refused() -> None:
    """What eager attention gives by default: the bidirectional weights of a causal run."""
    net = network(layers=1)
    seen = recorded(net, image())
    q, k = seen["layer.1.q"], seen["layer.1.k"]
    easy = attention_weights(q, k, build_mask(q.shape[2], "full"))
    proof = prove(net, changed(seen, layer__1__attention=easy))
    assert not proof.ok
    failed = {check.name for check in proof.checks if not check.ok}
    assert failed == {"layer 1 rows", "layer 1 attention", "layer 1 output", "logits"}
    with pytest.raises(ProofError, match="Nothing is drawn"):
        proof.require()
    assert proof.as_dict()["ok"] is False


def test_attention_at_other_positions_is_refused() -> None:
    net, other = network(layers=1), network(layers=1, positions="none")
    seen, elsewhere = recorded(net, image()), recorded(other, image())
    assert not prove(net, changed(seen, layer__1__attention=elsewhere["layer.1.attention"])).ok


@pytest.mark.parametrize("change", ["nan", "shape", "output"])
def test_what_cannot_be_compared_is_refused(change: str) -> None:
    net = network(layers=1)
    seen = recorded(net, image())
    weights = seen["layer.1.attention"].clone()
    if change == "nan":
        weights[0, 0, 0, 0] = float("nan")
        seen = changed(seen, layer__1__attention=weights)
    elif change == "shape":
        seen = changed(seen, layer__1__out=seen["layer.1.out"][:, :-1])
    else:
        seen = changed(seen, layer__1__out=seen["layer.1.out"] * 1.001)
    proof = prove_layer(seen, 1, net.llm_block().running()[0])
    assert not proof.ok
    assert not proof.worst.ok
    with pytest.raises(ProofError):
        proof.require()


def test_half_precision_is_held_to_half_precision() -> None:
    net = network(layers=1)
    seen = recorded(net, image(), half=True)
    assert seen["layer.1.attention"].dtype == torch.float16
    proof = prove(net, seen)
    assert proof.ok
    assert proof.tolerance > 1e-5


@pytest.mark.parametrize("state", ["off", "random"])
def test_a_switched_block_is_proven_as_it_ran(state: Any) -> None:
    net = network(layers=2)
    net.set_block(state, seed=3)
    seen = recorded(net, image())
    assert prove(net, seen).ok
    net.set_block("on")
    with pytest.raises(ConfigError, match="record again") if state == "off" else pytest.raises(ProofError):
        prove(net, seen).require()


def test_every_part_of_a_layer_adds_up() -> None:
    net = network(layers=1)
    seen = recorded(net, image())
    layer = net.llm_block().running()[0]
    with torch.no_grad():
        normed = layer.input_layernorm(seen["layer.1.in"])
        assert torch.equal(seen["layer.1.after_attention"] + seen["layer.1.mlp"], seen["layer.1.out"])
        added = layer.self_attn.o_proj(seen["layer.1.mixed"])
        torch.testing.assert_close(seen["layer.1.in"] + added, seen["layer.1.after_attention"])
        angles, mask = seen.handed[1]
        q, k, v = layer.self_attn.heads(
            layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed), layer.self_attn.v_proj(normed), angles
        )
        for part, tensor in (("q", q), ("k", k), ("v", v)):
            assert torch.equal(seen[f"layer.1.{part}"], tensor)
        mixed = (seen["layer.1.attention"] @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(mixed, seen["layer.1.mixed"])
    assert torch.equal(mask, build_mask(mask.shape[0], "causal"))
    with pytest.raises(ConfigError, match="every head"):
        seen.tokens("layer.1.attention")
    assert traces(net) == traces(network(layers=1))
