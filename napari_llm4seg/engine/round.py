"""Around one round of fine-tuning: the time it has, the earlier corrections it replays, what its card says of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import FinetuneConfig, FitConfig
from napari_llm4seg.engine.corrections import Corrections
from napari_llm4seg.engine.fit import FitResult
from napari_llm4seg.engine.gate import Gate
from napari_llm4seg.engine.held_back import Parts, hold_back


def timed(config: FinetuneConfig, taken: float) -> FitConfig:
    """Return the fit's settings with the seconds that are left to it, at least a third of all."""
    if config.seconds is None:
        return config.fit
    return config.fit.model_copy(update={"seconds": max(config.seconds - taken, config.seconds / 3)})


def replayed(
    replay: Corrections | None, slices: Corrections, locked: Collection[str], config: FinetuneConfig
) -> Corrections | None:
    """Return the earlier corrections that may train: none that is held back, and none that trains already."""
    if replay is None or not len(replay) or config.replay <= 0:
        return None
    split = hold_back(replay.items(), 0, gap=config.gap, locked=locked)
    mine = {each.digest for each in slices.slices}
    kept = replay[[i for i in split.train if replay.slices[i].digest not in mine]]
    return kept if len(kept) else None


def training_facts(
    parent: Checkpoint | None,
    config: FinetuneConfig,
    slices: Corrections,
    split: Parts,
    replay: Corrections | None,
    result: FitResult,
) -> dict[str, Any]:
    """Return what the card of a fine-tuned checkpoint says of its training, plain enough for JSON.

    Parameters
    ----------
    parent : Checkpoint or None
        What was trained further; None where it was untrained.
    config : FinetuneConfig
    slices : Corrections
        All of this round, by whose numbers ``split`` goes.
    split : Parts
    replay : Corrections or None
        Earlier ones that trained too.
    result : FitResult
    """

    def named(numbers: Sequence[int]) -> list[dict[str, str]]:
        return [{"name": slices.slices[i].name, "sha256": slices.slices[i].digest} for i in numbers]

    return {
        "parent": None if parent is None else {"name": parent.name, "sha256": parent.digest},
        "parts": config.parts,
        "samples": named(split.train),
        "held_back": named(split.held_back),
        "left_out": named(split.left_out),
        "replayed": 0 if replay is None else len(replay),
        "fit": config.model_dump(mode="json"),
        "epochs": int(result.history[-1]["epoch"]),
        "best_epoch": result.best_epoch,
        "seconds": round(result.history[-1]["seconds"], 1),
        "parent_training": {} if parent is None else parent.config.card.training,
    }


def with_scores(checkpoint: Checkpoint, gate: Gate) -> Checkpoint:
    """Return the checkpoint with what was measured on held-back slices in its card."""
    if not gate.n:
        return checkpoint
    found = gate.as_dict()
    scores = {key: found[key] for key in ("n", "dice_before", "dice_after", "interval", "hd95_after", "hd95_unit")}
    scores = {
        key: round(value, 4) if isinstance(value, float) else value
        for key, value in scores.items()
        if value is not None
    }
    scores["how"] = f"Dice {found['dice_is']}, that were held back from training, at their own resolution"
    card = checkpoint.config.card.model_copy(update={"scores": scores})
    return replace(checkpoint, config=checkpoint.config.model_copy(update={"card": card}))


def learnt_from(checkpoint: Checkpoint) -> set[str]:
    """Return the digests of all corrected slices that a checkpoint and those before it were trained on."""
    found: set[str] = set()
    training = checkpoint.config.card.training
    while training:
        found |= {each["sha256"] for each in training.get("samples", ()) if isinstance(each, dict)}
        training = training.get("parent_training") or {}
    return found
