"""The promise every CNN keeps, and the one place that builds them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from napari_llm4seg.config import BackboneConfig


class Backbone(nn.Module, ABC):
    """A CNN encoder-decoder that can be stopped at its bottleneck.

    Attributes
    ----------
    out_channels : channels of each encoder stage, shallow to deep; the last is the bottleneck's
    output_stride : pixels of the input per bottleneck cell; inputs need sides divisible by it
    """

    out_channels: tuple[int, ...]
    output_stride: int

    @abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the stages' features, shallow to deep, for an image (B, C, *grid)."""

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits (B, K, *grid) from ``encode``'s features, whose last may have passed a block."""

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))


def build_backbone(config: BackboneConfig, out_channels: int) -> Backbone:
    """Return the backbone ``config`` names, with ``out_channels`` logits."""
    from napari_llm4seg.models.cmunext import CMUNeXt
    from napari_llm4seg.models.unet import UNet

    kinds: dict[str, type[CMUNeXt] | type[UNet]] = {"cmunext": CMUNeXt, "unet": UNet}
    return kinds[config.kind](config, out_channels)
