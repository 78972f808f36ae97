"""The promise every CNN keeps, and the one place that builds them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_llm4seg.config import BackboneConfig


class Backbone(nn.Module, ABC):
    """A CNN encoder-decoder that can be stopped at its bottleneck.

    Attributes
    ----------
    out_channels : channels of each encoder stage, shallow to deep; the last is the bottleneck's
    output_stride : pixels of the input per bottleneck cell, for every axis; ``encode`` takes sides divisible by it
    """

    out_channels: tuple[int, ...]
    output_stride: tuple[int, ...]

    @abstractmethod
    def __init__(self, config: BackboneConfig, out_channels: int) -> None:
        super().__init__()

    @abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the stages' features, shallow to deep, for an image (B, C, *grid)."""

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits (B, K, *grid) from ``encode``'s features, whose last may have passed a block."""

    @abstractmethod
    def decoder_stages(self) -> list[nn.Module]:
        """Return the modules whose outputs are the decoder's features (B, C, *grid), coarse to fine."""

    @abstractmethod
    def encoder_parts(self) -> list[nn.Module]:
        """Return the modules that ``encode`` runs; all others are the decoder's."""

    def fitting(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Return the smallest sides not below ``grid`` that ``encode`` takes."""
        return tuple(side + -side % stride for side, stride in zip(grid, self.output_stride, strict=True))

    def decode_deep(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """Return ``decode``'s logits first, then those of further heads at lower stages, fine to coarse, if any."""
        return (self.decode(features),)

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))


def channels_last(spatial_dims: int) -> torch.memory_format:
    """Return the memory format in which convolutions of so many axes are fastest."""
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


def build_backbone(config: BackboneConfig, out_channels: int) -> Backbone:
    """Return the backbone ``config`` names, with ``out_channels`` logits."""
    from napari_llm4seg.models.cmunext import CMUNeXt
    from napari_llm4seg.models.dynunet import DynUNet
    from napari_llm4seg.models.unet import UNet

    kinds: dict[str, type[Backbone]] = {"cmunext": CMUNeXt, "unet": UNet, "dynunet": DynUNet}
    return kinds[config.kind](config, out_channels)
