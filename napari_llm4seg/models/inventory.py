"""Which frozen layers are at hand: looks at their ``pack.json`` alone, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from napari_llm4seg.assets import asset
from napari_llm4seg.config import LayerRef
from napari_llm4seg.errors import CheckpointError, LLM4SegError
from napari_llm4seg.files import cache_folder, read_json, writing
from napari_llm4seg.models.registry import HUB, LANGUAGE_MODELS, RANDOM, Source, check_layer, parse_source

WEIGHTS, CONFIG, PACK = "layer.safetensors", "config.json", "pack.json"
# The language model whose layer is shipped.
SHIPPED = "smollm2-135m"


@dataclass(frozen=True)
class LayerAtHand:
    """A pack on this machine, as its ``pack.json`` says; its digest is checked when it is read.

    ``asked`` is the branch or tag by which it was fetched, "" where it was none.
    """

    ref: LayerRef
    folder: Path
    licence: str
    note: str
    asked: str


def pack_folders(near: Path | None = None) -> list[Path]:
    """Return the folders of packs at hand: beside a checkpoint, shipped, and in the user's cache, in that order."""
    roots = [asset("layers"), layer_cache()]
    if near is not None:
        roots.insert(0, near / "layers")
    return [path.parent for root in roots if root.is_dir() for path in sorted(root.glob(f"*/{PACK}"))]


def layer_cache() -> Path:
    """Return the folder that keeps fetched layers."""
    return cache_folder() / "layers"


def layers_at_hand(near: Path | None = None) -> list[LayerAtHand]:
    """Return the packs of ``pack_folders``; what does not read as one is left out."""
    found = []
    for folder in pack_folders(near):
        try:
            about = read_json(folder / PACK, "frozen layer pack")
            ref = LayerRef.model_validate({key: about.get(key) for key in LayerRef.model_fields})
        except (LLM4SegError, ValidationError):
            continue
        licence, note, asked = (str(about.get(key, "")) for key in ("licence", "note", "asked"))
        found.append(LayerAtHand(ref, folder, licence, note, asked))
    return found


def fetch_command(source: str, index: int, revision: str | None = None) -> str:
    """Return the command that fetches a layer."""
    name = f'"{source}"' if " " in source else source
    return f"llm4seg models fetch {name} --layer {index}" + (f" --revision {revision}" if revision else "")


def command_for(ref: LayerRef) -> str | None:
    """Return the command that fetches what ``ref`` names, None where it is from no public place."""
    if ref.repository.startswith(("imported/", "local/", "random/")) or ref.repository.count("/") != 1:
        return None
    return fetch_command(HUB + ref.repository, ref.index, ref.revision)


def find_layer(source: Source, index: int) -> LayerAtHand | None:
    """Return the pack of a source's layer that is at hand; a shipped one comes before fetched ones.

    Raises
    ------
    CheckpointError
        Where several revisions are at hand and ``source`` does not say which.
    """
    found: dict[LayerRef, LayerAtHand] = {}
    for layer in layers_at_hand():
        same = layer.ref.repository == source.repository and layer.ref.index == index
        if same and source.revision in (None, layer.ref.revision, layer.asked):
            found.setdefault(layer.ref, layer)
    shipped = [layer for layer in found.values() if layer.folder.is_relative_to(asset("layers"))]
    if len(found) > 1 and not shipped:
        revisions = ", ".join(ref.revision[:40] for ref in found)
        raise CheckpointError(
            f"Layer {index} of {source.repository} is at hand at several revisions ({revisions[:200]}); say which, "
            f"e.g. {HUB}{source.repository}@{next(iter(found)).revision[:40]}, or delete the others from "
            f"'{layer_cache()}'."
        )
    return next(iter(shipped or found.values()), None)


def resolve_layer(source: str, index: int | None = None) -> LayerRef:
    """Return what refers to a language model's layer at hand, for recipes and configs.

    Parameters
    ----------
    source : str
        As ``parse_source`` takes it: "qwen2.5-coder-1.5b", "hf:ORG/REPO@REVISION", "random:smollm2-135m", a path...
    index : int, optional
        0-based layer index, or the seed for "random:". Default: the registry's for that model.

    Raises
    ------
    CheckpointError
        One line with the command that fetches the layer, where it is not at hand.
    """
    where = parse_source(source)
    if index is None:
        index = 0 if where.kind == "random" else where.default_layer
    if index is None:
        raise CheckpointError(f"Which layer of '{source[:120]}'? Give its 0-based index.")
    if where.kind == "random":
        from napari_llm4seg.models.random_layers import random_pack

        return random_pack(source.removeprefix(RANDOM), index)
    check_index(where, index)
    found = find_layer(where, index)
    if found is None:
        raise CheckpointError(
            f"Layer {index} of '{source[:120]}' is not at hand. Fetch it: {fetch_command(source, index)}"
        )
    return found.ref


def layer_width(ref: LayerRef) -> int | None:
    """Return the width of the tokens that a layer at hand takes, None where that is not known."""
    folder = next((layer.folder for layer in layers_at_hand() if layer.ref == ref), None)
    width = read_json(folder / CONFIG, "language model config").get("hidden_size") if folder else None
    return width if isinstance(width, int) else None


def check_index(source: Source, index: int) -> None:
    """Raise CheckpointError where a model of the registry has no such layer."""
    if source.model is not None:
        check_layer(index, source.model.config, source.model.name)


def name_of(ref: LayerRef) -> str:
    """Return the registry's name of the language model that ``ref`` is a layer of, else its repository."""
    for model in LANGUAGE_MODELS.values():
        if model.repository == ref.repository:
            return model.name
    return ref.repository


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Let one process at a time make the pack ``name``: the ranks of a distributed run ask at the same moment."""
    from huggingface_hub.utils import WeakFileLock

    locks = cache_folder() / "locks"
    with writing(locks):
        locks.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(locks / f"{name}.lock"):
        yield
