"""The header of a GGUF file (llama.cpp's format): its settings, and where its tensors lie.

``gguf.GGUFReader`` takes the whole file and turns every token of the vocabulary into arrays, which takes it 13 s for a
model of 135 million weights; a header can also be read from the first bytes of a file that is still on the Hub.
Source: the format's specification, version 3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# struct formats of the scalar types, by their number; 8 is a string, 9 an array
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_KEPT_ITEMS = 1024  # longer arrays are vocabulary


class ShortHeader(ValueError):
    """The bytes end before the header does."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: shape as in torch, ggml type number, first and one past the last byte in the file."""

    shape: tuple[int, ...]
    kind: int
    start: int
    stop: int


@dataclass(frozen=True)
class GGUFHeader:
    """Settings (scalars, strings and short arrays of numbers) and tensors of a file."""

    settings: Mapping[str, Any]
    tensors: Mapping[str, TensorEntry]

    @property
    def architecture(self) -> str:
        return str(self.settings.get("general.architecture", ""))


class _Cursor:
    """Reads little-endian values one after another."""

    def __init__(self, data: Any) -> None:
        self.data, self.size, self.at = data, len(data), 0

    def take(self, form: str) -> Any:
        step = struct.calcsize("<" + form)
        if self.at + step > self.size:
            raise ShortHeader
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += step
        return values[0] if len(values) == 1 else values

    def skip(self, count: int) -> None:
        if self.at + count > self.size:
            raise ShortHeader
        self.at += count

    def string(self) -> str:
        start = self.at + 8
        self.skip(self.take("Q"))
        return bytes(self.data[start : self.at]).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise ValueError(f"unknown type {kind}")
        return self.take(_SCALARS[kind])

    def array(self) -> list[Any] | None:
        kind, count = self.take("I"), self.take("Q")
        if kind == _STRING:
            for _ in range(count):
                self.skip(self.take("Q"))
            return None
        if kind not in _SCALARS:
            raise ValueError(f"array of type {kind}")
        if count > _KEPT_ITEMS:
            self.skip(count * struct.calcsize(_SCALARS[kind]))
            return None
        return [self.take(_SCALARS[kind]) for _ in range(count)]


def parse_header(data: Any) -> GGUFHeader:
    """Read a header from a file's first bytes.

    Parameters
    ----------
    data : bytes, mmap or memoryview
        From the start of the file; may end anywhere after the header.

    Raises
    ------
    ShortHeader
        Where more bytes are needed.
    ValueError
        Where it is no GGUF header of version 2 or 3.
    """
    cursor = _Cursor(data)
    if cursor.take("4s") != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version = cursor.take("I")
    if version not in (2, 3):
        raise ValueError(f"GGUF version {version}; 2 and 3 are read")
    n_tensors, n_settings = cursor.take("QQ")
    settings: dict[str, Any] = {}
    for _ in range(n_settings):
        key = cursor.string()
        value = cursor.value(cursor.take("I"))
        if value is not None:
            settings[key] = value
    places = [(cursor.string(), *_place(cursor)) for _ in range(n_tensors)]
    alignment = settings.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError("its alignment is no power of two")
    base = -(-cursor.at // alignment) * alignment
    tensors = {
        name: TensorEntry(shape, kind, base + offset, base + offset + _n_bytes(shape, kind))
        for name, shape, kind, offset in places
    }
    return GGUFHeader(settings, tensors)


def _place(cursor: _Cursor) -> tuple[tuple[int, ...], int, int]:
    """Read a tensor's shape, type and offset."""
    n_dims = cursor.take("I")
    if n_dims > 4:
        raise ValueError(f"a tensor of {n_dims} dimensions")
    # stored fastest axis first
    shape = tuple(cursor.take("Q") for _ in range(n_dims))[::-1]
    return shape, cursor.take("I"), cursor.take("Q")


def _n_bytes(shape: tuple[int, ...], kind: int) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    if shape and shape[-1] % block:
        raise ValueError(f"a row of {shape[-1]} values in blocks of {block}")
    return math.prod(shape) // int(block) * int(size)


def language_model_config(header: GGUFHeader) -> dict[str, Any]:
    """Return what a decoder layer needs of the model's ``config.json``, read from the file's settings.

    Raises
    ------
    ValueError
        Where the settings do not tell all of it.
    """
    family = header.architecture
    if "rope_freqs.weight" in header.tensors:
        raise ValueError("its rotary scaling is only in the model's config.json; put that beside the file")

    def setting(name: str, default: Any = None) -> Any:
        value = header.settings.get(f"{family}.{name}", default)
        if value is None:
            raise ValueError(f"it lacks {family}.{name}; put the model's config.json beside the file")
        return value

    hidden, heads = setting("embedding_length"), setting("attention.head_count")
    kind = header.settings.get(f"{family}.rope.scaling.type", "none")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": setting("rope.freq_base", 10000.0)}
    if kind != "none":
        rope |= {"rope_type": kind, "factor": setting("rope.scaling.factor")}
    biases = {name.split(".", 2)[2] for name in header.tensors if name.startswith("blk.") and name.endswith(".bias")}
    return {
        "model_type": family,
        "hidden_size": hidden,
        "intermediate_size": setting("feed_forward_length"),
        "num_hidden_layers": setting("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": setting("attention.head_count_kv", heads),
        "head_dim": setting("attention.key_length", setting("rope.dimension_count", hidden // max(int(heads), 1))),
        "hidden_act": "silu",
        "rms_norm_eps": setting("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope,
        "attention_bias": family != "qwen2" and "attn_q.bias" in biases,
        "mlp_bias": "ffn_up.bias" in biases,
    }
