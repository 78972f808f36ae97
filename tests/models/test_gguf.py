from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.models.gguf import NAMES, layer_from_gguf, unpermute
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.spec import LayerSpec
from tests.models.base import LANGUAGE_MODEL

QWEN = {**LANGUAGE_MODEL, "model_type": "qwen2"}


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """The row order that llama.cpp's converter gives q and k of Llama models."""
    return (
        weights.reshape(heads, 2, len(weights) // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)
    )


def tensors_of(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    layer = LLMLayer.random(LayerSpec.from_config(config), seed)
    generator = torch.Generator().manual_seed(seed)
    return {name: t + torch.rand(t.shape, generator=generator) for name, t in layer.state_dict().items()}


def write_gguf(path: Path, architecture: str, layers: dict[int, dict[str, Tensor]], config: dict[str, Any]) -> Path:
    from gguf import GGUFWriter

    back = {theirs: ours for ours, theirs in NAMES.items()}
    writer = GGUFWriter(path, architecture)
    writer.add_tensor("token_embd.weight", np.ones((4, 48), dtype=np.float32))
    for index, tensors in layers.items():
        for name, tensor in tensors.items():
            module, part = name.rsplit(".", 1)
            values = tensor.numpy()
            if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
                heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
                values = permute(values, heads)
            writer.add_tensor(f"blk.{index}.{back[module]}.{part}", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("shape", [(40, 6), (40,)])
def test_the_converters_row_order_is_undone(heads: int, shape: tuple[int, ...]) -> None:
    known = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    moved = permute(known, heads)
    assert not np.array_equal(moved, known)
    assert np.array_equal(unpermute(torch.from_numpy(moved), heads).numpy(), known)


@pytest.mark.parametrize(
    ("family", "architecture", "extra"),
    [
        ("llama", "llama", {}),
        ("llama", "llama", {"attention_bias": True, "mlp_bias": True}),
        ("mistral", "llama", {}),
        ("qwen2", "qwen2", {}),
        ("qwen3", "qwen3", {}),
    ],
)
def test_a_layer_comes_back_as_the_converter_took_it(
    tmp_path: Path, family: str, architecture: str, extra: dict[str, Any]
) -> None:
    config = {**LANGUAGE_MODEL, "model_type": family, **extra}
    layers = {index: tensors_of(config, index) for index in (1, 10)}
    path = write_gguf(tmp_path / "model.gguf", architecture, layers, config)
    for index in layers:
        spec, tensors = layer_from_gguf(path, index, config)
        assert spec == LayerSpec.from_config(config)
        assert set(tensors) == set(layers[index])
        assert all(torch.equal(tensors[name], layers[index][name]) for name in tensors)
    with pytest.raises(CheckpointError, match="has no layer 0; it has: 1, 10"):
        layer_from_gguf(path, 0, config)


@pytest.mark.data
def test_the_real_qwen2_file(weights_dir: Path) -> None:
    folder = weights_dir / "qwen2.5-coder-1.5b-instruct"
    config = json.loads((folder / "config.json").read_text())
    spec, tensors = layer_from_gguf(folder / "layer27.gguf", 27, config)
    assert (spec.family, spec.hidden, spec.qkv_bias, spec.rope_theta) == ("qwen2", 1536, True, 1e6)
    assert sum(t.numel() for t in tensors.values()) == 46_797_824
    assert all(t.dtype == torch.float32 and torch.isfinite(t).all() for t in tensors.values())
    # unit-RMS input comes out at an RMS of 3.4, as measured on the whole model
    x = torch.randn(1, 64, 1536, generator=torch.Generator().manual_seed(0))
    from napari_llm4seg.models.bridge import build_angles, build_mask

    with torch.inference_mode():
        out = LLMLayer.from_tensors(spec, tensors)(x, build_angles(spec, (64,), "own"), build_mask(64, "causal"))
    assert 2.5 < out.pow(2).mean().sqrt() < 4.5


def refused(path: Path, index: int = 1, config: dict[str, Any] = QWEN) -> str:
    with pytest.raises(CheckpointError) as caught:
        layer_from_gguf(path, index, config)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", "qwen2", {1: tensors_of(QWEN)}, QWEN)
    assert "architecture 'qwen2'" in refused(path, config=LANGUAGE_MODEL)
    assert "needs (96, 48)" in refused(path, config=QWEN | {"intermediate_size": 96})
    gone = tensors_of(QWEN)
    del gone["mlp.up_proj.weight"]
    assert "lacks 'mlp.up_proj.weight'" in refused(write_gguf(tmp_path / "half.gguf", "qwen2", {1: gone}, QWEN))
    assert "missing" in refused(tmp_path / "nowhere.gguf")
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    assert "damaged" in refused(tmp_path / "other.gguf")


@pytest.mark.parametrize("keep", [0, 4, 20, 100, 0.5, -1])
def test_cut_files_are_refused(tmp_path: Path, keep: float) -> None:
    path = write_gguf(tmp_path / "model.gguf", "qwen2", {1: tensors_of(QWEN)}, QWEN)
    data = path.read_bytes()
    data = data.rstrip(b"\0")  # the writer's padding may go
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    assert "damaged" in refused(path)


def test_absurd_counts_cost_nothing(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", "qwen2", {1: tensors_of(QWEN)}, QWEN)
    data = bytearray(path.read_bytes())
    data[8:16] = (1 << 60).to_bytes(8, "little")  # the number of tensors
    path.write_bytes(data)
    assert "damaged" in refused(path)
