"""The only training loop: from-scratch recipes and a person's fine-tuning both run it."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from napari_llm4seg.config import CheckpointConfig, FitConfig, PredictConfig
from napari_llm4seg.engine.distributed import Share, lost_process, synchronised
from napari_llm4seg.engine.lock import only_run
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.engine.prefetch import Prefetcher
from napari_llm4seg.engine.source import TrainingSource, ValidationSource, batches
from napari_llm4seg.engine.state import RunState
from napari_llm4seg.errors import Cancelled, ConfigError, DeviceError, one_line
from napari_llm4seg.models.llm4seg import Features, LLM4SegNet

_PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


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
    stopped_early: bool = False


@dataclass
class FitResult:
    """Best weights by validation (those trained or their moving average) and the run's history."""

    tensors: dict[str, Tensor]
    best_epoch: int
    best_score: float
    history: list[dict[str, float]] = field(default_factory=list)


def make_fabric(config: FitConfig, device: str = "auto", devices: int = 1, num_nodes: int = 1) -> Fabric:
    """Return a Fabric in the config's precision, started.

    Parameters
    ----------
    config : FitConfig
    device : "auto", "cpu", "cuda", "cuda:1" or "mps"
    devices : int
        Processes on this machine, each with a device of its own. They have to exist already where there are several
        over all machines: started by ``napari_llm4seg.cli.launch``, torchrun or srun.
    num_nodes : int
        Machines.

    Raises
    ------
    DeviceError
        If the name is unknown, there are no such devices, or they cannot compute in that precision.
    """
    named = re.fullmatch(r"(auto|cpu|cuda|mps)|(cuda):(\d{1,3})", device.strip().lower())
    if named is None:
        raise DeviceError(f"Device '{device}' is unknown; use auto, cpu, cuda, cuda:N or mps.")
    accelerator = named[1] or named[2]
    if config.precision == "fp16" and (accelerator in ("cpu", "mps") or not torch.cuda.is_available()):
        raise DeviceError("fit.precision fp16 needs CUDA; use bf16 or 32 here.")
    chosen = devices if named[3] is None else [int(named[3])]
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces precisions and every process
    strategy: Any = "auto"
    if devices * num_nodes > 1:
        from lightning_fabric.strategies import DDPStrategy

        strategy = DDPStrategy(broadcast_buffers=False)  # batch statistics are the same everywhere already
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=chosen,
            num_nodes=num_nodes,
            strategy=strategy,
            precision=_PRECISIONS[config.precision],
        )
        fabric.launch()
    except Exception as error:  # Fabric has an error of its own kind for every backend
        reason = one_line(error, 120).rstrip(".!")
        raise DeviceError(f"Device '{device}' cannot be used here: {reason}. Choose cpu or auto.") from error
    return fabric


