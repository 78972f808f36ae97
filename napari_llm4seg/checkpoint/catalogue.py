"""Which checkpoints are at hand, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_llm4seg.assets import asset
from napari_llm4seg.checkpoint.card import CONFIG, read_config
from napari_llm4seg.config import Card, CheckpointConfig
from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.files import cache_folder


@dataclass(frozen=True)
class StarterEntry:
    """A checkpoint found by name, without its weights."""

    name: str
    path: Path
    config: CheckpointConfig

    @property
    def card(self) -> Card:
        return self.config.card


def starters() -> list[StarterEntry]:
    """Return the shipped checkpoints and those in the user's cache, shipped ones first; damaged ones are left out."""
    found: dict[str, StarterEntry] = {}
    for root in (asset("checkpoints"), cache_folder() / "checkpoints"):
        for file in sorted(root.glob(f"*/{CONFIG}")) if root.is_dir() else ():
            try:
                config = read_config(file.parent)
            except CheckpointError:
                continue
            found.setdefault(file.parent.name, StarterEntry(file.parent.name, file.parent, config))
    return list(found.values())


def resolve(name: str | Path) -> Path:
    """Return the path of a checkpoint given as a starter's name, a path or ``hf:ORG/REPO[@REVISION]``.

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
    try:
        if text and Path(text).exists():
            return Path(text)
    except OSError:
        pass  # too long for a path, so none
    names = ", ".join(entry.name for entry in entries) or "none"
    raise CheckpointError(f"There is no model {text[:200]!r}. Give a folder, a file, hf:ORG/REPO or one of: {names}.")


def _from_hub(name: str) -> Path:
    """Fetch a checkpoint folder ORG/REPO[@REVISION] from the Hugging Face Hub: safetensors, JSON and Markdown."""
    from huggingface_hub import snapshot_download

    from napari_llm4seg.models.hub import hub_errors

    repository, _, revision = name.partition("@")
    # nothing else is asked for: no pickle, no code
    patterns = ["*.safetensors", "*.json", "*.md", "*LICENSE*"]
    with hub_errors(f"hf:{name}", repository):
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))
