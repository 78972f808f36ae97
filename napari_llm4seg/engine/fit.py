"""The only training loop: from-scratch recipes and a person's fine-tuning both run it."""

from __future__ import annotations

import csv
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_llm4seg.config import FitConfig, PredictConfig
from napari_llm4seg.engine.augment import Augmenter
from napari_llm4seg.engine.data import IGNORE, Samples, batches
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.errors import Cancelled, CheckpointError, InputError
from napari_llm4seg.files import replacing
from napari_llm4seg.metrics import iou
from napari_llm4seg.models.llm4seg import FROZEN_PREFIX, LLM4SegNet


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
    """Return a Fabric for one device in the config's precision."""
    accelerator, _, index = device.partition(":")
    devices = [int(index)] if index else 1
    precision: Any = "bf16-mixed" if config.precision == "bf16" else "32-true"
    return Fabric(accelerator="gpu" if accelerator == "cuda" else accelerator, devices=devices, precision=precision)


def fit(
    fabric: Fabric,
    net: LLM4SegNet,
    data: tuple[Samples, Samples],
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
    data : (train, val) Samples
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
    InputError
        If the loss stops being a number.
    """
    train, val = data
    run = _Run(fabric, net, config, len(train), folder, _identity(net, config, train, val))
    objective = Objective(net.config.classes, net.config.head, config)
    augmenter = Augmenter(config.augment, (train.images.shape[-2], train.images.shape[-1]))
    started, first = time.monotonic(), run.epoch
    while run.epoch < config.epochs:
        losses = []
        augmenter.start_epoch(config.seed, run.epoch)
        torch.manual_seed(config.seed * 1_000_003 + run.epoch)
        for index in batches(train, config.batch, config.seed, run.epoch):
            if cancel is not None and cancel():
                raise Cancelled("Training was stopped; it goes on from the last finished epoch when started again.")
            images, labels = augmenter(train.images[index], train.labels[index])
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


def learning_rate(config: FitConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of optimiser step ``step`` (from 0): linear warm-up, then the schedule to the end."""
    total, warm = config.epochs * steps_per_epoch, config.warmup_epochs * steps_per_epoch
    if step < warm:
        return config.lr * (step + 1) / (warm + 1)
    done = min(1.0, (step - warm) / max(1.0, total - warm))
    shape = {"poly": (1 - done) ** 0.9, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "constant": 1.0}
    return float(config.lr * shape[config.schedule])


def warmed_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return the moving average's update for ``AveragedModel``; its decay grows from 1/10 to ``decay``.

    Without the warm-up the untrained weights weigh on the first ten epochs of the average (measured: validation IoU
    0.18 where the weights themselves had 0.51).
    """

    def update(averaged: Any, current: Any, n_averaged: Any) -> None:
        n = int(n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, n_averaged)

    return update


def validate(net: nn.Module, val: Samples, objective: Objective, batch: int, threshold: float) -> dict[str, float]:
    """Return loss and mean per-image IoU on the network's grid; both masks empty counts 1."""
    device = next(net.parameters()).device
    losses, scores = [], []
    net.eval()
    with torch.inference_mode():
        for index in torch.arange(len(val)).split(batch):
            logits = net(val.images[index].to(device, memory_format=torch.channels_last)).float().cpu()
            labels = val.labels[index]
            losses.append(float(objective(logits, labels)) * len(index))
            known = (labels != IGNORE)[:, None]
            found, truth = objective.predicted(logits, threshold) & known, objective.members(labels) & known
            pairs = zip(found.numpy(), truth.numpy(), strict=True)
            scores += [float(np.mean([iou(f, t) for f, t in zip(fs, ts, strict=True)])) for fs, ts in pairs]
    net.train()
    return {"val_loss": sum(losses) / len(val), "val_iou": float(np.mean(scores))}


def _identity(net: LLM4SegNet, config: FitConfig, train: Samples, val: Samples) -> str:
    """Digest of what must not change between a run and its resume."""
    sizes = f"{tuple(train.images.shape)} {tuple(val.images.shape)}"
    text = "|".join([net.config.model_dump_json(), config.model_dump_json(), sizes, *train.names, "//", *val.names])
    return hashlib.sha256(text.encode()).hexdigest()


class _Run:
    """Everything that changes while fitting, and how it is kept on disk."""

    def __init__(
        self, fabric: Fabric, net: LLM4SegNet, config: FitConfig, n_train: int, folder: Path, identity: str
    ) -> None:
        self.config, self.folder, self.identity, self.fabric = config, folder, identity, fabric
        folder.mkdir(parents=True, exist_ok=True)
        # torch's own annotation of .to leaves this argument out
        self.net = net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        weights = [p for p in net.parameters() if p.requires_grad]
        if not weights:
            raise InputError("Nothing is left to train: every part of the model is frozen.")
        # biases, normalisation gains and the gate are not shrunk, as is usual with AdamW
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        optimiser: torch.optim.Optimizer
        if config.optimiser == "sgd":
            optimiser = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
        else:
            optimiser = torch.optim.AdamW(groups, lr=config.lr)
        self.ema = None
        if config.ema is not None:
            self.ema = AveragedModel(net, multi_avg_fn=warmed_average(config.ema), use_buffers=True)
        self.wrapped, self.optimiser = fabric.setup(net, optimiser)
        self.steps_per_epoch = max(1, math.ceil(n_train / config.batch) - (n_train % config.batch == 1 < n_train))
        self.epoch = self.steps = self.best_epoch = 0
        self.best = -1.0
        self.best_tensors: Mapping[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self._resume()

    @property
    def fraction(self) -> float:
        return self.steps / (self.config.epochs * self.steps_per_epoch)

    def step(self, objective: Objective, images: Tensor, labels: Tensor) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.steps, self.steps_per_epoch)
        device = self.fabric.device
        images = images.to(device, memory_format=torch.channels_last)
        loss = objective(self.wrapped(images), labels.to(device))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"The loss became {value} in epoch {self.epoch + 1}; lower fit.lr or use fit.precision 32."
            )
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if self.config.clip is not None:
            self.fabric.clip_gradients(self.wrapped, self.optimiser, max_norm=self.config.clip)
        self.optimiser.step()
        self.steps += 1
        if self.ema is not None:
            self.ema.update_parameters(self.net)
        return value

    def judge(self, score: Callable[[LLM4SegNet], dict[str, float]]) -> dict[str, float]:
        """Validate the weights and their moving average; keep the better one's where it is the best so far.

        Both, because the average lags behind while weights move fast, and its batch statistics with it.
        """
        rows = [(score(self.net), self.net)]
        if self.ema is not None:
            average = self.ema.module
            assert isinstance(average, LLM4SegNet)
            rows.append((score(average), average))
        row, winner = max(rows, key=lambda pair: pair[0]["val_iou"])
        if row["val_iou"] > self.best:
            self.best, self.best_epoch = row["val_iou"], self.epoch
            self.best_tensors = {name: t.cpu().clone() for name, t in winner.trained_tensors().items()}
        both = {"val_iou_weights": rows[0][0]["val_iou"], "val_iou_average": rows[-1][0]["val_iou"]}
        return row | (both if self.ema is not None else {})

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Write log and state; a kill after this loses nothing of the epoch."""
        self.history.append(row)
        columns = list(dict.fromkeys(key for entry in self.history for key in entry))
        with replacing(self.folder / "log.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.history)
        state = {
            "identity": self.identity,
            "epoch": self.epoch,
            "steps": self.steps,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_tensors": dict(self.best_tensors),
            "history": self.history,
            "net": self.net.trained_tensors(),
            "ema": None if self.ema is None else self._ema_state(),
            "optimiser": self.optimiser.state_dict(),
        }
        with replacing(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)

    def _ema_state(self) -> dict[str, Tensor]:
        assert self.ema is not None
        skipped = "module." + FROZEN_PREFIX
        return {name: t for name, t in self.ema.state_dict().items() if not name.startswith(skipped)}

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            same = state["identity"] == self.identity
        except Exception as error:  # a damaged pickle raises almost anything
            raise CheckpointError(f"The run's state '{path}' is damaged; delete it to start again.") from error
        if not same:
            raise CheckpointError(
                f"'{self.folder}' holds a run with other data, model or settings; choose another output folder."
            )
        self.net.load_state_dict(state["net"], strict=False)
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"], strict=False)
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.steps = state["epoch"], state["steps"]
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.best_tensors, self.history = state["best_tensors"], state["history"]
