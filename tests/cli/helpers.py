"""Models whose answer is known by hand."""

from __future__ import annotations

from pathlib import Path

import torch

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
