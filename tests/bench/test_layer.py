"""The made checkpoint is one, and both ways take the same layer out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_llm4seg.bench import layer as bench
from napari_llm4seg.bench.figures import Skipped
from napari_llm4seg.models.packs import layer_from_checkpoint

SMALL = bench.CONFIG | {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    bench.make_checkpoint(tmp_path, SMALL)
    return tmp_path


def test_layers_lie_in_several_shards(checkpoint: Path) -> None:
    assert len(list(checkpoint.glob("*.safetensors"))) == 5
    spec, tensors = layer_from_checkpoint(checkpoint, bench.INDEX)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == spec.tensor_shapes()


@pytest.mark.slow
@pytest.mark.parity
def test_every_way_takes_the_same_layer(checkpoint: Path) -> None:
    ours = bench._take("ours", checkpoint)
    assert len(ours["checksum"]) == 9
    for way in ("transformers", "transformers_mapped"):
        assert bench._take(way, checkpoint)["checksum"] == ours["checksum"]


def test_a_full_disk_skips(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "_DISK_NEEDED", 1 << 60)
    with pytest.raises(Skipped, match="GB are free"):
        bench.measure_layer(lambda _: None)
