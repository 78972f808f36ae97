"""Decoder layers out of GGUF files, llama.cpp's format, dequantised to float32."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.errors import CheckpointError, one_line
from napari_llm4seg.models.gguf_header import GGUFHeader, TensorEntry, language_model_config, parse_header
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


def layer_from_gguf(
    path: Path, index: int, config: Mapping[str, Any] | None = None
) -> tuple[LayerSpec, dict[str, Tensor]]:
    """Take one decoder layer out of a GGUF file.

    Parameters
    ----------
    path : Path
        Of one file; it may hold the whole model or that layer only.
    index : int
        0-based layer index in the model.
    config : mapping, optional
        The model's Hugging Face ``config.json``; default: read from the file's own settings.

    Returns
    -------
    LayerSpec, float32 tensors by their names inside the layer

    Raises
    ------
    CheckpointError
        One line where the file is missing, damaged, of another architecture or lacks the layer.
    """
    with _opened(path) as (header, data):
        what = f"GGUF file '{path}'"
        config = config_for(header, config, what)
        return layer_from_header(header, index, config, lambda start, stop: data[start:stop], what)


def compact_layer(
    path: Path, index: int, config: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """As ``layer_from_gguf``; return the config and the tensors as ``compact`` gives them."""
    with _opened(path) as (header, data):
        what = f"GGUF file '{path}'"
        whole = config_for(header, config, what)
        _, tensors = layer_from_header(header, index, whole, lambda start, stop: data[start:stop], what)
        return whole, compact(header, index, tensors)


def gguf_config(path: Path, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return ``config``, or what the file's own settings say where there is none; raises as ``layer_from_gguf``."""
    with _opened(path) as (header, _):
        return config_for(header, config, f"GGUF file '{path}'")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[GGUFHeader, mmap.mmap]]:
    """Map a file, so that only what is read of it is loaded; its damage becomes one line."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = parse_header(data)
            check_ends(header, len(data))
            yield header, data
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"GGUF file '{path}' is missing.") from None
    # parsing meets damage with whatever plain numbers run into
    except Exception as error:
        raise CheckpointError(
            f"GGUF file '{path}' is damaged or of an unknown kind: {type(error).__name__} {one_line(error, 120)}"
        ) from error


def config_for(header: GGUFHeader, config: Mapping[str, Any] | None, what: str) -> dict[str, Any]:
    """Return ``config``, or what the file's own settings say where there is none.

    Raises
    ------
    CheckpointError
        Naming ``what``, where they do not say enough.
    """
    if config is not None:
        return dict(config)
    try:
        return language_model_config(header)
    except ValueError as error:
        raise CheckpointError(f"{what}: {one_line(error, 160)}.") from error


def check_ends(header: GGUFHeader, size: int) -> None:
    """Raise ValueError where a tensor lies beyond a file of ``size`` bytes."""
    for name, entry in header.tensors.items():
        if entry.stop > size:
            raise ValueError(f"it ends within {name[:80]!r}")


def layer_entries(header: GGUFHeader, index: int, what: str) -> dict[str, TensorEntry]:
    """Return a layer's tensors under their Hugging Face names inside the layer.

    Raises
    ------
    CheckpointError
        Naming ``what``, where the file lacks the layer or a supported layer has no place for a tensor.
    """
    entries: dict[str, TensorEntry] = {}
    layers: set[str] = set()
    for name, entry in header.tensors.items():
        block, layer, *rest = [*name.split("."), "", ""]
        if block != "blk":
            continue
        layers.add(layer)
        if layer != str(index):
            continue
        if rest[0] not in NAMES:
            raise CheckpointError(f"{what} has {name[:120]!r}, which no supported decoder layer has.")
        entries[f"{NAMES[rest[0]]}.{rest[1]}"] = entry
    if not entries:
        there = ", ".join(sorted(layers, key=lambda text: (len(text), text))) or "none"
        raise CheckpointError(f"{what} has no layer {index}; it has: {there[:80]}.")
    return entries


def layer_from_header(
    header: GGUFHeader, index: int, config: Mapping[str, Any], read: Callable[[int, int], bytes], what: str
) -> tuple[LayerSpec, dict[str, Tensor]]:
    """Return a layer as ``layer_from_gguf`` does, its bytes (start, stop) coming from ``read``."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    spec = LayerSpec.from_config(config)
    entries = layer_entries(header, index, what)
    if header.architecture != ARCHITECTURES[spec.family]:
        raise CheckpointError(
            f"{what} is of architecture {header.architecture[:40]!r}; its config says '{spec.family}'."
        )
    # shapes alone, before a byte is read
    _check(spec, {name: torch.empty(entry.shape, device="meta") for name, entry in entries.items()}, what)
    tensors: dict[str, Tensor] = {}
    for name, entry in entries.items():
        blocks = np.frombuffer(read(entry.start, entry.stop), dtype=np.uint8).reshape(*entry.shape[:-1], -1)
        values: npt.NDArray[np.float32] = dequantize(blocks, GGMLQuantizationType(entry.kind))
        # a copy: unquantised values are views of what was read
        tensors[name] = torch.from_numpy(np.array(values, dtype=np.float32))
    _check(spec, tensors, what)
    if header.architecture == "llama":
        for projection, heads in (("q_proj", spec.heads), ("k_proj", spec.kv_heads)):
            for part in ("weight", "bias"):
                key = f"self_attn.{projection}.{part}"
                if key in tensors:
                    tensors[key] = unpermute(tensors[key], heads)
    return spec, tensors


def _check(spec: LayerSpec, tensors: Mapping[str, Tensor], what: str) -> None:
    try:
        check_tensors(spec, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{what}: {error}") from error


def compact(header: GGUFHeader, index: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a layer's tensors with those that were quantised as float16.

    Their rounding, at most 2^-11 of a value, is far below the quantisation's; the others keep float32.
    """
    from gguf.constants import GGMLQuantizationType

    plain = {int(kind) for kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F64, GGMLQuantizationType.BF16)}
    entries = layer_entries(header, index, "GGUF file")
    return {
        name: t if entries[name].kind in plain or float(t.abs().max()) > 65504 else t.half()
        for name, t in tensors.items()
    }


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
