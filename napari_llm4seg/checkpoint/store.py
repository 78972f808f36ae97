"""Reading, checking and writing checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from napari_llm4seg.checkpoint.card import CONFIG, parse_config, read_config, render_card
from napari_llm4seg.config import CheckpointConfig
from napari_llm4seg.errors import CheckpointError, ConfigError, one_line
from napari_llm4seg.files import replacing, replacing_folder
from napari_llm4seg.models.build import build_network
from napari_llm4seg.models.llm4seg import FROZEN_PREFIX, LLM4SegNet
from napari_llm4seg.models.packs import packs_beside, tensors_digest

WEIGHTS, README, LAYERS = "weights.safetensors", "README.md", "layers"
METADATA_KEY = "napari-llm4seg"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network without its frozen layers.

    Parameters
    ----------
    config : CheckpointConfig
    tensors : mapping of name to tensor
        ``LLM4SegNet.trained_tensors()``.
    path : Path or None
        The folder it was read from; frozen layer packs in its ``layers/`` are found through it.
    """

    config: CheckpointConfig
    tensors: Mapping[str, Tensor]
    path: Path | None = None
    _digest: list[str] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        return self.config.card.name

    @property
    def digest(self) -> str:
        """sha256 over config and tensors: two checkpoints that compute the same have the same one."""
        if not self._digest:
            settings = self.config.model_dump_json(exclude={"card"})
            self._digest.append(hashlib.sha256((settings + tensors_digest(self.tensors)).encode()).hexdigest())
        return self._digest[0]

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint folder or file.

        Raises
        ------
        CheckpointError
            One line where it is missing, damaged, truncated, foreign or hostile.
        """
        path = Path(path)
        if path.is_dir():
            config = read_config(path)
            return cls(config, _read_tensors(path / WEIGHTS, config), path)
        if path.is_file():
            config = _read_metadata(path)
            return cls(config, _read_tensors(path, config), path.parent)
        raise CheckpointError(f"There is no checkpoint at '{path}'.")

    def save(self, path: str | Path) -> Path:
        """Write the checkpoint: a single file where ``path`` ends in .safetensors, else a folder. Returns ``path``.

        Frozen layers that lie beside this checkpoint go along, into ``layers/``; for a single file, into the folder
        it lies in. What else a replaced checkpoint folder held, such as a licence, stays in it.

        Raises
        ------
        InputError
            Where ``path`` is a folder of something else, or the disk refuses.
        """
        from safetensors.torch import save_file

        path = Path(path)
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.tensors.items()}
        metadata = {METADATA_KEY: self.config.model_dump_json()}
        if path.suffix == ".safetensors":
            with replacing(path) as temporary:
                save_file(tensors, temporary, metadata)
            self._carry_packs(path.parent / LAYERS)
            return path
        with replacing_folder(path, CONFIG) as folder:
            if path.is_dir():
                _carry_others(path, folder)
            save_file(tensors, folder / WEIGHTS, metadata)
            (folder / CONFIG).write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
            (folder / README).write_text(render_card(self.config), encoding="utf-8")
            self._carry_packs(folder / LAYERS)
        return path

    def _carry_packs(self, layers: Path) -> None:
        """Bring the frozen layers that lie beside this checkpoint into ``layers``; shipped ones need no copy."""
        block = self.config.model.block
        for ref in block.layers if block and self.path else ():
            for source in packs_beside(ref, self.path)[:1]:
                if not packs_beside(ref, layers.parent):
                    taken = (layers / source.name).exists()
                    target = layers / (f"{source.name}-{ref.sha256[:8]}" if taken else source.name)
                    with replacing_folder(target) as folder:
                        shutil.copytree(source, folder, copy_function=_link_or_copy, dirs_exist_ok=True)

    def build(self, device: str | torch.device = "cpu") -> LLM4SegNet:
        """Return the network in eval mode on ``device``, its frozen layers found and checked.

        Raises
        ------
        CheckpointError
            If a frozen layer is not at hand with the repository, revision, index and sha256 the checkpoint names, or
            does not fit the weights.
        """
        try:
            net = build_network(self.config.model, self.path)
        except (CheckpointError, ConfigError) as error:
            raise CheckpointError(f"Checkpoint '{self.path or self.name}': {error}") from error
        wanted = {name: tuple(tensor.shape) for name, tensor in net.trained_tensors().items()}
        _check_shapes({name: tuple(t.shape) for name, t in self.tensors.items()}, wanted, str(self.path or self.name))
        net.load_state_dict(dict(self.tensors), strict=False)
        return net.to(device).eval()


def _link_or_copy(source: str, target: str) -> None:
    """Link a pack's file where the disk can: packs are large and never changed in place."""
    try:
        os.link(os.path.realpath(source), target)  # the Hub's cache holds links, relative to where they lie
    except OSError:
        shutil.copy2(source, target)


