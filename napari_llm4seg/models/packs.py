"""Frozen layer packs: one decoder layer as a folder of safetensors, config, licence and digest.

layer.safetensors   tensors named as in the source checkpoint, model.layers.<index>.*
config.json         the source model's config
pack.json           repository, revision, index, sha256 of layer.safetensors, licence, note
LICENSE             where the source has one
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from napari_llm4seg.config import LayerRef, explain
from napari_llm4seg.errors import CheckpointError, LLM4SegError, one_line
from napari_llm4seg.files import read_json, replacing_folder, sha256
from napari_llm4seg.models.inventory import CONFIG, PACK, WEIGHTS, command_for, layer_cache, pack_folders
from napari_llm4seg.models.llm_layer import LLMLayer, check_tensors
from napari_llm4seg.models.registry import LANGUAGE_MODELS, check_layer
from napari_llm4seg.models.spec import LayerSpec


@dataclass(frozen=True, eq=False)
class LayerPack:
    """One decoder layer with its origin.

    Attributes
    ----------
    ref : LayerRef
    spec : LayerSpec
    tensors : the layer's tensors by their names inside the layer
    licence : SPDX identifier or words
    note : what a reader must know of how the values came about
    """

    ref: LayerRef
    spec: LayerSpec
    tensors: dict[str, Tensor]
    licence: str = ""
    note: str = ""

    def build(self, frozen: bool = True) -> LLMLayer:
        """Return the layer in float32."""
        return LLMLayer.from_tensors(self.spec, self.tensors, frozen)


def read_pack(folder: Path) -> LayerPack:
    """Read a pack and check its digest, names and shapes.

    Raises
    ------
    CheckpointError
        One line where the folder is no pack, was altered or is damaged.
    """
    try:
        about = read_json(folder / PACK, "frozen layer pack")
        config = read_json(folder / CONFIG, "language model config")
        fields = {key: about.get(key) for key in ("repository", "revision", "index", "sha256")}
        ref = LayerRef.model_validate(fields)
        came = sha256(folder / WEIGHTS)
    except ValidationError as error:
        raise CheckpointError(f"'{folder}' is no frozen layer pack: {explain(error, PACK)}") from error
    except (LLM4SegError, OSError) as error:
        raise CheckpointError(f"'{folder}' is no frozen layer pack: {one_line(error, 160)}") from error
    if came != ref.sha256:
        raise CheckpointError(
            f"Frozen layer '{folder / WEIGHTS}' was altered: its sha256 is {came[:12]}…, its pack needs "
            f"{ref.sha256[:12]}…. Fetch it again."
        )
    tensors = _read_layer(folder / WEIGHTS, ref.index)
    try:
        spec = LayerSpec.from_config(config)
        check_tensors(spec, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"Frozen layer '{folder}': {error}") from error
    return LayerPack(ref, spec, tensors, str(about.get("licence", "")), str(about.get("note", "")))


def write_pack(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    repository: str,
    revision: str,
    index: int,
    licence: str = "",
    note: str = "",
    licence_file: Path | None = None,
    expected: str | None = None,
    asked: str = "",
) -> LayerPack:
    """Write a pack from a layer's tensors (names inside the layer) and its model's config; returns it as read back.

    ``asked`` is the branch or tag by which ``revision`` was found, so that a config may name the layer by it too.

    Raises
    ------
    CheckpointError
        Where the tensors are not a whole layer of that config, or the file's sha256 is not the ``expected`` one.
    InputError
        Where ``folder`` holds something that is no pack.
    """
    from safetensors.torch import save_file

    check_tensors(LayerSpec.from_config(config), tensors)
    named = {f"model.layers.{index}.{name}": tensor.detach().contiguous() for name, tensor in tensors.items()}
    with replacing_folder(folder, PACK) as temporary:
        save_file(named, temporary / WEIGHTS)
        (temporary / CONFIG).write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")
        digest = sha256(temporary / WEIGHTS)
        if expected is not None and digest != expected:
            raise CheckpointError(
                f"Layer {index} of {repository} (revision {revision[:40]}) has sha256 {digest}; "
                f"{expected[:64]} was asked for, so it is refused."
            )
        about: dict[str, Any] = {
            "repository": repository,
            "revision": revision,
            "index": index,
            "sha256": digest,
            "licence": licence,
            "note": note,
        }
        if asked not in ("", revision):
            about["asked"] = asked
        (temporary / PACK).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        if licence_file is not None:
            shutil.copyfile(licence_file, temporary / "LICENSE")
    return read_pack(folder)


def packs_beside(ref: LayerRef, folder: Path | None) -> list[Path]:
    """Return the packs in ``folder/layers`` that say they are ``ref``; their digest is checked on reading."""
    found = []
    for file in sorted(folder.glob(f"layers/*/{PACK}")) if folder else ():
        try:
            about = read_json(file, "frozen layer pack")
        except LLM4SegError:
            continue
        if all(about.get(key) == value for key, value in ref.model_dump().items()):
            found.append(file.parent)
    return found


def find_pack(ref: LayerRef, near: Path | None = None) -> LayerPack:
    """Return the pack a checkpoint asks for.

    Raises
    ------
    CheckpointError
        If none at hand has that repository, revision, index and sha256; it names the nearest one.
    """
    nearest = ""
    for folder in pack_folders(near):
        try:
            about = read_json(folder / PACK, "frozen layer pack")
            if about.get("repository") != ref.repository or about.get("index") != ref.index:
                continue
            if about.get("revision") == ref.revision and about.get("sha256") == ref.sha256:
                return read_pack(folder)
        except CheckpointError as error:
            nearest = f" {error}"
            continue
        except LLM4SegError:
            continue  # a damaged pack must not hide a good one
        nearest = nearest or f" '{folder}' holds that layer at another revision or sha256, which is refused."
    if ref.repository.startswith("random/"):
        return _random(ref)
    command = command_for(ref)
    how = f"Fetch it ({command}) or put" if command else "Put"
    raise CheckpointError(
        f"The checkpoint needs layer {ref.index} of {ref.repository} (revision {ref.revision}, sha256 "
        f"{ref.sha256[:12]}…), which is not at hand.{nearest} {how} its pack into '{layer_cache()}'."
    )


def _random(ref: LayerRef) -> LayerPack:
    """Make the random layer that ``ref`` names; it is the same on every machine."""
    from napari_llm4seg.models.random_layers import make_random_pack

    name = ref.repository.removeprefix("random/")
    if name not in LANGUAGE_MODELS or ref.revision != f"seed-{ref.index}":
        raise CheckpointError(
            f"There is no random layer {ref.index} of {ref.repository[:80]} at revision {ref.revision[:40]}; it needs "
            f"a language model of the registry and revision seed-{ref.index}."
        )
    made = make_random_pack(name, ref.index)
    if made.ref != ref:
        raise CheckpointError(
            f"The checkpoint needs {ref.repository} {ref.revision} with sha256 {ref.sha256[:12]}…; this machine makes "
            f"{made.ref.sha256[:12]}…. Take the pack from where the checkpoint was made and put it into "
            f"'{layer_cache()}'."
        )
    return made


def layer_from_checkpoint(folder: Path, index: int) -> tuple[LayerSpec, dict[str, Tensor]]:
    """Take one decoder layer out of a local Hugging Face checkpoint, opening only the shards that hold it.

    Parameters
    ----------
    folder : Path
        With config.json and model.safetensors, or model.safetensors.index.json and its shards.
    index : int
        0-based layer index.

    Returns
    -------
    LayerSpec, tensors by their names inside the layer

    Raises
    ------
    CheckpointError
        Where the folder is no such checkpoint, the layer does not exist or a shard is damaged.
    """
    try:
        config = read_json(folder / CONFIG, "language model config")
        single = folder / "model.safetensors"
        prefix = f"model.layers.{index}."
        if single.is_file():
            shards = {single}
        else:
            table = read_json(folder / "model.safetensors.index.json", "shard index", limit=1 << 26)
            names = {str(file) for name, file in dict(table["weight_map"]).items() if str(name).startswith(prefix)}
            shards = {folder / Path(name).name for name in names}  # .name: a shard never lies outside the folder
    except (LLM4SegError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"'{folder}' is no language-model checkpoint: {one_line(error, 160)}") from error
    check_layer(index, config, f"'{folder.name}'")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(shards):
        tensors |= _read_layer(shard, index)
    try:
        spec = LayerSpec.from_config(config)
        check_tensors(spec, tensors)
    except CheckpointError as error:
        raise CheckpointError(f"Layer {index} of '{folder}': {error}") from error
    return spec, tensors


def _read_layer(file: Path, index: int) -> dict[str, Tensor]:
    """Read the tensors of layer ``index`` only; safetensors maps the file, so the rest is never touched."""
    from safetensors import SafetensorError, safe_open

    prefix = f"model.layers.{index}."
    try:
        with safe_open(file, framework="pt") as opened:
            # older checkpoints store the rotary frequencies, which follow from the config
            names = [name for name in list(opened.keys()) if name.startswith(prefix) and "rotary_emb" not in name]
            return {name.removeprefix(prefix): opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"Weights file '{file}' is damaged or not safetensors: {one_line(error, 160)}") from error


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a sha256 over names, dtypes, shapes and bytes, in name order."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
