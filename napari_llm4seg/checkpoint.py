"""Checkpoints: what was trained, as safetensors, with everything needed to run it again.

A folder holds ``weights.safetensors``, ``config.json`` (model, preprocessing, prediction, classes, the frozen layer by
repository, revision, index and sha256, the card) and the card as ``README.md``; ``layers/`` may carry frozen layer
packs. A single ``.safetensors`` file holds the same config in its metadata. Nothing here is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from napari_llm4seg.assets import asset
from napari_llm4seg.config import Card, CheckpointConfig, explain
from napari_llm4seg.errors import CheckpointError, LLM4SegError, one_line
from napari_llm4seg.files import read_json, replacing, replacing_folder
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.packs import cache_folder, find_pack, tensors_digest

WEIGHTS, CONFIG, README = "weights.safetensors", "config.json", "README.md"
METADATA_KEY = "napari-llm4seg"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network without its frozen layers.

    Parameters
    ----------
    config : CheckpointConfig
    tensors : mapping of name to tensor
        ``LLM4SegNet.trained_tensors()``.
    path : Path or None
        Where it was read from; frozen layer packs beside it are found through it.
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
            weights, config = path / WEIGHTS, _parse(_read_config(path), path)
        elif path.is_file():
            weights, config = path, _parse(_read_metadata(path), path)
        else:
            raise CheckpointError(f"There is no checkpoint at '{path}'.")
        near = path if path.is_dir() else path.parent
        return cls(config, _read_tensors(weights, config), near)

    def save(self, path: str | Path) -> Path:
        """Write the checkpoint: a single file where ``path`` ends in .safetensors, else a folder. Returns ``path``."""
        from safetensors.torch import save_file

        path = Path(path)
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.tensors.items()}
        metadata = {METADATA_KEY: self.config.model_dump_json()}
        if path.suffix == ".safetensors":
            with replacing(path) as temporary:
                save_file(tensors, temporary, metadata)
            return path
        with replacing_folder(path) as folder:
            save_file(tensors, folder / WEIGHTS, metadata)
            (folder / CONFIG).write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
            (folder / README).write_text(render_card(self.config), encoding="utf-8")
        return path

    def build(self, device: str | torch.device = "cpu") -> LLM4SegNet:
        """Return the network in eval mode on ``device``, its frozen layers found and checked.

        Raises
        ------
        CheckpointError
            If a frozen layer is not at hand with the repository, revision, index and sha256 the checkpoint names.
        """
        block = self.config.model.block
        layers = [find_pack(ref, self.path).build(block.frozen) for ref in block.layers] if block else []
        net = LLM4SegNet(self.config.model, layers)
        net.load_state_dict(dict(self.tensors), strict=False)  # names and shapes were checked on reading
        return net.to(device).eval()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / CONFIG, "checkpoint config")
    except LLM4SegError as error:
        raise CheckpointError(f"'{folder}' is no checkpoint of this program: {error}") from error


def _read_metadata(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    if path.suffix.lower() in (".pth", ".pt", ".ckpt", ".bin", ".pkl"):
        raise CheckpointError(
            f"'{path.name}' is a pickled file, which may run code when read. If it is a published LLM4Seg state "
            f"dict, convert it first: llm4seg models import {path.name} -o FOLDER"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
        text = metadata.get(METADATA_KEY)
        if text is None or len(text) > 1 << 20:
            raise CheckpointError(
                f"'{path.name}' is a weights file of another program: it carries no napari-llm4seg config."
            )
        value = json.loads(text)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path.name}' is damaged or not a checkpoint: {one_line(error, 120)}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"'{path.name}' carries a config that is no JSON object.")
    return value


def _parse(value: dict[str, Any], path: Path) -> CheckpointConfig:
    form = value.get("format")
    if form != "napari-llm4seg/1":
        raise CheckpointError(
            f"'{path.name}' says format {str(form)[:40]!r}; this version reads 'napari-llm4seg/1'. "
            "Update the program, or choose another checkpoint."
        )
    try:
        return CheckpointConfig.model_validate(value)
    except ValidationError as error:
        raise CheckpointError(f"Checkpoint '{path.name}': {explain(error, 'its config')}") from error


def _read_tensors(file: Path, config: CheckpointConfig) -> dict[str, Tensor]:
    """Read the weights after their names and shapes were held against the model, before any is allocated."""
    from safetensors import SafetensorError, safe_open

    wanted = expected_shapes(config)
    try:
        with safe_open(file, framework="pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}
            for name, shape in wanted.items():
                if shapes.get(name) != shape:
                    came = f"is {shapes[name]}" if name in shapes else "is missing"
                    raise CheckpointError(
                        f"Weights '{file.name}': '{name}' {came}; the model of its config needs {shape}. "
                        "The file belongs to another model or was cut short."
                    )
            extra = sorted(set(shapes) - set(wanted))
            if extra and not all(name.startswith("block.layers.") for name in extra):
                raise CheckpointError(f"Weights '{file.name}' hold '{extra[0]}', for which the model has no place.")
            return {name: opened.get_tensor(name) for name in shapes}
    except FileNotFoundError:
        raise CheckpointError(f"The checkpoint's weights '{file}' are missing.") from None
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"Weights '{file}' are damaged or cut short: {one_line(error, 120)}") from error


def expected_shapes(config: CheckpointConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a checkpoint's tensors (frozen layers left out), without allocating the network."""
    model = config.model
    block = model.block
    hollow = model.model_copy(update={"block": block.model_copy(update={"layers": ()})}) if block else model
    with torch.device("meta"):
        net = LLM4SegNet(hollow)
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def render_card(config: CheckpointConfig) -> str:
    """Return the card as Markdown, for people who meet the folder outside the program."""
    card = config.card
    lines = [f"# {card.name}", "", "Not a medical device: for research, not for diagnosis or treatment.", ""]
    block = config.model.block
    layers = ", ".join(f"layer {ref.index} of {ref.repository}" for ref in block.layers) if block else ""
    rows = {
        "Task": card.task,
        "Modality": card.modality,
        "Classes": ", ".join(f"{spec.value} {spec.name}" for spec in config.model.classes),
        "Backbone": f"{config.model.backbone.kind} {config.model.backbone.widths}",
        "Frozen language-model layer": layers or "none",
        "Training data": card.training_data,
        "Licence": card.licence,
        "Restrictions": card.restrictions,
        "Cite": card.cite,
    }
    lines += [f"- {key}: {text}" for key, text in rows.items() if text]
    for title, values in (("Measured", card.scores), ("Training", card.training)):
        if values:
            lines += ["", f"## {title}", "", *(f"- {key}: {value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class StarterEntry:
    """A checkpoint found by name, without its weights."""

    name: str
    path: Path
    card: Card


def starters() -> list[StarterEntry]:
    """Return the shipped checkpoints and those in the user's cache, shipped ones first; damaged ones are left out."""
    found: dict[str, StarterEntry] = {}
    for root in (asset("checkpoints"), cache_folder() / "checkpoints"):
        for file in sorted(root.glob(f"*/{CONFIG}")) if root.is_dir() else ():
            try:
                card = _parse(_read_config(file.parent), file.parent).card
            except CheckpointError:
                continue
            found.setdefault(file.parent.name, StarterEntry(file.parent.name, file.parent, card))
    return list(found.values())


def resolve(name: str | Path) -> Path:
    """Return the path of a checkpoint given as a starter's name, a path or ``hf:ORG/REPO``.

    Raises
    ------
    CheckpointError
        One line naming the starters there are.
    """
    text = str(name)
    if text.startswith("hf:"):
        return _from_hub(text[3:])
    entries = starters()
    for entry in entries:
        if entry.name == text:
            return entry.path
    if Path(text).exists():
        return Path(text)
    names = ", ".join(entry.name for entry in entries) or "none"
    raise CheckpointError(f"There is no model '{text}'. Give a folder, a file, hf:ORG/REPO or one of: {names}.")


def _from_hub(repository: str) -> Path:
    """Fetch a checkpoint folder from the Hugging Face Hub: safetensors, JSON and Markdown, nothing else."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        patterns = ["*.safetensors", "*.json", "*.md", "*LICENSE*"]
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(f"'hf:{repository}' could not be fetched: {one_line(error, 160)}") from error
