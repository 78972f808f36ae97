"""From a recipe to a checkpoint: data, split, network, stages."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import CheckpointConfig, ClassSpec, FitConfig, PreprocessConfig
from napari_llm4seg.engine.data import Case, load_cases, load_samples
from napari_llm4seg.engine.fit import Event, FitResult, fit, make_fabric
from napari_llm4seg.engine.recipe import Recipe
from napari_llm4seg.engine.resume import Data
from napari_llm4seg.engine.source import ImageTraining, ImageValidation
from napari_llm4seg.engine.split import Split, split_cases
from napari_llm4seg.engine.volumes import VolumeTraining, VolumeValidation, load_volumes
from napari_llm4seg.errors import InputError
from napari_llm4seg.files import write_text
from napari_llm4seg.models.build import build_network


def train_recipe(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    on_event: Callable[[int, int, Event], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> tuple[Checkpoint, Split, list[Case]]:
    """Train by a recipe; called again on the same ``out`` it goes on where it was stopped.

    Parameters
    ----------
    recipe : Recipe
    out : Path
        Gets ``split.json``, a folder per stage and ``checkpoint/``.
    device : "auto", "cpu", "cuda", "cuda:1" or "mps"
    devices, num_nodes : int
        Processes on this machine, and machines, which train together; see ``make_fabric``. All of them call this
        alike, the first one alone writes.
    on_event : callable (stage, stages, Event)
    progress, cancel
        As elsewhere.

    Returns
    -------
    Checkpoint, Split, cases
        Under the protocol "locked" the test part has been read by nothing here; under "paper" it has chosen the epoch.
    """
    runs = recipe.runs()
    fabrics = [
        make_fabric(config, device, devices, num_nodes) for _, config in runs
    ]  # first: an absent device must not wait for the data
    cases = load_cases(recipe.data, progress)
    split = split_cases(cases, recipe.split)
    first = fabrics[0].is_global_zero
    if first:
        out.mkdir(parents=True, exist_ok=True)
        _keep_split(out / "split.json", split)
    torch.manual_seed(recipe.fit.seed)
    net = build_network(recipe.model)
    history: list[dict[str, Any]] = []
    started = time.monotonic()
    result: FitResult | None = None
    for stage, (preprocess, config) in enumerate(runs):
        if stage == 0 or preprocess != runs[stage - 1][0]:  # the same input needs no second reading
            parts = [[c for c in cases if c.name in set(names)] for names in (split.train, split.val)]
            make = _sources(parts, preprocess, recipe.model.classes, progress)
        data = make(config)
        result = fit(
            fabrics[stage],
            net,
            data,
            config,
            folder=out / f"stage{stage + 1}",
            threshold=recipe.predict.threshold,
            checkpoint=_of_stage(recipe, preprocess),
            on_event=(lambda event, s=stage: on_event(s, len(runs), event)) if on_event else None,  # type: ignore[misc]
            cancel=cancel,
        )
        net.load_state_dict(result.tensors, strict=False)
        history.append(_stage_facts(preprocess, config, result))
    assert result is not None  # a recipe always has a run
    facts = _training_facts(recipe.split.protocol, split, history, len(data[0]), time.monotonic() - started)
    card = recipe.card.model_copy(update={"training": facts})
    config_out = recipe.checkpoint_config().model_copy(update={"card": card})
    checkpoint = Checkpoint(config_out, result.tensors, out / "checkpoint")
    if first:
        checkpoint.save(out / "checkpoint")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return checkpoint, split, cases


def _of_stage(recipe: Recipe, preprocess: PreprocessConfig) -> CheckpointConfig:
    """Return the config of the checkpoints that a stage writes while it runs."""
    return recipe.checkpoint_config().model_copy(update={"preprocess": preprocess})


def _sources(
    parts: list[list[Case]],
    preprocess: PreprocessConfig,
    classes: Sequence[ClassSpec],
    progress: Callable[[int, int, str], None] | None,
) -> Callable[[FitConfig], Data]:
    """Read the training and validation cases; return what makes a stage's sources of them."""
    patch = preprocess.patch
    if patch is None:
        train, val = (load_samples(part, preprocess, classes, progress) for part in parts)
        return lambda config: (ImageTraining(train, config.augment), ImageValidation(val))
    seen, unseen = (load_volumes(part, preprocess, classes, progress) for part in parts)
    return lambda config: (
        VolumeTraining(seen, patch, config.augment, config.patches_per_volume),
        VolumeValidation(unseen, patch, classes),
    )


def sum_seconds(result: FitResult) -> float:
    """Return the wall time of all epochs; the clock restarts with every resume."""
    total, previous = 0.0, 0.0
    for row in result.history:
        total += row["seconds"] - (previous if row["seconds"] >= previous else 0.0)
        previous = row["seconds"]
    return total


def _stage_facts(preprocess: PreprocessConfig, config: FitConfig, result: FitResult) -> dict[str, Any]:
    return {
        "size": list(preprocess.patch or preprocess.size),
        "fit": config.model_dump(),
        "best_epoch": result.best_epoch,
        "val_iou": round(result.best_score, 4),
        "seconds": round(sum_seconds(result), 1),
    }


def _training_facts(
    protocol: str, split: Split, stages: list[dict[str, Any]], n_train: int, seconds: float
) -> dict[str, Any]:
    return {
        "protocol": protocol,
        "cases": {part: len(names) for part, names in asdict(split).items()},
        "stages": stages,
        "seconds_this_session": round(seconds, 1),
        "train_samples": n_train,
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
        "threads": torch.get_num_threads(),
    }


def _keep_split(path: Path, split: Split) -> None:
    """Write the split, or refuse to go on with another one."""
    text = json.dumps(asdict(split), indent=1) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(f"'{path}' holds another split of the data; choose another output folder.")
    write_text(path, text)
