"""The nnU-Net type (arXiv 1809.10486), by MONAI's DynUNet: strided convolutions, instance norm, leaky ReLU."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from napari_llm4seg.config import BackboneConfig
from napari_llm4seg.models.backbone import Backbone


class DynUNet(Backbone):
    """Two convolutions per stage, strided ones down, transposed ones and concatenated skips up; in 2-D and 3-D.

    Parameters
    ----------
    config : BackboneConfig of kind "dynunet"
        Widths, strides and kernels of every stage, and whether the decoder has further heads.
    out_channels : int
        Number of logits per pixel or voxel.

    Notes
    -----
    MONAI is imported here and not with the module: it takes about ten seconds.
    """

    def __init__(self, config: BackboneConfig, out_channels: int) -> None:
        super().__init__(config, out_channels)
        from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet

        widths, strides = config.widths, config.stage_strides()
        self.out_channels = widths
        self.output_stride = tuple(math.prod(axis) for axis in zip(*strides, strict=True))
        # nnU-Net weighs the lowest decoder stage's loss with 0, so that stage gets no head.
        n_deep = len(widths) - 3 if config.deep_supervision else 0
        built = MonaiDynUNet(
            spatial_dims=config.spatial_dims,
            in_channels=config.in_channels,
            out_channels=out_channels,
            kernel_size=config.axis_kernels or [(3,) * config.spatial_dims] * len(widths),
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=widths,
            deep_supervision=n_deep > 0,
            deep_supr_num=max(1, n_deep),
        )
        # Its parts, not itself: it runs through in one go, and names every weight twice.
        self.down = nn.ModuleList([built.input_block, *built.downsamples, built.bottleneck])
        self.up = built.upsamples
        self.head = built.output_block
        self.deep_heads = nn.ModuleList(built.deep_supervision_heads if n_deep else [])

    def fitting(self, grid: Sequence[int]) -> tuple[int, ...]:
        """Return multiples of the strides with at least two cells: instance norm cannot take a single one."""
        *others, last = super().fitting(grid)
        alone = all(side == stride for side, stride in zip((*others, last), self.output_stride, strict=True))
        return (*others, last * 2 if alone else last)

    def encode(self, image: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for stage in self.down:
            image = stage(image)
            features.append(image)
        return features

    def decoder_stages(self) -> list[nn.Module]:
        return list(self.up)

    def encoder_parts(self) -> list[nn.Module]:
        return [self.down]

    def decode(self, features: list[Tensor]) -> Tensor:
        logits: Tensor = self.head(self._rise(features)[-1])
        return logits

    def decode_deep(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        stages = self._rise(features)[::-1]
        return tuple(head(x) for head, x in zip((self.head, *self.deep_heads), stages, strict=False))

    def _rise(self, features: list[Tensor]) -> list[Tensor]:
        """Return what every decoder stage gives, coarse to fine."""
        stages, x = [], features[-1]
        for up, skip in zip(self.up, features[-2::-1], strict=True):
            x = up(x, skip)
            stages.append(x)
        return stages
