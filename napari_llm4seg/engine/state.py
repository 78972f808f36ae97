"""What a training run changes, and how it is kept on disk so that a stopped one goes on without loss."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from napari_llm4seg.config import FitConfig
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.engine.schedule import learning_rate, warmed_average
from napari_llm4seg.engine.source import TrainingSource, ValidationSource, batches
from napari_llm4seg.errors import CheckpointError, InputError
from napari_llm4seg.files import replacing
from napari_llm4seg.models.backbone import channels_last
from napari_llm4seg.models.llm4seg import FROZEN_PREFIX, LLM4SegNet

Data = tuple[TrainingSource, ValidationSource]


def _identity(net: LLM4SegNet, config: FitConfig, data: Data) -> str:
    """Digest of what must not change between a run and its resume."""
    train, val = data
    layouts = f"{train.layout} {val.layout}"
    text = "|".join([net.config.model_dump_json(), config.model_dump_json(), layouts, *train.names, "//", *val.names])
    return hashlib.sha256(text.encode()).hexdigest()


def _alike(before: Tensor | None, now: Tensor) -> bool:
    """Say whether two fingerprints are of the same data; other machines round otherwise, older runs have none."""
    return before is None or (before.shape == now.shape and torch.allclose(before, now, rtol=1e-3, atol=1e-3))


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

    Raises
    ------
    CheckpointError
        If ``folder`` holds a damaged run, or one with other data, model or settings.
    InputError
        If nothing is left to train.
    """

    def __init__(self, fabric: Fabric, net: LLM4SegNet, config: FitConfig, data: Data, folder: Path) -> None:
        self.config, self.folder, self.fabric = config, folder, fabric
        self.identity, self.fingerprint = (
            _identity(net, config, data),
            torch.cat([part.fingerprint() for part in data]),
        )
        folder.mkdir(parents=True, exist_ok=True)
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
        images = images.to(device, memory_format=channels_last(images.ndim - 2))
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
            same = state["identity"] == self.identity and _alike(state.get("fingerprint"), self.fingerprint)
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
