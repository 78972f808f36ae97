"""Interventions are what they say, and leave the network as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_llm4seg.activations import inspect_slice
from napari_llm4seg.activations.inspection import Inspection
from napari_llm4seg.activations.interventions import (
    block_tokens,
    difference_volume,
    effect_of,
    heads_table,
    knock_out,
    randomise,
    swap,
    swappable,
    switch_off,
)
from napari_llm4seg.errors import Cancelled, CheckpointError, ConfigError, InputError
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import write_pack
from napari_llm4seg.predict import Predictor
from napari_llm4seg.volume import Volume
from tests.activations.test_recorder import network
from tests.models.base import LANGUAGE_MODEL, SPEC
from tests.predict.helpers import checkpoint


def predictor_of(net: LLM4SegNet, **more: Any) -> Predictor:
    dims = net.config.backbone.spatial_dims
    shape: dict[str, Any] = {"patch": (12, 10, 8)} if dims == 3 else {"size": (28, 24)}
    return Predictor(checkpoint(net, **shape, **more), "cpu")


def scan(kind: str = "2-D") -> Volume:
    shape = (1, 1, 40, 30) if kind == "2-D" else (1, 12, 10, 8)
    return Volume(np.random.default_rng(0).uniform(size=shape).astype(np.float32))


def inspected(net: LLM4SegNet, **more: Any) -> Inspection:
    kind = "2-D" if net.config.backbone.spatial_dims == 2 else "3-D"
    return inspect_slice(predictor_of(net, **more), scan(kind))


def state(net: LLM4SegNet) -> tuple[Any, ...]:
    block = net.llm_block()
    return (block.state, block.swapped, [id(layer) for layer in block.layers], [id(each) for each in block._random])


CASES = [("2-D", {}), ("2-D", {"flips": True}), ("3-D", {})]


@pytest.mark.parametrize(("kind", "more"), CASES, ids=["2-D", "mirrored", "3-D"])
def test_the_whole_forward_is_run_again(kind: str, more: dict[str, Any]) -> None:
    net = network(kind)
    seen = inspected(net, **more)
    replay = seen.replay()
    again = seen.answer(replay.probabilities(replay.normal())[0])
    assert np.array_equal(again.labels, seen.normal.labels)
    image = seen.frame.image
    with torch.no_grad():
        wanted = net(image).sigmoid()
        if more:
            wanted = (wanted + net(image.flip(-1)).sigmoid().flip(-1)) / 2
    torch.testing.assert_close(replay.probabilities(replay.normal()), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "more"), CASES, ids=["2-D", "mirrored", "3-D"])
def test_switching_equals_switching_the_network(kind: str, more: dict[str, Any]) -> None:
    net = network(kind)
    seen = inspected(net, **more)
    before = state(net)
    off, random = switch_off(seen), randomise(seen, 3)
    assert state(net) == before
    for effect, word in ((off, "off"), (random, "random")):
        net.set_block(word, 3)  # type: ignore[arg-type]
        wanted = inspected(net, **more).normal
        net.set_block("on")
        np.testing.assert_allclose(effect.answer.probabilities, wanted.probabilities, rtol=1e-4, atol=1e-6)
        assert effect.largest_change > 1e-3
        assert effect.dice == effect_of(seen, "", seen.normal, wanted).dice
    assert "adapters only" in off.name


@pytest.mark.parametrize("layer", [1, 2])
def test_a_head_that_is_subtracted_is_a_head_that_is_zeroed(layer: int) -> None:
    net = network(layers=2)
    seen = inspected(net, flips=True)
    weight = net.llm_block().running()[layer - 1].self_attn.o_proj.weight
    for head in range(SPEC.heads):
        effect = knock_out(seen, head, layer)
        kept = weight.detach().clone()
        with torch.no_grad():
            weight[:, head * SPEC.head_dim : (head + 1) * SPEC.head_dim] = 0
        wanted = inspected(net, flips=True).normal
        with torch.no_grad():
            weight.copy_(kept)
        np.testing.assert_allclose(effect.answer.probabilities, wanted.probabilities, rtol=1e-4, atol=1e-6)
        assert effect.largest_change > 1e-4
    with pytest.raises(ConfigError, match="no head 4"):
        knock_out(seen, 4)
    with pytest.raises(ConfigError, match="no layer 3"):
        knock_out(seen, 0, 3)


def test_the_table_of_all_heads_says_what_each_alone_says() -> None:
    seen = inspected(network())
    told: list[tuple[int, int]] = []
    table = heads_table(seen, 2, progress=lambda done, total, message: told.append((done, total)))
    assert [row.head for row in table] == list(range(SPEC.heads))
    for row in table:
        alone = knock_out(seen, row.head, 2)
        np.testing.assert_allclose(row.effect.answer.probabilities, alone.answer.probabilities, rtol=1e-4)
        assert row.row()["head"] == row.head
        assert 0 <= row.entropy <= 1
    assert told[0] == (0, SPEC.heads)
    assert told[-1] == (SPEC.heads, SPEC.heads)
    with pytest.raises(Cancelled):
        heads_table(seen, cancel=lambda: True)
    # the turn was given back
    assert knock_out(seen, 0).name == "without head 0 of layer 1"


@pytest.mark.parametrize("mask", ["causal", "full"])
def test_blocked_tokens_reach_nobody_else(mask: str) -> None:
    net = network(layers=1, mask=mask)
    seen = inspected(net)
    replay = seen.replay()
    n_tokens = len(seen.tokens)
    layer = net.llm_block().running()[0]
    region = [0, 3, 5]
    (found,) = replay.with_blocked([region])
    with torch.no_grad():
        x = seen.activations["layer.1.in"]
        allowed = seen.mask.clone()
        allowed[:, region] = False
        allowed |= torch.eye(n_tokens, dtype=torch.bool)
        angles = net.llm_block().bridge.angles(layer.spec, seen.tokens.grid, x.device)
        wanted = layer(x, angles, allowed)
        torch.testing.assert_close(found, wanted)
        # what a blocked token holds is nothing to the others
        other = x.clone()
        other[:, region] += 1
        changed = layer(other, angles, allowed)
    free = [token for token in range(n_tokens) if token not in region]
    torch.testing.assert_close(changed[:, free], wanted[:, free])
    assert block_tokens(seen, region).largest_change > 0
    assert block_tokens(seen, list(range(n_tokens))).answer.labels.shape == seen.normal.labels.shape
    with pytest.raises(InputError, match="no token"):
        block_tokens(seen, [])
    with pytest.raises(ConfigError, match=f"no token {n_tokens}"):
        block_tokens(seen, [n_tokens])


def test_a_mirrored_view_blocks_the_mirrored_tokens() -> None:
    seen = inspected(network(layers=1), flips=True)
    replay = seen.replay()
    height, width = seen.tokens.grid
    assert [view.mirrored for view in replay.views] == [False, True]
    assert replay._seen_in(replay.views[0], [0, width + 1]) == [0, width + 1]
    assert replay._seen_in(replay.views[1], [0, width + 1]) == [width - 1, 2 * width - 2]
    assert height * width == len(seen.tokens)


def test_gained_and_lost_pixels_are_told_apart() -> None:
    seen = inspected(network())
    normal = seen.normal
    flipped = type(normal)(1 - normal.probabilities, np.where(normal.labels > 0, 0, 1).astype(np.uint8))
    effect = effect_of(seen, "flipped", normal, flipped)
    assert effect.changed == normal.labels.size
    assert effect.dice == 0
    assert np.array_equal(effect.difference == 2, normal.labels > 0)
    volume = difference_volume(seen, effect)
    assert volume.kind == "label"
    assert volume.grid == (1, 40, 30)
    assert np.array_equal(volume.affine, seen.frame.scan.affine)
    same = effect_of(seen, "same", normal, normal)
    assert (same.dice, same.changed, same.largest_change) == (1.0, 0, 0.0)


def test_other_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path))
    net = network()
    seen, before = inspected(net), state(net)
    with pytest.raises(ConfigError, match="width 576 does not fit"):
        swap(seen, "smollm2-135m", 14)
    with pytest.raises(CheckpointError, match="Fetch it"):
        swap(seen, "smollm2-135m", 3)
    assert swappable(seen) == []
    other = LLMLayer.random(SPEC, 21)
    pack = write_pack(
        tmp_path / "layers" / "other",
        other.state_dict(),
        LANGUAGE_MODEL,
        repository="made/other",
        revision="1",
        index=4,
    )
    assert swappable(seen) == [pack.ref]
    effect = swap(seen, pack.ref)
    assert effect.name == "layer 4 of made/other"
    assert state(net) == before
    net.swap_layers([other])
    wanted = inspected(net).normal
    np.testing.assert_allclose(effect.answer.probabilities, wanted.probabilities, rtol=1e-4, atol=1e-6)
    assert np.array_equal(swap(seen, "hf:made/other", 4).answer.labels, effect.answer.labels)


def test_without_layers_only_the_adapters_are_left() -> None:
    net = network()
    net.set_block("off")
    seen = inspected(net)
    assert switch_off(seen).changed == 0
    with pytest.raises(ConfigError, match="No layer runs"):
        randomise(seen)
