"""The ways differ in what they say they differ in, and every figure comes of real steps."""

from __future__ import annotations

import pytest

from napari_llm4seg.bench import training as bench

SMALL = bench.LLAMA | {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
SMALL |= {"head_dim": 16}
HOW = {"size": "small", "layer": SMALL}


def test_the_ways_are_what_they_are_called() -> None:
    nets = {way: bench.network(way, **HOW) for way in ("cnn", "frozen", "trained")}
    count = {way: sum(p.numel() for p in net.parameters() if p.requires_grad) for way, net in nets.items()}
    layer = sum(p.numel() for p in nets["trained"].llm_block().layers.parameters())
    assert nets["cnn"].block is None
    assert count["trained"] == count["frozen"] + layer > count["frozen"] > count["cnn"]


@pytest.mark.slow
def test_figures_come_of_real_steps() -> None:
    taken = bench.time_steps(1, side=32, **HOW)
    assert set(taken) == {"cnn", "frozen"}
    assert all(seconds > 0 for seconds in taken.values())
    assert bench.peak_of_steps("trained", side=32, **HOW) >= 0
    waiting = bench.waiting_for_data(count=10, sides=(32,), size="small")
    assert set(waiting) == {"32 x 32"}
    assert 0 <= waiting["32 x 32"] < 1
