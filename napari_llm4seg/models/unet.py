"""U-Net (arXiv 1505.04597) with batch normalisation and same padding, in 2-D and 3-D."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_llm4seg.config import BackboneConfig
from napari_llm4seg.models.backbone import Backbone

# The widths whose adapters to LLaMA-3.2-1B count the published 4.19 M weights.
PUBLISHED_WIDTHS = (64, 128, 256, 512, 1024)


def unet_config(in_channels: int = 3, spatial_dims: int = 2) -> BackboneConfig:
    """Return the published five-stage configuration."""
    return BackboneConfig.model_validate(
        {"kind": "unet", "in_channels": in_channels, "spatial_dims": spatial_dims, "widths": PUBLISHED_WIDTHS}
    )


class UNet(Backbone):
    """Two 3-wide convolutions per stage, max-pooling down, linear upsampling and concatenated skips up.

    Parameters
    ----------
    config : BackboneConfig of kind "unet"; ``depths`` and ``kernels`` do not enter
    out_channels : int
        Number of logits per pixel or voxel.
    """

    def __init__(self, config: BackboneConfig, out_channels: int) -> None:
        super().__init__(config, out_channels)
        widths, flat = config.widths, config.spatial_dims == 2
        self.out_channels = widths
        self.output_stride = (2 ** (len(widths) - 1),) * config.spatial_dims
        self._conv: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if flat else nn.Conv3d
        self._norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d] = nn.BatchNorm2d if flat else nn.BatchNorm3d
        self.pool = nn.MaxPool2d(2) if flat else nn.MaxPool3d(2)
        self.grow = nn.Upsample(scale_factor=2, mode="bilinear" if flat else "trilinear")
        before = (config.in_channels, *widths[:-1])
        self.down = nn.ModuleList(self._double(channels, out) for channels, out in zip(before, widths, strict=True))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(self._single(channels, out) for channels, out in pairs)
        self.fuse = nn.ModuleList(self._double(out * 2, out) for _, out in pairs)
        self.head = self._conv(widths[0], out_channels, 1)

    def _single(self, channels: int, out: int) -> nn.Sequential:
        return nn.Sequential(self._conv(channels, out, 3, padding=1), self._norm(out), nn.ReLU(inplace=True))

    def _double(self, channels: int, out: int) -> nn.Sequential:
        return nn.Sequential(*self._single(channels, out), *self._single(out, out))

    def encode(self, image: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for i, stage in enumerate(self.down):
            image = stage(self.pool(image) if i else image)
            features.append(image)
        return features

    def decoder_stages(self) -> list[nn.Module]:
        return list(self.fuse)

    def encoder_parts(self) -> list[nn.Module]:
        return [self.down]

    def decode(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, fuse, skip in zip(self.up, self.fuse, features[-2::-1], strict=True):
            x = fuse(torch.cat((skip, up(self.grow(x))), dim=1))
        logits: Tensor = self.head(x)
        return logits
