"""Layers into packs of the user's cache: from a file or folder, from the Hub, or made at random."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from napari_llm4seg.config import LayerRef
from napari_llm4seg.errors import CheckpointError, ConfigError, LLM4SegError
from napari_llm4seg.files import read_json
from napari_llm4seg.models import remote
from napari_llm4seg.models.hub import OutOfReach, Repository, open_repository
from napari_llm4seg.models.inventory import (
    CONFIG,
    LayerAtHand,
    check_index,
    find_layer,
    layer_cache,
    layers_at_hand,
    one_at_a_time,
)
from napari_llm4seg.models.local import config_at_path, hub_snapshot, layer_at_path
from napari_llm4seg.models.packs import tensors_digest, write_pack
from napari_llm4seg.models.partial import Meter
from napari_llm4seg.models.random_layers import random_pack
from napari_llm4seg.models.registry import LANGUAGE_MODELS, LanguageModel, Source, parse_source, slug
from napari_llm4seg.models.remote import LICENCES, FetchedLayer
from napari_llm4seg.models.spec import LayerSpec

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Fetched:
    """A layer's pack in its folder; ``new`` where it was not at hand before."""

    ref: LayerRef
    folder: Path
    new: bool


def fetch(
    text: str,
    indices: Sequence[int] | None = None,
    *,
    revision: str | None = None,
    llm: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> list[Fetched]:
    """Bring layers of a language model into the user's cache, each as a pack that ``find_pack`` finds.

    What is at hand is not fetched again, unless ``revision`` names another one.

    Parameters
    ----------
    text : str
        As ``parse_source`` takes it.
    indices : sequence of int, optional
        0-based layers, for "random:" the seeds; default: the registry's for that model.
    revision : str, optional
        Branch, tag or commit on the Hub.
    llm : str, optional
        For a path: the registry's name of the model it holds, which its pack then is of.
    sha256 : str, optional
        The digest that the one layer's pack must have; another one is refused.
    progress : callable(bytes done, bytes in all, message), optional
    cancel : callable, optional
        Returns whether to stop; what was fetched stays for the next time.

    Raises
    ------
    CheckpointError
        One line where the layers cannot be had.
    ConfigError
        Where the arguments do not go together.
    Cancelled
        Where ``cancel`` said so.
    """
    source = _with_revision(parse_source(text), revision)
    if indices is None:
        default = 0 if source.kind == "random" else source.default_layer
        if default is None:
            default = LANGUAGE_MODELS[llm].default_layer if llm in LANGUAGE_MODELS else None
        if default is None:
            raise ConfigError(f"Which layer of '{text[:120]}'? Give --layer with 0-based numbers, e.g. --layer 12,13.")
        indices = (default,)
    if sha256 is not None and len(indices) != 1:
        raise ConfigError(f"A sha256 is of one layer; {len(indices)} were asked for.")
    if llm is not None and source.kind != "local":
        raise ConfigError(f"--llm says what a file or folder holds; '{text[:120]}' says so itself.")
    if source.kind == "random":
        return [_random(source, index, sha256) for index in indices]
    for index in indices:
        check_index(source, index)
    if source.kind == "local":
        return _from_path(source, indices, llm, sha256)
    return _from_hub(source, indices, sha256, progress, cancel)


def _with_revision(source: Source, revision: str | None) -> Source:
    if revision is None:
        return source
    if source.kind != "hub":
        raise ConfigError(f"--revision is for the Hub; '{source.text[:120]}' is not there.")
    if source.revision not in (None, revision):
        raise ConfigError(f"'{source.text[:120]}' and --revision {revision[:40]} name two revisions; give one.")
    return replace(source, revision=revision)


def _install(
    source: Source,
    layer: FetchedLayer,
    revision: str,
    licence: str,
    sha256: str | None,
    licence_file: Path | None = None,
) -> Fetched:
    """Write a layer's pack into the cache; refuse it where it is to have another digest."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in layer.tensors.values()):
        raise CheckpointError(f"Layer {layer.index} of '{source.text[:120]}' holds values that are no numbers.")
    folder = layer_cache() / f"{slug(source.repository.replace('/', '-'))}-{slug(revision)[:17]}-{layer.index}"
    pack = write_pack(
        folder,
        layer.tensors,
        layer.config,
        repository=source.repository,
        revision=revision,
        index=layer.index,
        licence=licence,
        note=layer.note,
        licence_file=licence_file,
        expected=sha256,
        asked=source.revision or "",
    )
    return Fetched(pack.ref, folder, True)


def _at_hand(found: LayerAtHand, sha256: str | None, source: Source) -> Fetched:
    if sha256 is not None and found.ref.sha256 != sha256:
        raise CheckpointError(
            f"Layer {found.ref.index} of '{source.text[:120]}' is at hand with sha256 {found.ref.sha256}; "
            f"{sha256[:64]} was asked for. Name its --revision."
        )
    return Fetched(found.ref, found.folder, False)


# --- from the Hub -----------------------------------------------------------------------------------------------------


def _from_hub(
    source: Source,
    indices: Sequence[int],
    sha256: str | None,
    progress: Progress | None,
    cancel: Callable[[], bool] | None,
) -> list[Fetched]:
    there = {index: find_layer(source, index) for index in indices}
    complete = [_at_hand(found, sha256, source) for found in there.values() if found is not None]
    # a branch or tag may have moved since
    if source.revision is None or re.fullmatch(r"[0-9a-f]{40}", source.revision):
        if len(complete) == len(there):
            return complete
        copied = _from_hub_cache(source, indices, sha256)
        if copied is not None:
            return copied
    try:
        return _missing_from_hub(source, indices, sha256, progress, cancel)
    except OutOfReach:
        copied = complete if len(complete) == len(there) else _from_hub_cache(source, indices, sha256)
        if copied is None:
            raise
        return copied


def _missing_from_hub(
    source: Source,
    indices: Sequence[int],
    sha256: str | None,
    progress: Progress | None,
    cancel: Callable[[], bool] | None,
) -> list[Fetched]:
    """Fetch what is not at hand at the commit that the source's revision now is."""
    repository = open_repository(source.repository, source.revision)
    with one_at_a_time(slug(source.repository.replace("/", "-"))):
        # another process may have been quicker
        pinned = replace(source, revision=repository.commit)
        there = {index: find_layer(pinned, index) for index in indices}
        missing = [index for index in indices if there[index] is None]
        fetched = _download(source, repository, missing, sha256, progress, cancel) if missing else {}
    result = []
    for index in indices:
        found = there[index]
        result.append(fetched[index] if found is None else _at_hand(found, sha256, source))
    return result


def _from_hub_cache(source: Source, indices: Sequence[int], sha256: str | None) -> list[Fetched] | None:
    """Take layers out of a whole model that the Hub's own tools fetched; None where there is none."""
    folder = None if source.file else hub_snapshot(source.repository, source.revision)
    if folder is None:
        return None
    try:
        layers = [FetchedLayer(index, *layer_at_path(folder, index)) for index in indices]
    except LLM4SegError:
        return None  # only a part of it was fetched
    licence = source.model.licence if source.model else ""
    text = next((folder / name for name in LICENCES if (folder / name).is_file()), None)
    return [_install(source, layer, folder.name, licence, sha256, text) for layer in layers]


def _download(
    source: Source,
    repository: Repository,
    indices: Sequence[int],
    sha256: str | None,
    progress: Progress | None,
    cancel: Callable[[], bool] | None,
) -> dict[int, Fetched]:
    layers = remote.fetch_layers(repository, indices, source.file, Meter(progress, cancel))
    licence = source.model.licence if source.model else repository.licence
    name = next((name for name in LICENCES if name in repository.files), None)
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "LICENSE" if name else None
        if text is not None and name is not None:
            text.write_bytes(remote.small_file(repository, name, limit=1 << 20))
        return {layer.index: _install(source, layer, repository.commit, licence, sha256, text) for layer in layers}


# --- from a path ------------------------------------------------------------------------------------------------------


def _from_path(source: Source, indices: Sequence[int], llm: str | None, sha256: str | None) -> list[Fetched]:
    model = _named(llm)
    licence = model.licence if model else ""
    fetched = []
    for index in indices:
        layer = FetchedLayer(index, *layer_at_path(Path(source.text), index))
        if model is not None:
            _check_same_shape(model, layer.config, source)
            source = replace(source, repository=model.repository)
        revision = f"file-{tensors_digest(layer.tensors)[:12]}"
        fetched.append(_install(source, layer, revision, licence, sha256))
    return fetched


def _named(llm: str | None) -> LanguageModel | None:
    if llm is not None and llm not in LANGUAGE_MODELS:
        raise ConfigError(f"There is no language model {llm[:80]!r}; --llm takes one of: {', '.join(LANGUAGE_MODELS)}.")
    return LANGUAGE_MODELS[llm] if llm else None


def _check_same_shape(model: LanguageModel, config: dict[str, Any], source: Source) -> None:
    ours, theirs = LayerSpec.from_config(model.config), LayerSpec.from_config(config)
    # the constant in the norms is written with more or fewer digits
    if replace(theirs, eps=ours.eps) != ours or abs(theirs.eps / ours.eps - 1) > 1e-3:
        raise CheckpointError(
            f"'{source.text[:120]}' is not {model.name}, whose layers are {ours.hidden} wide with {ours.heads} heads "
            f"and rotary base {ours.rope_theta:g}; it has {theirs.hidden}, {theirs.heads} and {theirs.rope_theta:g}."
        )


# --- at random --------------------------------------------------------------------------------------------------------


def _random(source: Source, seed: int, sha256: str | None) -> Fetched:
    assert source.model is not None
    before = find_layer(replace(source, revision=f"seed-{seed}"), seed)
    ref = random_pack(source.model.name, seed)
    found = find_layer(replace(source, revision=ref.revision), seed)
    assert found is not None
    return replace(_at_hand(found, sha256, source), new=before is None)


def config_of(source: Source) -> dict[str, Any]:
    """Return the config of a language model that is not of the registry.

    Raises
    ------
    CheckpointError
        One line where it cannot be read.
    """
    if source.kind == "local":
        return config_at_path(Path(source.text))
    at_hand = [layer for layer in layers_at_hand() if layer.ref.repository == source.repository]
    if at_hand:
        return read_json(at_hand[0].folder / CONFIG, "language model config")
    return remote.config_of(open_repository(source.repository, source.revision), source.file)
