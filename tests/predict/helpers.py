"""Checkpoints whose answers are known by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from napari_llm4seg.config import (
    BackboneConfig,
    Card,
    CheckpointConfig,
    ClassSpec,
    ModelConfig,
    PredictConfig,
    PreprocessConfig,
)

LESION = ClassSpec(value=1, name="lesion")


class Identity(nn.Module):
    """Logits whose sigmoid is the image itself, clipped to (0, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()
        self.batches: list[int] = []

    def forward(self, image: Tensor) -> Tensor:
        self.batches.append(len(image))
        return torch.logit(self.inner(image)[:, :1].clamp(1e-6, 1 - 1e-6))


class FakeCheckpoint:
    """What ``Predictor`` needs of a ``Checkpoint``, around any module."""

    digest = "0" * 64
    path = None

    def __init__(self, config: CheckpointConfig, net: nn.Module) -> None:
        self.config, self._net = config, net

    def build(self) -> nn.Module:
        return self._net


def config(
    *,
    size: tuple[int, int] = (16, 16),
    classes: tuple[ClassSpec, ...] = (LESION,),
    head: str = "sigmoid",
    channels: str = "grey",
    intensity: str = "uint8",
    patch: tuple[int, int, int] | None = None,
    spacing: tuple[float, float, float] | None = None,
    **predict: Any,
) -> CheckpointConfig:
    """Return a configuration that hands the network values in [0, 1]; with ``patch`` a three-dimensional one."""
    n = 1 if channels == "grey" else 3
    backbone = BackboneConfig(in_channels=n) if patch is None else BackboneConfig(kind="unet", spatial_dims=3)
    return CheckpointConfig.model_validate(
        {
            "model": ModelConfig.model_validate({"backbone": backbone, "classes": classes, "head": head}),
            "preprocess": PreprocessConfig.model_validate(
                {"size": size, "channels": channels, "intensity": intensity, "mean": (0.0,) * n, "sd": (1.0,) * n}
                | {"patch": patch, "spacing": spacing}
            ),
            "predict": PredictConfig(**predict),
            "card": Card(name="identity"),
        }
    )


def checkpoint(net: nn.Module | None = None, **settings: Any) -> Any:
    """Return a fake checkpoint around ``net`` (the identity by default)."""
    return FakeCheckpoint(config(**settings), Identity() if net is None else net)
