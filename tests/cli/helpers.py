"""Models whose answer is known by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import (
    BackboneConfig,
    Card,
    CheckpointConfig,
    ClassSpec,
    ModelConfig,
    PredictConfig,
    PreprocessConfig,
)
from napari_llm4seg.models.llm4seg import LLM4SegNet

MODEL = ModelConfig(
    backbone=BackboneConfig(kind="cmunext", widths=(4, 8), depths=(1, 1), kernels=(3, 3)),
    classes=(ClassSpec(value=3, name="lesion"),),
)

# A training of seconds on ``write_discs``.
RECIPE: dict[str, Any] = {
    "data": {"images": "images", "masks": "masks"},
    "split": {"val": 0.2, "test": 0.3},
    "model": {"backbone": {"kind": "cmunext", "widths": [4, 8], "depths": [1, 1], "kernels": [3, 3]}},
    "preprocess": {"size": [32, 32]},
    "fit": {"epochs": 2, "batch": 4, "augment": "none", "warmup_epochs": 0},
    "card": {"name": "discs"},
}

Grid = npt.NDArray[np.int_]


def write_discs(root: Path, disc: Callable[[Grid, Grid, int], npt.NDArray[np.bool_]]) -> None:
    """Write twelve noisy images of 32 x 32 pixels and their masks, bright where ``disc(y, x, number)`` says."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for i in range(12):
        mask = disc(y, x, i)
        for name, values in (("images", rng.uniform(0, 90, (32, 32)) + 120 * mask), ("masks", 255 * mask)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(root / name / f"c{i:02d}.png")


def save_model(path: Path, name: str, bias: float, threshold: float = 0.5) -> Path:
    """Write a checkpoint whose probability is sigmoid(``bias``) everywhere."""
    torch.manual_seed(0)
    tensors = dict(LLM4SegNet(MODEL).trained_tensors())
    tensors["backbone.Conv_1x1.weight"] = torch.zeros_like(tensors["backbone.Conv_1x1.weight"])
    tensors["backbone.Conv_1x1.bias"] = torch.full_like(tensors["backbone.Conv_1x1.bias"], bias)
    config = CheckpointConfig(
        model=MODEL,
        preprocess=PreprocessConfig(size=(32, 32)),
        predict=PredictConfig(threshold=threshold),
        card=Card(name=name, modality="ultrasound", licence="CC0-1.0", scores={"iou_lesion": 0.5}),
    )
    Checkpoint(config, tensors).save(path)
    return path
