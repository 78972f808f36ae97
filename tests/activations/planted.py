"""A network whose attention is known by hand: the token of a bright place looks at the token of a dark one.

The encoder averages the image over cells of four pixels, bright and dark in two channels; in head 0 a bright token's
query meets a dark token's key, and every other head looks everywhere alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_llm4seg.config import BackboneConfig, BlockConfig, LayerRef, ModelConfig
from napari_llm4seg.models.backbone import Backbone
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.predict import Predictor
from tests.models.base import SPEC
from tests.predict.helpers import checkpoint

STRIDE = 4


class Pooling(Backbone):
    """Cells of four pixels: how bright, how dark. The decoder gives the first channel back, enlarged."""

    def __init__(self, config: BackboneConfig, out_channels: int) -> None:
        super().__init__(config, out_channels)
        self.out_channels = (1, 2)
        self.output_stride = (STRIDE,) * config.spatial_dims
        self.stage = nn.Upsample(scale_factor=STRIDE, mode="nearest")

    def encode(self, image: Tensor) -> list[Tensor]:
        pool = F.avg_pool2d if image.ndim == 4 else F.avg_pool3d
        mean = pool(image - 0.5, STRIDE)
        return [image.clone(), torch.cat((mean.clamp_min(0), (-mean).clamp_min(0)), dim=1)]

    def decode(self, features: list[Tensor]) -> Tensor:
        return self.stage(features[-1][:, :1]) + features[0] - 0.5

    def encoder_parts(self) -> list[nn.Module]:
        return []

    def decoder_stages(self) -> list[nn.Module]:
        return [self.stage]


def planted_net(dims: int = 2, layers: int = 1, mask: str = "full", positions: str = "none") -> LLM4SegNet:
    backbone = BackboneConfig.model_validate({"kind": "unet", "widths": (2, 2), "spatial_dims": dims})
    refs = tuple(LayerRef(repository="made/layer", index=i, sha256="0" * 64) for i in range(layers))
    block = BlockConfig.model_validate({"layers": refs, "hidden": SPEC.hidden, "mask": mask, "positions": positions})
    torch.manual_seed(0)
    net = LLM4SegNet(ModelConfig(backbone=backbone, block=block), [LLMLayer.random(SPEC, 5 + i) for i in range(layers)])
    net.backbone = Pooling(backbone, 1)
    with torch.no_grad():
        bridge = net.llm_block().bridge
        bridge.adapter_in.weight.zero_()
        bridge.adapter_in.bias.zero_()
        bridge.adapter_in.weight[:2] = torch.eye(2)
        bridge.adapter_in.bias[2] = 1.0  # so that normalisation keeps how bright and how dark
        for layer in net.llm_block().running():
            attention = layer.self_attn
            attention.q_proj.weight.zero_()
            attention.k_proj.weight.zero_()
            attention.q_proj.weight[0, 0] = attention.k_proj.weight[0, 1] = 3.0
    return net.eval()


def planted(net: LLM4SegNet | None = None, **settings: Any) -> Predictor:
    """Return a predictor around the planted network, on values in [0, 1]."""
    net = planted_net(3 if settings.get("patch") else 2) if net is None else net
    return Predictor(checkpoint(net, **settings), "cpu")


def marked(shape: tuple[int, ...], bright: tuple[slice, ...], dark: tuple[slice, ...]) -> np.ndarray:
    """Return a mid-grey image with a bright and a dark box."""
    values = np.full(shape, 0.5, dtype=np.float32)
    values[bright], values[dark] = 1.0, 0.0
    return values


def middle(box: tuple[slice, ...]) -> tuple[float, ...]:
    """Return the centre of a box in pixels."""
    return tuple((part.start + part.stop - 1) / 2 for part in box)
