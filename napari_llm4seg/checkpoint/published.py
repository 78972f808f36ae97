"""Checkpoints out of the published code's state dicts."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_llm4seg.checkpoint.store import LAYERS, Checkpoint, check_values
from napari_llm4seg.config import Card, LayerRef
from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.files import sha256
from napari_llm4seg.models.packs import write_pack
from napari_llm4seg.models.paper import (
    LAYER_INDEX,
    Published,
    language_model_config,
    paper_config,
    read_state_dict,
    translate,
)


def import_state_dict(
    file: str | Path,
    out: str | Path,
    name: str | None = None,
    llm: str | Mapping[str, Any] = "auto",
    index: int = LAYER_INDEX,
) -> Checkpoint:
    """Turn a published LLM4Seg state dict (.pth) into a checkpoint folder that computes the same.

    The frozen layer, which the file holds too, becomes a pack in the folder's ``layers/``.

    Parameters
    ----------
    file : path
        State dict of CMUNeXt with or without LLM4Seg. Read with ``weights_only``: nothing in it is run.
    out : path
        Checkpoint folder to write.
    name : str, optional
        The checkpoint's name; default: the file's.
    llm : "auto", "llama", "deepseek" or the config of another language model
    index : int
        0-based index of the layer in its language model, for the record.

    Returns
    -------
    Checkpoint
        As read back from ``out``.

    Raises
    ------
    CheckpointError
        One line where the file is damaged, foreign or hostile.
    InputError
        Where ``out`` holds something else.
    """
    file, out = Path(file), Path(out)
    if out.suffix == ".safetensors":
        raise CheckpointError(f"'{out}' is a file's name; an imported model needs a folder, because of its layer.")
    published = translate(read_state_dict(file), file)
    check_values({**published.tensors, **published.layer}, str(file))
    digest = sha256(file)
    card = Card(
        name=name or file.stem,
        task="lesion or organ against everything else",
        licence=f"that of {file.name}",
        restrictions="Imported; what it was trained on and how well it does is not recorded in the file.",
        cite="arXiv 2506.18034",
        training={"imported_from": file.name, "sha256": digest},
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=out.parent) as scratch:
        refs: tuple[LayerRef, ...] = ()
        if published.hidden is not None:
            refs = (_write_layer(published, published.hidden, llm, index, file, digest, Path(scratch)),)
        config = paper_config(None, refs, hidden=published.hidden, backbone=published.backbone, card=card)
        fresh = Checkpoint(config, published.tensors, Path(scratch))
        try:
            fresh.build()  # before anything is replaced: names and shapes fit
        except CheckpointError as error:
            raise CheckpointError(f"'{file}' is no whole published model: {error}") from error
        fresh.save(out)
    return Checkpoint.load(out)


def _write_layer(
    published: Published,
    hidden: int,
    llm: str | Mapping[str, Any],
    index: int,
    file: Path,
    digest: str,
    scratch: Path,
) -> LayerRef:
    """Write the file's frozen layer as a pack and return what refers to it."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip(".-")[:80] or "model"
    try:
        pack = write_pack(
            scratch / LAYERS / f"{stem}-{index}",
            published.layer,
            language_model_config(published.layer, hidden, llm),
            repository=f"imported/{stem}",
            revision=digest[:12],
            index=index,
            licence="that of the language model it was taken from",
            note=f"Taken out of the state dict {file.name}.",
        )
    except CheckpointError as error:
        raise CheckpointError(f"'{file}': {error}") from error
    return pack.ref
