"""Decoder layers out of GGUF files, llama.cpp's format, dequantised to float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.errors import CheckpointError, one_line
from napari_llm4seg.models.llm_layer import check_tensors
from napari_llm4seg.models.spec import LayerSpec

# GGUF's module names and those of Hugging Face checkpoints.
NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# llama.cpp runs Mistral as a Llama.
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


def layer_from_gguf(path: Path, index: int, config: Mapping[str, Any]) -> tuple[LayerSpec, dict[str, Tensor]]:
    """Take one decoder layer out of a GGUF file.

    Parameters
    ----------
    path : Path
        Of one file; it may hold the whole model or that layer only.
    index : int
        0-based layer index in the model.
    config : mapping
        The model's Hugging Face ``config.json``.

    Returns
    -------
    LayerSpec, float32 tensors by their names inside the layer

    Raises
    ------
    CheckpointError
        One line where the file is missing, damaged, of another architecture or lacks the layer.
    """
    spec = LayerSpec.from_config(config)
    try:
        architecture, tensors = _read(path, index)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"GGUF file '{path}' is missing.") from None
    # the reader meets damage with whatever its parsing of plain memory runs into
    except Exception as error:
        raise CheckpointError(
            f"GGUF file '{path}' is damaged or of an unknown kind: {type(error).__name__} {one_line(error, 120)}"
        ) from error
    if architecture != ARCHITECTURES[spec.family]:
        raise CheckpointError(
            f"GGUF file '{path}' is of architecture {architecture[:40]!r}; its config says '{spec.family}'."
        )
    try:
        check_tensors(spec, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"GGUF file '{path}': {error}") from error
    if architecture == "llama":
        for name, heads in (("q_proj", spec.heads), ("k_proj", spec.kv_heads)):
            for part in ("weight", "bias"):
                key = f"self_attn.{name}.{part}"
                if key in tensors:
                    tensors[key] = unpermute(tensors[key], heads)
    return spec, tensors


def unpermute(weight: Tensor, heads: int) -> Tensor:
    """Undo the row order that llama.cpp's converter gives Llama's q and k.

    There the rotated pairs are neighbours (0, 1), (2, 3)...; in Hugging Face checkpoints they are half a head apart.

    Parameters
    ----------
    weight : tensor (heads * head_dim, ...) in llama.cpp's order

    Returns
    -------
    tensor of the same shape
    """
    pairs = weight.reshape(heads, -1, 2, *weight.shape[1:])
    return pairs.transpose(1, 2).reshape(weight.shape).contiguous()


def _read(path: Path, index: int) -> tuple[str, dict[str, Tensor]]:
    """Return the file's architecture and the layer's tensors under their Hugging Face names."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)
    field = reader.fields.get("general.architecture")
    architecture = "" if field is None else bytes(field.parts[field.data[0]]).decode()
    tensors: dict[str, Tensor] = {}
    layers: set[str] = set()
    for entry in reader.tensors:
        block, layer, *rest = [*str(entry.name).split("."), ""]
        if block != "blk":
            continue
        layers.add(layer)
        if layer != str(index):
            continue
        name, part = rest[0], rest[1]
        if name not in NAMES:
            raise CheckpointError(
                f"GGUF file '{path}' has {str(entry.name)[:120]!r}, which no supported decoder layer has."
            )
        values: npt.NDArray[np.float32] = dequantize(entry.data, entry.tensor_type)
        # a copy: unquantised values are views of the mapped file
        tensors[f"{NAMES[name]}.{part}"] = torch.from_numpy(np.array(values, dtype=np.float32))
    if not tensors:
        there = ", ".join(sorted(layers, key=lambda text: (len(text), text))) or "none"
        raise CheckpointError(f"GGUF file '{path}' has no layer {index}; it has: {there[:80]}.")
    return architecture, tensors
