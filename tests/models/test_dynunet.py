from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet

from napari_llm4seg.config import BackboneConfig
from napari_llm4seg.models.backbone import build_backbone
from napari_llm4seg.models.llm4seg import LLM4SegNet
from tests.models.base import ArchitectureTester


class TestDynUNet(ArchitectureTester):
    backbone = BackboneConfig(kind="dynunet", in_channels=1, widths=(4, 8, 12))


class TestVolumetricDynUNet(ArchitectureTester):
    backbone = BackboneConfig(kind="dynunet", in_channels=1, spatial_dims=3, widths=(4, 6, 8))
    side = 16
    head = "softmax"


# As nnU-Net plans it for thick slices: the first stages leave the slice axis alone.
DEEP = BackboneConfig(
    kind="dynunet",
    in_channels=1,
    spatial_dims=3,
    widths=(2, 3, 4, 5, 6),
    axis_strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2), (2, 1, 2)),
    axis_kernels=((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    deep_supervision=True,
)


class TestAnisotropicAndDeeplySupervised(ArchitectureTester):
    """In eval mode it is as any other; in training it gives a tuple, so those shared tests are replaced."""

    backbone = DEEP
    side = 16

    def test_strides_differ_by_axis(self) -> None:
        backbone = self.net().backbone
        assert backbone.output_stride == (4, 8, 16)
        assert backbone.fitting((5, 9, 16)) == (8, 16, 16)
        assert backbone.encode(self.image(4, 16, 32))[-1].shape[2:] == (1, 2, 2)

    def test_every_trained_weight_takes_a_gradient(self) -> None:
        net = self.net().train()
        sum(logits.square().mean() for logits in net(self.image())).backward()
        without = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
        assert without == []

    def test_a_trainable_layer_takes_a_gradient_too(self) -> None:
        net = self.net(frozen=False).train()
        net(self.image())[0].square().mean().backward()
        assert all(p.grad is not None for p in net.llm_block().layers.parameters())

    def test_an_optimiser_step_moves_trained_weights_alone(self) -> None:
        net = self.net().train()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
        sum(logits.square().mean() for logits in net(self.image())).backward()
        optimiser.step()
        moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
        assert moved == {name for name, parameter in net.named_parameters() if parameter.requires_grad}

    def test_training_gives_the_logits_of_every_stage_but_the_lowest(self) -> None:
        net = self.net().train()
        deep = net(self.image())
        assert [tuple(logits.shape) for logits in deep] == [(2, 2, 16, 16, 16), (2, 2, 16, 8, 8), (2, 2, 8, 4, 4)]
        with torch.inference_mode():
            assert torch.equal(net.eval()(self.image()), net.train()(self.image())[0])

    def test_logits_of_lower_stages_end_where_the_image_does(self) -> None:
        assert [tuple(x.shape[2:]) for x in self.net().train()(self.image(17, 17, 20))] == [
            (17, 17, 20),
            (17, 9, 10),
            (9, 5, 5),
        ]


@pytest.mark.parametrize("dims", [2, 3])
def test_equals_monais_own_forward_with_its_weights(dims: int) -> None:
    config = BackboneConfig(kind="dynunet", in_channels=2, spatial_dims=dims, widths=(4, 6, 8, 10))
    torch.manual_seed(0)
    own = build_backbone(config, 3).eval()
    torch.manual_seed(0)
    theirs = MonaiDynUNet(dims, 2, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 6, 8, 10]).eval()
    image = torch.randn(1, 2, *(16,) * dims)
    with torch.inference_mode():
        assert torch.equal(own(image), theirs(image))
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_no_weight_is_named_twice() -> None:
    with torch.device("meta"):
        net = build_backbone(DEEP, 3)
    assert sum(t.numel() for t in net.state_dict().values()) == sum(p.numel() for p in net.parameters())


def test_one_cell_is_too_few_for_instance_norm() -> None:
    config = BackboneConfig(kind="dynunet", widths=(4, 6, 8))
    assert build_backbone(config, 1).fitting((1, 3)) == (4, 8)
    assert build_backbone(config, 1).fitting((5, 4)) == (8, 4)


def test_a_network_without_a_block_is_made_too() -> None:
    from napari_llm4seg.config import ModelConfig

    net = LLM4SegNet(ModelConfig(backbone=DEEP)).eval()
    assert net(torch.zeros(1, 1, 3, 9, 9)).shape == (1, 1, 3, 9, 9)


def test_monai_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys, napari_llm4seg.models.dynunet, napari_llm4seg.models.llm4seg; "
        "from napari_llm4seg.config import BackboneConfig; "
        "from napari_llm4seg.models.backbone import build_backbone; "
        "build_backbone(BackboneConfig(kind='unet', widths=(2, 4)), 1); print('monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
