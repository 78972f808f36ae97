"""From a recipe to a checkpoint: data, split, network, stages."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import ClassSpec, FitConfig, PreprocessConfig
from napari_llm4seg.engine.data import Case, load_cases, load_samples
from napari_llm4seg.engine.fit import Event, FitResult, fit, make_fabric
from napari_llm4seg.engine.lock import only_run
from napari_llm4seg.engine.recipe import Recipe
from napari_llm4seg.engine.resume import Data
from napari_llm4seg.engine.source import ImageTraining, ImageValidation
from napari_llm4seg.engine.split import Split, split_cases
from napari_llm4seg.engine.volumes import VolumeTraining, VolumeValidation, load_volumes
from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.files import write_text
from napari_llm4seg.models.build import build_network


def train_recipe(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    cases: list[Case] | None = None,
    on_event: Callable[[int, int, Event], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> tuple[Checkpoint, Split, list[Case]]:
    """Train by a recipe; called again on the same ``out`` it goes on where it was stopped.

    Parameters
    ----------
    recipe : Recipe
    out : Path
        Gets ``split.json``, ``checkpoint/`` and a folder per stage with its log, state, best and last checkpoint.
    device, devices, num_nodes
        As in ``make_fabric``. Of several processes each calls this; the first alone writes and tells.
    cases : list of Case, optional
        The recipe's, where they have been found already.
    on_event : callable (stage, stages, Event)
    progress, cancel
        As elsewhere; reading the data can be cancelled too.

    Returns
    -------
    Checkpoint, Split, cases
        Under the protocol "locked" the test part has been read by nothing here; under "paper" it has chosen the epoch.
    """
    runs = recipe.runs()
    # first: an absent device must not wait for the data
    fabrics = [make_fabric(config, device, devices, num_nodes) for _, config in runs]
    first = fabrics[0].is_global_zero
    started = time.monotonic()
    with only_run(out) if first else nullcontext():
        reading = _cancellable(progress if first else None, cancel)
        cases = load_cases(recipe.data, reading) if cases is None else cases
        split = split_cases(cases, recipe.split)
        if first:
            _keep_split(out / "split.json", split)
        torch.manual_seed(recipe.fit.seed)
        net = build_network(recipe.model)
        history: list[dict[str, Any]] = []
        result: FitResult | None = None
        for stage, (preprocess, config) in enumerate(runs):
            if stage == 0 or preprocess != runs[stage - 1][0]:  # the same input needs no second reading
                parts = [[c for c in cases if c.name in set(names)] for names in (split.train, split.val)]
                make = _sources(parts, preprocess, recipe.model.classes, reading)
            data = make(config)
            result = fit(
                fabrics[stage],
                net,
                data,
                config,
                folder=out / f"stage{stage + 1}",
                threshold=recipe.predict.threshold,
                checkpoint=recipe.checkpoint_config().model_copy(update={"preprocess": preprocess}),
                on_event=_of_stage(on_event, stage, len(runs)),
                cancel=cancel,
            )
            net.load_state_dict(result.tensors, strict=False)
            history.append(_stage_facts(preprocess, config, result))
        assert result is not None  # a recipe always has a run
        facts = _training_facts(recipe.split.protocol, split, history, len(data[0]), time.monotonic() - started)
        card = recipe.card.model_copy(update={"training": facts | {"processes": fabrics[0].world_size}})
        config_out = recipe.checkpoint_config().model_copy(update={"card": card})
        checkpoint = Checkpoint(config_out, result.tensors, out / "checkpoint")
        if first:
            checkpoint.save(out / "checkpoint")
    return checkpoint, split, cases


def _cancellable(
    progress: Callable[[int, int, str], None] | None, cancel: Callable[[], bool] | None
) -> Callable[[int, int, str], None]:
    """Return a progress callback that asks ``cancel`` at every step."""

    def tell(done: int, total: int, message: str = "") -> None:
        if cancel is not None and cancel():
            raise Cancelled("Reading the data was stopped.")
        if progress is not None:
            progress(done, total, message)

    return tell


def _of_stage(
    on_event: Callable[[int, int, Event], None] | None, stage: int, stages: int
) -> Callable[[Event], None] | None:
    return None if on_event is None else lambda event: on_event(stage, stages, event)


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


def _stage_facts(preprocess: PreprocessConfig, config: FitConfig, result: FitResult) -> dict[str, Any]:
    return {
        "size": list(preprocess.patch or preprocess.size),
        "fit": config.model_dump(),
        "best_epoch": result.best_epoch,
        "val_iou": round(result.best_score, 4),
        "seconds": round(result.history[-1]["seconds"], 1),
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
