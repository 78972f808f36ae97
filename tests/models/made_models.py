"""Small language models as files of a repository: safetensors in one or several files, and GGUF."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.registry import LANGUAGE_MODELS
from napari_llm4seg.models.spec import LayerSpec

SMALL = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6, "num_key_value_heads": 2}


def config_like(name: str, layers: int = 6) -> dict[str, Any]:
    """The registry's config of ``name`` at a small width: its family, biases and rotary scaling."""
    return {**LANGUAGE_MODELS[name].config, **SMALL, "head_dim": 32, "num_hidden_layers": layers}


@cache
def _layer(text: str, index: int, dtype: torch.dtype) -> dict[str, Tensor]:
    spec = LayerSpec.from_config(json.loads(text))
    generator = torch.Generator().manual_seed(index)
    layer = LLMLayer.random(spec, index).state_dict()
    return {name: (t + 0.1 * torch.rand(t.shape, generator=generator)).to(dtype) for name, t in layer.items()}


def layer_of(config: dict[str, Any], index: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """The tensors of one layer of a made model, by their names inside the layer."""
    return _layer(json.dumps(config), index, dtype)


def safetensors_files(config: dict[str, Any], shards: int = 1, dtype: torch.dtype = torch.bfloat16) -> dict[str, bytes]:
    """The files of a whole model; with several shards every layer lies in two of them."""
    files = {"config.json": json.dumps(config).encode(), "LICENSE": b"be kind", "README.md": b"# made"}
    parts: list[dict[str, Tensor]] = [{} for _ in range(shards)]
    parts[0]["model.embed_tokens.weight"] = torch.ones(4000, config["hidden_size"], dtype=dtype)
    parts[-1]["model.norm.weight"] = torch.ones(config["hidden_size"], dtype=dtype)
    for index in range(config["num_hidden_layers"]):
        for n, (name, tensor) in enumerate(layer_of(config, index, dtype).items()):
            parts[(index // 2 + (n > 4)) % shards][f"model.layers.{index}.{name}"] = tensor
    if shards == 1:
        return files | {"model.safetensors": save(parts[0])}
    where = {}
    for i, part in enumerate(parts):
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        files[name] = save(part, metadata={"format": "pt"})
        where |= dict.fromkeys(part, name)
    return files | {"model.safetensors.index.json": json.dumps({"metadata": {}, "weight_map": where}).encode()}


def gguf_file(
    path: Path,
    config: dict[str, Any],
    layers: dict[int, dict[str, Tensor]],
    vocabulary: int = 0,
    rope_factors: bool = False,
) -> Path:
    """Write a GGUF file with its settings, a vocabulary, and the layers' matrices quantised to Q8_0."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    from napari_llm4seg.models.gguf import NAMES
    from tests.models.test_gguf import permute

    family = config["model_type"]
    writer = GGUFWriter(path, family)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    if vocabulary:
        writer.add_token_list([f"token-{i}" for i in range(vocabulary)])
        writer.add_token_types([1] * vocabulary)
    writer.add_tensor("token_embd.weight", np.ones((4000, config["hidden_size"]), dtype=np.float32))
    if rope_factors:
        writer.add_tensor("rope_freqs.weight", np.ones(config["head_dim"] // 2, dtype=np.float32))
    back = {theirs: ours for ours, theirs in NAMES.items()}
    for index, tensors in layers.items():
        for name, tensor in tensors.items():
            module, part = name.rsplit(".", 1)
            values = tensor.float().numpy()
            if family == "llama" and ("q_proj" in name or "k_proj" in name):
                values = permute(values, config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"])
            values = np.ascontiguousarray(values)
            target = f"blk.{index}.{back[module]}.{part}"
            if values.ndim == 2:
                packed = quantize(values, GGMLQuantizationType.Q8_0)
                writer.add_tensor(target, packed, raw_dtype=GGMLQuantizationType.Q8_0)
            else:
                writer.add_tensor(target, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
