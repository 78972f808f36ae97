"""Decoder layers out of language models on the Hub: the header and the layer's bytes, nothing else."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_llm4seg.errors import CheckpointError, one_line
from napari_llm4seg.models import hub
from napari_llm4seg.models.gguf import check_ends, compact, config_for, layer_entries, layer_from_header
from napari_llm4seg.models.gguf_header import ShortHeader, parse_header
from napari_llm4seg.models.llm_layer import check_tensors
from napari_llm4seg.models.partial import Meter, RemoteFile
from napari_llm4seg.models.registry import check_layer
from napari_llm4seg.models.spec import LayerSpec

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md")
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FIRST = 1 << 16  # bytes asked for at first, which hold most safetensors headers
MOST = 1 << 26  # bytes a header may have


@dataclass(frozen=True)
class FetchedLayer:
    """One layer with what its pack says of it."""

    index: int
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    note: str


def small_file(repository: hub.Repository, name: str, limit: int = 1 << 24) -> bytes:
    """Return a small file of a repository, checked against the Hub's digest.

    Raises
    ------
    CheckpointError
        Where it is missing, larger than ``limit`` bytes, or does not arrive.
    """
    file = RemoteFile(repository, name, Meter())
    if file.size > limit:
        raise CheckpointError(f"'{repository.name}/{name}' is {file.size} bytes; that is no such file.")
    data = file.whole()
    file.discard()
    return data


def small_json(repository: hub.Repository, name: str) -> dict[str, Any]:
    """Return a JSON object of a repository; raises as ``small_file``, and where it is none."""
    try:
        value = json.loads(small_file(repository, name))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"'{repository.name}/{name}' cannot be read: {type(error).__name__}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"'{repository.name}/{name}' holds a {type(value).__name__}; it needs a JSON object.")
    return value


def fetch_layers(
    repository: hub.Repository, indices: Sequence[int], file: str | None, meter: Meter
) -> list[FetchedLayer]:
    """Fetch decoder layers of a repository.

    Parameters
    ----------
    repository : Repository
    indices : 0-based
    file : str or None
        A GGUF file inside it; None takes its safetensors, or its one GGUF file where it has no safetensors.
    meter : Meter

    Raises
    ------
    CheckpointError
        One line where it is no language model of a supported kind, lacks a layer, or does not arrive.
    """
    file = _gguf_to_take(repository, file)
    config = small_json(repository, "config.json") if "config.json" in repository.files else None
    if file is not None:
        return _from_gguf(repository, indices, file, config, meter)
    if config is None:
        raise CheckpointError(f"'{repository.name}' has no config.json, so the shape of its layers is unknown.")
    return _from_safetensors(repository, indices, config, meter)


def config_of(repository: hub.Repository, file: str | None = None) -> dict[str, Any]:
    """Return a language model's config; of a GGUF file without config.json from its header. Raises as fetch_layers."""
    if "config.json" in repository.files:
        return small_json(repository, "config.json")
    name = _gguf_to_take(repository, file)
    if name is None:
        raise CheckpointError(f"'{repository.name}' has no config.json, so the shape of its layers is unknown.")
    what, remote = f"'{repository.name}/{name}'", RemoteFile(repository, name, Meter())
    try:
        config = config_for(_gguf_header(remote), None, what)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{what} is damaged or of an unknown kind: {one_line(error, 120)}.") from error
    remote.discard()
    return config


def _gguf_to_take(repository: hub.Repository, file: str | None) -> str | None:
    """Return the GGUF file to read, None for safetensors."""
    if file is None and not {SINGLE, INDEX} & set(repository.files):
        return _only_gguf(repository)
    if file is not None and file not in repository.files:
        raise CheckpointError(f"'{repository.name}' has no file '{file[:120]}'; see {hub.PAGE}{repository.name}")
    return file


def _only_gguf(repository: hub.Repository) -> str:
    files = [name for name in repository.files if name.endswith(".gguf")]
    if len(files) == 1:
        return files[0]
    if files:
        raise CheckpointError(
            f"'{repository.name}' has {len(files)} GGUF files; say which, e.g. hf:{repository.name}/{files[0]}"
        )
    raise CheckpointError(
        f"'{repository.name}' holds neither {SINGLE} nor GGUF, so no language model that can be read in parts; "
        "pickled weights are not read."
    )


# --- safetensors ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A tensor in a safetensors file: dtype by its name there, shape, first and one past the last byte."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def _from_safetensors(
    repository: hub.Repository, indices: Sequence[int], config: dict[str, Any], meter: Meter
) -> list[FetchedLayer]:
    spec = LayerSpec.from_config(config)
    for index in indices:
        check_layer(index, config, f"'{repository.name}'")
    table = None if SINGLE in repository.files else _shard_table(repository)
    files: dict[str, tuple[RemoteFile, dict[str, _Entry]]] = {}
    layers = []
    for index in indices:
        prefix = f"model.layers.{index}."
        shards = {SINGLE} if table is None else {shard for name, shard in table.items() if name.startswith(prefix)}
        for shard in sorted(shards - set(files)):
            if shard not in repository.files:
                raise CheckpointError(f"'{repository.name}' lacks its own shard '{shard[:120]}'.")
            remote = RemoteFile(repository, shard, meter)
            files[shard] = remote, _read_header(remote)
        tensors = _take_layer(repository, spec, prefix, [files[shard] for shard in sorted(shards)])
        layers.append(FetchedLayer(index, config, tensors, ""))
    for remote, _ in files.values():
        remote.discard()
    return layers