def fit(
    fabric: Fabric,
    net: LLM4SegNet,
    data: tuple[TrainingSource, ValidationSource],
    config: FitConfig,
    *,
    folder: Path | None,
    threshold: float = PredictConfig().threshold,
    checkpoint: CheckpointConfig | None = None,
    on_event: Callable[[Event], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    stop: Callable[[], bool] | None = None,
) -> FitResult:
    """Train ``net`` and return its best weights by validation.

    Parameters
    ----------
    fabric : lightning_fabric.Fabric
        Of one process or several, which all call this alike; they share each batch and compute what one would.
    net : LLM4SegNet
        Changed in place; frozen layers keep their weights.
    data : (TrainingSource, ValidationSource)
        Validation decides which epoch is best; anything reported as a test must be held apart from both.
    config : FitConfig
    folder : Path or None
        Gets ``log.csv``, TensorBoard's files and ``state.pt``. A run that was stopped goes on from the last finished
        epoch when called again with the same data, model and config. None keeps nothing on disk.
    threshold : float in (0, 1)
        For the validation IoU of sigmoid heads.
    checkpoint : CheckpointConfig, optional
        With it, ``best/`` and ``last/`` in the folder hold loadable checkpoints after every epoch.
    on_event : callable
        Called after each step and validation, in the first process alone.
    cancel : callable returning bool
        Asked before each step and between validation's batches; any process's answer stops all.
    stop : callable returning bool
        Asked before each step: ends the training there as if it were finished. The unfinished epoch is validated, and
        the best weights so far are returned.

    Returns
    -------
    FitResult

    Raises
    ------
    Cancelled
        When ``cancel`` said so; the state on disk allows to go on.
    CheckpointError
        If ``folder`` holds a damaged run, or one with other data, model or settings.
    ConfigError
        If there are more processes than samples in a batch.
    DeviceError
        If another process of the training has ended.
    InputError
        If the loss stops being a number, nothing is left to train, or another run is at ``folder``.
    """
    share = Share(fabric.global_rank, fabric.world_size)
    if config.batch < share.processes:
        raise ConfigError(f"fit.batch {config.batch} cannot be shared by {share.processes} processes; raise it.")
    with ExitStack() as stack:
        if share.rank == 0 and folder is not None:
            stack.enter_context(only_run(folder))
        stack.enter_context(lost_process(share.processes))
        stack.enter_context(synchronised(net, share))
        run = RunState(fabric, net, config, data, folder, share, checkpoint)
        stack.callback(run.close)
        _epochs(run, data, threshold, on_event if share.rank == 0 else None, cancel, stop)
    return FitResult(dict(run.best_tensors), run.best_epoch, run.best, run.history)


def _epochs(
    run: RunState,
    data: tuple[TrainingSource, ValidationSource],
    threshold: float,
    on_event: Callable[[Event], None] | None,
    cancel: Callable[[], bool] | None,
    stop: Callable[[], bool] | None,
) -> None:
    """Train to the end, until told to stop, or until validation has found nothing better for long enough."""
    config, share = run.config, run.share
    objective = Objective(run.net.config.classes, run.net.config.head, config)
    before = run.history[-1]["seconds"] if run.history else 0.0
    started, first, stopped = time.monotonic(), run.epoch, False
    limited = stop is not None or config.seconds is not None
    with Prefetcher(_batches(data[0], config, share, run.epoch)) as ready:
        while not (run.done or stopped):
            losses: list[float] = []
            torch.manual_seed(config.seed * 1_000_003 + run.epoch)
            stepping, waited = time.perf_counter(), ready.waited
            for _ in range(run.steps_per_epoch):
                _stop_if(cancel, share)
                stopped = limited and any(share.same_for_all(run.elapsed >= 1 or (stop is not None and stop())))
                if stopped:
                    break
                n, images, labels = ready.take()
                share.start_batch(n)
                losses.append(run.step(objective, images, labels))
                if on_event:
                    on_event(Event("step", run.epoch, config.epochs, losses[-1], run.fraction))
            if not losses and run.judged:
                break  # told to stop between two epochs
            waiting = (ready.waited - waited) / (time.perf_counter() - stepping)
            run.epoch += bool(losses)
            row = {"epoch": run.epoch, "lr": run.optimiser.param_groups[0]["lr"]}
            row["loss"] = float(np.mean(losses)) if losses else run.take_back().get("loss", math.nan)
            due = run.epoch % config.validate_every == 0 or run.epoch == config.epochs or stopped
            if due:
                row |= run.judge(lambda net: validate(net, data[1], objective, config.batch, threshold, share, cancel))
            here = time.monotonic() - started
            run.finish_epoch(row | {"waiting": waiting, "seconds": before + here})
            if due and on_event:
                left = 0.0 if run.done or stopped else _seconds_left(run, here / (run.epoch - first))
                on_event(
                    Event(
                        "validated",
                        run.epoch,
                        config.epochs,
                        row["loss"],
                        run.fraction,
                        row["val_iou"],
                        run.best,
                        left,
                        stopped_early=(run.done or stopped) and run.epoch < config.epochs,
                    )
                )


def _seconds_left(run: RunState, per_epoch: float) -> float:
    left = (run.config.epochs - run.epoch) * per_epoch
    return left if run.config.seconds is None else min(left, (1 - run.elapsed) * run.config.seconds)


def _batches(
    train: TrainingSource, config: FitConfig, share: Share, first: int
) -> Iterator[tuple[int, Tensor | Features, Tensor]]:
    """Yield every batch from epoch ``first`` on: its size over all processes, and this one's images and labels."""
    for epoch in range(first, config.epochs):
        train.start_epoch(config.seed, epoch)
        for index in batches(len(train), config.batch, config.seed, epoch):
            yield len(index), *train.batch(share.take(index))


def _stop_if(cancel: Callable[[], bool] | None, share: Share) -> None:
    if cancel is not None and any(share.same_for_all(cancel())):
        raise Cancelled("Training was stopped; it goes on from the last finished epoch when started again.")


def validate(
    net: nn.Module,
    val: ValidationSource,
    objective: Objective,
    batch: int,
    threshold: float,
    share: Share | None = None,
    cancel: Callable[[], bool] | None = None,
) -> dict[str, float]:
    """Return the mean of every score over the items, NaN left out; processes share the batches."""
    share = share or Share()
    chunks = torch.arange(len(val.names)).split(batch)
    scored: dict[int, dict[str, list[float]]] = {}
    net.eval()
    for number in range(share.rank, len(chunks), share.processes):
        if share.processes == 1:  # others would be left waiting
            _stop_if(cancel, share)
        with torch.inference_mode():
            scores = val.score(net, objective, chunks[number], threshold)
        scored[number] = {name: values.tolist() for name, values in scores.items()}
    net.train()
    found = {number: scores for part in share.same_for_all(scored) for number, scores in part.items()}
    names = found[0]
    return {
        name: float(np.nanmean([value for number in sorted(found) for value in found[number][name]])) for name in names
    }
