"""Language models on this machine: folders with safetensors, GGUF files, and the Hub's own cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.files import read_json
from napari_llm4seg.models.gguf import compact_layer, gguf_config
from napari_llm4seg.models.hub import hub_errors
from napari_llm4seg.models.inventory import CONFIG
from napari_llm4seg.models.packs import layer_from_checkpoint
from napari_llm4seg.models.registry import known


def layer_at_path(path: Path, index: int) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Take a layer out of a language model on this machine.

    Parameters
    ----------
    path : Path
        A folder with config.json and safetensors or one GGUF file; or a GGUF file, with or without config.json
        beside it.
    index : int
        0-based.

    Returns
    -------
    config, tensors by their names inside the layer, note on how the values came about

    Raises
    ------
    CheckpointError
        One line where it is no language model, or lacks the layer.
    """
    if not path.exists():
        raise CheckpointError(f"There is no language model '{str(path)[:120]}'. {known()}")
    path = _gguf_in(path)
    if path.is_dir():
        _, tensors = layer_from_checkpoint(path, index)
        return read_json(path / CONFIG, "language model config"), tensors, ""
    if path.suffix != ".gguf":
        raise CheckpointError(f"'{path}' is no language model: it needs a folder with safetensors or a .gguf file.")
    config, tensors = compact_layer(path, index, _config_beside(path))
    return config, tensors, f"Dequantised from {path.name}."


def config_at_path(path: Path) -> dict[str, Any]:
    """Return the config of a language model on this machine; raises as ``layer_at_path``."""
    path = _gguf_in(path)
    if path.is_dir():
        return read_json(path / CONFIG, "language model config")
    return gguf_config(path, _config_beside(path))


def _gguf_in(path: Path) -> Path:
    """Return the one GGUF file of a folder without safetensors; else ``path`` itself."""
    if path.is_dir() and not any(path.glob("model*.safetensors")):
        files = sorted(path.glob("*.gguf"))
        return files[0] if len(files) == 1 else path
    return path


def _config_beside(path: Path) -> dict[str, Any] | None:
    beside = path.parent / CONFIG
    return read_json(beside, "language model config") if beside.is_file() else None


def hub_snapshot(repository: str, revision: str | None) -> Path | None:
    """Return the folder of a repository that was downloaded with the Hub's own tools, named by its commit.

    Whether all of its files are there shows when a layer is taken out of it.
    """
    from huggingface_hub import try_to_load_from_cache

    with hub_errors(repository, repository):
        found = try_to_load_from_cache(repository, CONFIG, revision=revision)
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    return folder if re.fullmatch(r"[0-9a-f]{40}", folder.name) else None