def _shard_table(repository: hub.Repository) -> dict[str, str]:
    table = small_json(repository, INDEX).get("weight_map")
    if not isinstance(table, dict):
        raise CheckpointError(f"'{repository.name}/{INDEX}' names no shards.")
    return {str(name): str(file) for name, file in table.items()}


def _read_header(file: RemoteFile) -> dict[str, _Entry]:
    """Read where the tensors of a safetensors file lie."""
    what = f"'{file.repository.name}/{file.name}'"
    first = file.fetch([(0, min(FIRST, file.size))])
    try:
        (length,) = struct.unpack("<Q", first(0, 8))
        base = 8 + length
        if base > min(file.size, MOST):
            raise ValueError("its header ends nowhere")
        text = first(8, min(base, FIRST)) + (file.fetch([(FIRST, base)])(FIRST, base) if base > FIRST else b"")
        entries = {}
        for name, about in json.loads(text).items():
            if name != "__metadata__":
                start, stop = (base + int(offset) for offset in about["data_offsets"])
                if not base <= start <= stop <= file.size:
                    raise ValueError("a tensor lies outside of it")
                entries[str(name)] = _Entry(str(about["dtype"]), tuple(map(int, about["shape"])), start, stop)
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error) as error:
        raise CheckpointError(f"{what} is damaged or not safetensors: {one_line(error, 120)}.") from error
    return entries


def _take_layer(
    repository: hub.Repository, spec: LayerSpec, prefix: str, shards: list[tuple[RemoteFile, dict[str, _Entry]]]
) -> dict[str, Tensor]:
    """Fetch the tensors under ``prefix``; names and shapes are checked before a byte of them is asked for."""
    # older checkpoints store the rotary frequencies, which follow from the config
    chosen = [
        (file, {n: e for n, e in entries.items() if n.startswith(prefix) and "rotary_emb" not in n})
        for file, entries in shards
    ]
    try:
        shapes = {}
        for _, entries in chosen:
            for name, entry in entries.items():
                if entry.dtype not in DTYPES:
                    raise CheckpointError(f"'{name}' is stored as {entry.dtype[:20]}; {', '.join(DTYPES)} are read.")
                shapes[name.removeprefix(prefix)] = torch.empty(entry.shape, device="meta", dtype=DTYPES[entry.dtype])
        check_tensors(spec, shapes)
    except (CheckpointError, RuntimeError) as error:
        raise CheckpointError(f"'{repository.name}', {prefix}*: {one_line(error, 240)}") from error
    tensors: dict[str, Tensor] = {}
    for file, entries in chosen:
        give = file.fetch((entry.start, entry.stop) for entry in entries.values())
        loaded = _load(entries, {name: give(entry.start, entry.stop) for name, entry in entries.items()}, file)
        tensors |= {name.removeprefix(prefix): tensor for name, tensor in loaded.items()}
    return tensors


def _load(entries: Mapping[str, _Entry], data: Mapping[str, bytes], file: RemoteFile) -> dict[str, Tensor]:
    """Let safetensors itself read the chosen tensors, as a small file of their own."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    header, at = {}, 0
    for name, entry in entries.items():
        header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": (at, at + len(data[name]))}
        at += len(data[name])
    text = json.dumps(header).encode()
    try:
        loaded: dict[str, Tensor] = load(struct.pack("<Q", len(text)) + text + b"".join(data[name] for name in entries))
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"'{file.repository.name}/{file.name}' is damaged or not safetensors: {one_line(error, 120)}"
        ) from error
    return loaded


# --- GGUF -------------------------------------------------------------------------------------------------------------


def _from_gguf(
    repository: hub.Repository, indices: Sequence[int], name: str, config: dict[str, Any] | None, meter: Meter
) -> list[FetchedLayer]:
    file, what = RemoteFile(repository, name, meter), f"'{repository.name}/{name}'"
    layers = []
    try:
        header = _gguf_header(file)
        check_ends(header, file.size)
        config = config_for(header, config, what)
        for index in indices:
            entries = layer_entries(header, index, what)
            give = file.fetch((entry.start, entry.stop) for entry in entries.values())
            _, tensors = layer_from_header(header, index, config, give, what)
            note = f"Dequantised from {name.split('/')[-1]}."
            layers.append(FetchedLayer(index, config, compact(header, index, tensors), note))
    except (ValueError, KeyError, TypeError, NotImplementedError, struct.error) as error:
        raise CheckpointError(f"{what} is damaged or of an unknown kind: {one_line(error, 120)}.") from error
    file.discard()
    return layers


def _gguf_header(file: RemoteFile) -> Any:
    """Read the header by ever longer pieces from the file's start: nothing in it says how long it is."""
    data, size = b"", 1 << 18
    while True:
        start, stop = len(data), min(size, file.size)
        data += file.fetch([(start, stop)])(start, stop)
        try:
            return parse_header(data)
        except ShortHeader:
            if stop == file.size or stop >= MOST:
                raise ValueError("its header ends nowhere") from None
        size *= 2
