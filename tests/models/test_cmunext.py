from __future__ import annotations

import pytest
import torch

from napari_llm4seg.config import BackboneConfig
from napari_llm4seg.models.backbone import build_backbone
from napari_llm4seg.models.cmunext import cmunext_config
from tests.models.base import ArchitectureTester


class TestCMUNeXt(ArchitectureTester):
    backbone = BackboneConfig(
        kind="cmunext", in_channels=1, widths=(4, 6, 8, 12), depths=(1, 1, 2, 1), kernels=(3, 3, 5, 7)
    )


class TestTwoStages(ArchitectureTester):
    backbone = BackboneConfig(kind="cmunext", in_channels=1, widths=(4, 8), depths=(1, 1), kernels=(3, 7))
    head = "softmax"
    side = 12


# As published: 0.42, 3.15 and 8.29 million weights.
@pytest.mark.parametrize(("size", "millions"), [("small", 0.42), ("base", 3.15), ("large", 8.29)])
def test_the_published_sizes_have_the_published_numbers_of_weights(size: str, millions: float) -> None:
    with torch.device("meta"):
        net = build_backbone(cmunext_config(size, 3), 1)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == millions
    assert net.output_stride == (16, 16)
