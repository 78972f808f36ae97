from __future__ import annotations

import torch

from napari_llm4seg.config import BackboneConfig, BlockConfig, ModelConfig
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.unet import unet_config
from tests.models.base import ArchitectureTester


class TestUNet(ArchitectureTester):
    backbone = BackboneConfig(kind="unet", in_channels=1, widths=(4, 8, 12))


class TestVolumetricUNet(ArchitectureTester):
    backbone = BackboneConfig(kind="unet", in_channels=1, spatial_dims=3, widths=(4, 8, 12))
    side = 16


def test_adapters_to_llama_have_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        net = LLM4SegNet(ModelConfig(backbone=unet_config(3), block=BlockConfig(hidden=2048)))
    added = sum(parameter.numel() for parameter in net.llm_block().parameters() if parameter.ndim == 2)
    assert round(added / 1e6, 2) == 4.19
