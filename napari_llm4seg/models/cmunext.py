"""CMUNeXt (arXiv 2308.01239): a U-shaped CNN of large depthwise kernels and skip fusion.

Attribute names (``encoder1``, ``Up_conv5``, ``Conv_1x1``...) are those of the published checkpoints, so their state
dicts load without a translation table.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_llm4seg.config import BackboneConfig
from napari_llm4seg.models.backbone import Backbone

# The three published sizes: widths, depths, kernels.
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "small": ((8, 16, 32, 64, 128), (1, 1, 1, 1, 1), (3, 3, 7, 7, 9)),
    "base": ((16, 32, 128, 160, 256), (1, 1, 1, 3, 1), (3, 3, 7, 7, 7)),
    "large": ((32, 64, 128, 256, 512), (1, 1, 1, 6, 3), (3, 3, 7, 7, 7)),
}


def cmunext_config(size: str = "base", in_channels: int = 3) -> BackboneConfig:
    """Return the published configuration "small", "base" or "large"."""
    widths, depths, kernels = SIZES[size]
    return BackboneConfig(kind="cmunext", in_channels=in_channels, widths=widths, depths=depths, kernels=kernels)


class _Residual(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(x) + x
        return out


def _mixer(channels: int, kernel: int) -> nn.Sequential:
    """One block: a residual depthwise convolution, then an inverted bottleneck; GELU before each normalisation."""
    depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
    return nn.Sequential(
        _Residual(nn.Sequential(depthwise, nn.GELU(), nn.BatchNorm2d(channels))),
        nn.Conv2d(channels, channels * 4, 1),
        nn.GELU(),
        nn.BatchNorm2d(channels * 4),
        nn.Conv2d(channels * 4, channels, 1),
        nn.GELU(),
        nn.BatchNorm2d(channels),
    )


class _ConvBlock(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class _Stage(nn.Module):
    def __init__(self, channels: int, out: int, depth: int, kernel: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*(_mixer(channels, kernel) for _ in range(depth)))
        self.up = _ConvBlock(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(self.block(x))
        return out


class _Up(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(channels, out, 3, padding=1),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(x)
        return out


class _SkipFusion(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=2),
            nn.GELU(),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, out * 4, 1),
            nn.GELU(),
            nn.BatchNorm2d(out * 4),
            nn.Conv2d(out * 4, out, 1),
            nn.GELU(),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class CMUNeXt(Backbone):
    """CMUNeXt with any number of stages.

    Parameters
    ----------
    config : BackboneConfig of kind "cmunext"
    out_channels : int
        Number of logits per pixel.
    """

    def __init__(self, config: BackboneConfig, out_channels: int) -> None:
        super().__init__(config, out_channels)
        widths = config.widths
        self.out_channels = widths
        self.output_stride = (2 ** (len(widths) - 1),) * 2
        self.stem = _ConvBlock(config.in_channels, widths[0])
        before = (widths[0], *widths[:-1])
        for i, (channels, out) in enumerate(zip(before, widths, strict=True)):
            setattr(self, f"encoder{i + 1}", _Stage(channels, out, config.depths[i], config.kernels[i]))
        for i in range(len(widths), 1, -1):
            setattr(self, f"Up{i}", _Up(widths[i - 1], widths[i - 2]))
            setattr(self, f"Up_conv{i}", _SkipFusion(widths[i - 2] * 2, widths[i - 2]))
        self.Conv_1x1 = nn.Conv2d(widths[0], out_channels, 1)

    def encode(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        features = []
        for i in range(len(self.out_channels)):
            x = F.max_pool2d(x, 2) if i else x
            x = getattr(self, f"encoder{i + 1}")(x)
            features.append(x)
        return features

    def decoder_stages(self) -> list[nn.Module]:
        return [getattr(self, f"Up_conv{i}") for i in range(len(self.out_channels), 1, -1)]

    def encoder_parts(self) -> list[nn.Module]:
        return [self.stem, *(getattr(self, f"encoder{i + 1}") for i in range(len(self.out_channels)))]

    def decode(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for i in range(len(features), 1, -1):
            x = getattr(self, f"Up{i}")(x)
            x = getattr(self, f"Up_conv{i}")(torch.cat((features[i - 2], x), dim=1))
        logits: Tensor = self.Conv_1x1(x)
        return logits
