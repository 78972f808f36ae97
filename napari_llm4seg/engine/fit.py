"""The only training loop: from-scratch recipes and a person's fine-tuning both run it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from napari_llm4seg.config import FitConfig, PredictConfig
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.engine.source import TrainingSource, ValidationSource, batches
from napari_llm4seg.engine.state import RunState
from napari_llm4seg.errors import Cancelled, DeviceError, one_line
from napari_llm4seg.models.llm4seg import LLM4SegNet


@dataclass(frozen=True)
class Event:
    """What a run tells its owner: after every optimiser step and after every validation."""

    kind: Literal["step", "validated"]
    epoch: int
    epochs: int
    loss: float
    fraction: float
    score: float | None = None
    best: float | None = None
    seconds_left: float | None = None


@dataclass
class FitResult:
    """Best weights by validation (those trained or their moving average) and the run's history."""

    tensors: dict[str, Tensor]
    best_epoch: int
    best_score: float
    history: list[dict[str, float]] = field(default_factory=list)


def make_fabric(config: FitConfig, device: str = "auto") -> Fabric:
    """Return a Fabric for one device in the config's precision.

    Parameters
    ----------
    config : FitConfig
    device : "auto", "cpu", "cuda", "cuda:1" or "mps"

    Raises
    ------
    DeviceError
        If the name is unknown or there is no such device.
    """
    named = re.fullmatch(r"(auto|cpu|cuda|mps)|(cuda):(\d{1,3})", device.strip().lower())
    if named is None:
        raise DeviceError(f"Device '{device}' is unknown; use auto, cpu, cuda, cuda:N or mps.")
    accelerator = named[1] or named[2]
    devices = 1 if named[3] is None else [int(named[3])]
    precision: Any = "bf16-mixed" if config.precision == "bf16" else "32-true"
    try:
        return Fabric(accelerator=accelerator, devices=devices, precision=precision)
    except Exception as error:  # Fabric has an error of its own kind for every backend
        reason = one_line(error, 120).rstrip(".!")
        raise DeviceError(f"Device '{device}' cannot be used here: {reason}. Choose cpu or auto.") from error


def fit(
    fabric: Fabric,
    net: LLM4SegNet,
    data: tuple[TrainingSource, ValidationSource],
    config: FitConfig,
    *,
    folder: Path,
    threshold: float = PredictConfig().threshold,
    on_event: Callable[[Event], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> FitResult:
    """Train ``net`` and return its best weights by validation.

    Parameters
    ----------
    fabric : lightning_fabric.Fabric
    net : LLM4SegNet
        Changed in place; frozen layers keep their weights.
    data : (TrainingSource, ValidationSource)
        Validation decides which epoch is best; anything reported as a test must be held apart from both.
    config : FitConfig
    folder : Path
        Gets ``log.csv`` and ``state.pt``. A run that was stopped goes on from the last finished epoch when called
        again with the same data, model and config.
    threshold : float in (0, 1)
        For the validation IoU of sigmoid heads.
    on_event : callable
        Called after each step and validation.
    cancel : callable returning bool
        Asked before each step.

    Returns
    -------
    FitResult

    Raises
    ------
    Cancelled
        When ``cancel`` said so; the state on disk allows to go on.
    CheckpointError
        If ``folder`` holds a damaged run, or one with other data, model or settings.
    InputError
        If the loss stops being a number, or nothing is left to train.
    """
    train, val = data
    run = RunState(fabric, net, config, data, folder)
    objective = Objective(net.config.classes, net.config.head, config)
    started, first = time.monotonic(), run.epoch
    while run.epoch < config.epochs:
        losses = []
        train.start_epoch(config.seed, run.epoch)
        torch.manual_seed(config.seed * 1_000_003 + run.epoch)
        for index in batches(len(train), config.batch, config.seed, run.epoch):
            if cancel is not None and cancel():
                raise Cancelled("Training was stopped; it goes on from the last finished epoch when started again.")
            images, labels = train.batch(index)
            losses.append(run.step(objective, images, labels))
            if on_event:
                on_event(Event("step", run.epoch, config.epochs, losses[-1], run.fraction))
        run.epoch += 1
        row = {"epoch": run.epoch, "loss": float(np.mean(losses)), "lr": run.optimiser.param_groups[0]["lr"]}
        due = run.epoch % config.validate_every == 0 or run.epoch == config.epochs
        if due:
            row |= run.judge(lambda candidate: validate(candidate, val, objective, config.batch, threshold))
        row["seconds"] = time.monotonic() - started
        run.finish_epoch(row)
        if due and on_event:
            left = (config.epochs - run.epoch) * row["seconds"] / (run.epoch - first)
            on_event(
                Event("validated", run.epoch, config.epochs, row["loss"], run.fraction, row["val_iou"], run.best, left)
            )
    return FitResult(dict(run.best_tensors), run.best_epoch, run.best, run.history)


def validate(
    net: nn.Module, val: ValidationSource, objective: Objective, batch: int, threshold: float
) -> dict[str, float]:
    """Return the mean of every score over the items, NaN left out."""
    net.eval()
    with torch.inference_mode():
        chunks = [val.score(net, objective, index, threshold) for index in torch.arange(len(val.names)).split(batch)]
    net.train()
    return {key: float(torch.cat([chunk[key] for chunk in chunks]).nanmean()) for key in chunks[0]}
