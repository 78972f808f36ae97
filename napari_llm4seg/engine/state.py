"""What a training run changes: weights, their moving average, the optimiser and what was found so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import CheckpointConfig, FitConfig
from napari_llm4seg.engine.distributed import Share
from napari_llm4seg.engine.log import RunLog
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.engine.resume import Data, fingerprint, identity, read_state, write_state
from napari_llm4seg.engine.schedule import learning_rate, warmed_average
from napari_llm4seg.engine.source import batches
from napari_llm4seg.errors import InputError
from napari_llm4seg.models.backbone import channels_last
from napari_llm4seg.models.llm4seg import FROZEN_PREFIX, Features, LLM4SegNet

BEST, LAST = "best", "last"


def _optimiser(weights: list[nn.Parameter], config: FitConfig) -> torch.optim.Optimizer:
    # biases, normalisation gains and the gate are not shrunk, as is usual with AdamW
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr)


class RunState:
    """Everything that changes while fitting, and how it is kept on disk.

    Parameters
    ----------
    fabric, net, config, folder
        As in ``fit``.
    data : (TrainingSource, ValidationSource)
    share : Share
        This process's among those that train together; the first one alone reads and writes.
    checkpoint : CheckpointConfig, optional
        As in ``fit``.

    Raises
    ------
    CheckpointError
        If ``folder`` holds a damaged run, or one with other data, model or settings.
    InputError
        If nothing is left to train.
    """

    def __init__(
        self,
        fabric: Fabric,
        net: LLM4SegNet,
        config: FitConfig,
        data: Data,
        folder: Path | None,
        share: Share | None = None,
        checkpoint: CheckpointConfig | None = None,
    ) -> None:
        self.config, self.folder, self.fabric = config, folder, fabric
        self.share, self.checkpoint = share or Share(), checkpoint
        self.identity, self.fingerprint = identity(net, config, data), fingerprint(data)
        layout = channels_last(net.config.backbone.spatial_dims)
        # torch's own annotation of .to leaves this argument out
        self.net = net.to(memory_format=layout).train()  # type: ignore[call-overload]
        weights = [p for p in net.parameters() if p.requires_grad]
        if not weights:
            raise InputError("Nothing is left to train: every part of the model is frozen.")
        optimiser = _optimiser(weights, config)
        self.ema = None
        if config.ema is not None:
            self.ema = AveragedModel(net, multi_avg_fn=warmed_average(config.ema), use_buffers=True)
        self.wrapped, self.optimiser = fabric.setup(net, optimiser)
        if self.ema is not None:
            self.ema.to(fabric.device)  # copied before the network was moved there
        self.steps_per_epoch = sum(1 for _ in batches(len(data[0]), config.batch, config.seed, 0))
        self.epoch = self.steps = self.best_epoch = 0
        self._began: float | None = None
        self.best = -1.0
        self.best_tensors: Mapping[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self._resume()
        self._log = None if folder is None else RunLog(folder, self.epoch)

    @property
    def fraction(self) -> float:
        return max(self.elapsed, self.steps / (self.config.epochs * self.steps_per_epoch))

    @property
    def elapsed(self) -> float:
        """Part of the run's time that is over since it began in this process, in [0, 1]; 0 without a limit."""
        if self.config.seconds is None:
            return 0.0
        self._began = self._began or time.monotonic()
        return min(1.0, (time.monotonic() - self._began) / self.config.seconds)

    @property
    def stale(self) -> bool:
        """Whether validation found nothing better for as many epochs as the config has patience."""
        judged = max((int(row["epoch"]) for row in self.history if "val_iou" in row), default=0)
        return self.config.patience is not None and judged - self.best_epoch >= self.config.patience

    @property
    def done(self) -> bool:
        return self.epoch >= self.config.epochs or self.stale

    def step(self, objective: Objective, images: Tensor | Features, labels: Tensor) -> float:
        """Take an optimiser step on this process's samples of a batch; return the loss of the whole batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.steps, self.steps_per_epoch, self.elapsed)
        device = self.fabric.device
        images = images.to(device, memory_format=channels_last(images.ndim - 2))
        logits, truth = self.share.gather(self.wrapped(images)), self.share.gather(labels.to(device))
        loss = objective(logits, truth)
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

    @property
    def judged(self) -> bool:
        """Whether the weights as they are have been validated."""
        return bool(self.history) and "val_iou" in self.history[-1]

    def take_back(self) -> dict[str, float]:
        """Remove the last epoch's row, which is to be written again with its validation; empty where there is none."""
        return self.history.pop() if self.history else {}

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Write log, checkpoints and state; a kill after this loses nothing of the epoch."""
        self.history.append(row)
        if self.share.rank != 0 or self.folder is None or self._log is None:
            return
        self._log.write(self.history)
        self._keep(self.folder / LAST, self.net.trained_tensors(), row)
        if self.best_epoch == self.epoch:
            self._keep(self.folder / BEST, self.best_tensors, row)
        write_state(self.folder, self._state())  # last: what it knows of has been written

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _keep(self, path: Path, tensors: Mapping[str, Tensor], row: Mapping[str, float]) -> None:
        """Write a checkpoint of ``tensors`` whose card says which epoch they are of."""
        if self.checkpoint is None:
            return
        facts = {key: row[key] for key in ("epoch", "val_iou") if key in row}
        card = self.checkpoint.card.model_copy(update={"training": facts})
        Checkpoint(self.checkpoint.model_copy(update={"card": card}), tensors).save(path)

    def _state(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "steps": self.steps,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_tensors": dict(self.best_tensors),
            "history": self.history,
            "net": self.net.trained_tensors(),
            "ema": None if self.ema is None else self._ema_state(),
            "optimiser": self.optimiser.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # the scale of fp16's loss
        }

    def _ema_state(self) -> dict[str, Tensor]:
        assert self.ema is not None
        skipped = "module." + FROZEN_PREFIX
        return {name: t for name, t in self.ema.state_dict().items() if not name.startswith(skipped)}

    def _resume(self) -> None:
        state = None
        if self.share.rank == 0 and self.folder is not None:
            state = read_state(self.folder, self.identity, self.fingerprint)
        state = self.share.same_for_all(state)[0] if self.share.processes > 1 else state
        if state is None:
            return
        self.net.load_state_dict(state["net"], strict=False)
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"], strict=False)
        self.optimiser.load_state_dict(state["optimiser"])
        self.fabric.strategy.precision.load_state_dict(state.get("precision", {}))
        self.epoch, self.steps = state["epoch"], state["steps"]
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.best_tensors, self.history = state["best_tensors"], state["history"]
