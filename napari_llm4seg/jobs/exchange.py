"""Between a project's files, JSON and a training: what the training child reads, and what it tells of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_llm4seg.checkpoint import Checkpoint
    from napari_llm4seg.config import FinetuneConfig
    from napari_llm4seg.engine.corrections import Corrections
    from napari_llm4seg.engine.finetune import Finetuned
    from napari_llm4seg.engine.gate import Gate

Message = dict[str, Any]


def settings(config: Message | None) -> FinetuneConfig | None:
    """Return a ``FinetuneConfig`` from JSON, None where there is none.

    Raises
    ------
    ConfigError
        If a field is wrong.
    """
    from pydantic import ValidationError

    from napari_llm4seg.config import FinetuneConfig, explain

    try:
        return None if config is None else FinetuneConfig.model_validate(config)
    except ValidationError as error:
        raise explain(error, "The training's settings") from error


def keep(done: Finetuned, slices: Corrections, out: Path, base: Checkpoint) -> Message:
    """Write the new checkpoint, and beside it what old and new say of the held-back slices; return the facts.

    The checkpoint is a folder or not there at all. ``base`` is what was trained from, known or untrained.
    """
    import numpy as np

    from napari_llm4seg.engine.crosscheck import outlook
    from napari_llm4seg.files import replacing

    arrays = {f"{side}{i}": each for side in ("before", "after") for i, each in enumerate(getattr(done, side))}
    done.checkpoint.save(out)
    with replacing(out / "held-back.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return {
        "checkpoint": str(out),
        "messages": list(slices.messages),
        "digest": done.checkpoint.digest,
        "gate": done.gate.as_dict(),
        "train": [list(slices.slices[i].key) for i in done.split.train],
        "held_back": [list(slices.slices[i].key) for i in done.split.held_back],
        "left_out": [list(slices.slices[i].key) for i in done.split.left_out],
        "training": done.checkpoint.config.card.training,
        "history": done.history,
        "seconds": round(done.seconds, 2),
        "cross_check": asdict(outlook(base, slices)),
    }


def judged(gate: Gate, new: bool) -> Message:
    """Return what a cross-check says, fit for JSON: ``Gate.as_dict``.

    Of a ``new`` model there is nothing before: then "new" is true, "dice_interval" are bounds of the Dice itself, and
    "hd95_after" is over all slices and classes that have a distance.
    """
    from napari_llm4seg.engine import scores

    facts = gate.as_dict() | {"new": new}
    if new:
        found, bounds = scores.distances(gate.after, gate.after), scores.own_interval(gate.after)
        facts |= {"dice_interval": list(bounds) if bounds else None, "hd95_after": found[1] if found else None}
    return facts


def keys(slices: Corrections) -> list[dict[str, Any]]:
    """Return scan, axis, index and image digest of each slice."""
    return [
        {"scan": each.scan, "axis": each.axis, "index": each.index, "digest": each.digest} for each in slices.slices
    ]


def corrections(project: str, scans: Sequence[str] | None) -> tuple[Corrections, Corrections | None, frozenset[str]]:
    """Return a project's corrections of ``scans`` (all if None), those of its other scans, and what is locked."""
    from napari_llm4seg.corrections import SampleStore
    from napari_llm4seg.engine.corrections import from_store

    with SampleStore.open(project, read_only=True) as store:
        slices = from_store(store, scans)
        rest = [scan.id for scan in store.scans() if scans is not None and scan.id not in scans]
        return slices, from_store(store, rest) if rest else None, store.held_back


def of_keys(slices: Corrections, wanted: Sequence[Sequence[Any]]) -> Corrections:
    """Return the slices with these keys (scan, axis, index)."""
    among = {tuple(key) for key in wanted}
    return slices[[i for i, each in enumerate(slices.slices) if tuple(each.key) in among]]