def _carry_others(old: Path, new: Path) -> None:
    """Copy what a checkpoint folder holds besides a checkpoint's own files."""
    for entry in old.iterdir():
        if entry.is_dir() and entry.name != LAYERS:
            shutil.copytree(entry, new / entry.name)
        elif entry.is_file() and entry.name not in (WEIGHTS, CONFIG, README):
            shutil.copy2(entry, new / entry.name)


def _read_metadata(path: Path) -> CheckpointConfig:
    from safetensors import SafetensorError, safe_open

    if path.suffix.lower() in (".pth", ".pt", ".ckpt", ".bin", ".pkl"):
        raise CheckpointError(
            f"'{path}' is a pickled file, which may run code when read. If it is a published LLM4Seg state "
            f"dict, convert it first: llm4seg models import {path.name} -o FOLDER"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
        text = metadata.get(METADATA_KEY)
        if text is None or len(text) > 1 << 20:
            raise CheckpointError(f"'{path}' is of another program: it carries no napari-llm4seg config.")
        value = json.loads(text)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is damaged or not a checkpoint: {one_line(error, 120)}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"'{path}' carries a config that is no JSON object.")
    return parse_config(value, path)


def _read_tensors(file: Path, config: CheckpointConfig) -> dict[str, Tensor]:
    """Read the weights after their names and shapes were held against the model, before any is allocated."""
    from safetensors import SafetensorError, safe_open

    wanted = expected_shapes(config)
    if not file.is_file():
        raise CheckpointError(f"The checkpoint's weights '{file}' are missing.")
    try:
        with safe_open(file, framework="pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in list(opened.keys())}
            own = {name: shape for name, shape in shapes.items() if not _is_trained_layer(name, config)}
            _check_shapes(own, wanted, str(file))
            tensors = {name: opened.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"Weights '{file}' are damaged or cut short: {one_line(error, 120)}") from error
    check_values(tensors, str(file))
    return tensors


def check_values(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError at the first tensor that is of integers or holds NaN or infinity."""
    for name, tensor in tensors.items():
        counts = name.endswith("num_batches_tracked")
        if tensor.dtype not in ((torch.int64,) if counts else FLOATS):
            raise CheckpointError(
                f"Weights '{where}': {name[:120]!r} holds {tensor.dtype}; it needs floating-point values."
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"Weights '{where}': {name[:120]!r} holds NaN or infinity. Fetch or train it again.")


def _is_trained_layer(name: str, config: CheckpointConfig) -> bool:
    """Say whether ``name`` is of a language-model layer that was trained too; ``build`` holds it to its pack."""
    block = config.model.block
    return block is not None and not block.frozen and bool(block.layers) and name.startswith(FROZEN_PREFIX)


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], where: str) -> None:
    for name, shape in wanted.items():
        if shapes.get(name) != shape:
            came = f"is {shapes[name]}" if name in shapes else "is missing"
            raise CheckpointError(
                f"Weights '{where}': '{name}' {came}; the model of its config needs {shape}. "
                "The file belongs to another model or was cut short."
            )
    extra = sorted(set(shapes) - set(wanted))
    if extra:
        raise CheckpointError(f"Weights '{where}' hold {extra[0][:120]!r}, for which the model has no place.")


def expected_shapes(config: CheckpointConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a checkpoint's tensors without its layers', allocating nothing."""
    model = config.model
    block = model.block
    hollow = model.model_copy(update={"block": block.model_copy(update={"layers": ()})}) if block else model
    with torch.device("meta"):
        net = LLM4SegNet(hollow)
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
