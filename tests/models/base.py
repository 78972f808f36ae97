"""What every architecture must keep; its test module inherits ``ArchitectureTester`` and says what to build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_llm4seg.checkpoint import Checkpoint, expected_shapes
from napari_llm4seg.config import (
    BackboneConfig,
    BlockConfig,
    Card,
    CheckpointConfig,
    ClassSpec,
    LayerRef,
    ModelConfig,
    PreprocessConfig,
)
from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.llm4seg import FROZEN_PREFIX, LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import write_pack
from napari_llm4seg.models.spec import LayerSpec

# A small Llama, wider than the bottlenecks below, as the real ones are.
LANGUAGE_MODEL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "rms_norm_eps": 1e-5,
}
SPEC = LayerSpec.from_config(LANGUAGE_MODEL)
CLASSES = (ClassSpec(value=1, name="lesion"), ClassSpec(value=3, name="cyst", colour="#56B4E9"))


def relative(came: Tensor, wanted: Tensor) -> float:
    """Return the largest difference over the largest value."""
    assert came.shape == wanted.shape
    return float((came - wanted).abs().max() / wanted.abs().max())


def lively(net: LLM4SegNet, image: Tensor) -> LLM4SegNet:
    """Give the network running statistics of its own features and an open gate; returns it in eval mode."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
                module.momentum = None
        if net.block is not None and net.llm_block().gate is not None:
            net.llm_block().gate.fill_(0.7)
        net.train()(image)
    return net.eval()


class ArchitectureTester:
    """Tests that run for every architecture; a subclass gives ``backbone`` and ``side``."""

    backbone: BackboneConfig
    side: int = 32
    head = "sigmoid"

    def config(self, **block: Any) -> ModelConfig:
        """Return the model with a block of one small frozen layer; ``block`` changes it."""
        ref = LayerRef(repository="made/layer", revision="1", index=2, sha256="0" * 64)
        fields = {"layers": (ref,), "hidden": SPEC.hidden, **block}
        return ModelConfig.model_validate(
            {"backbone": self.backbone, "block": BlockConfig(**fields), "classes": CLASSES, "head": self.head}
        )

    def net(self, **block: Any) -> LLM4SegNet:
        torch.manual_seed(0)
        config = self.config(**block)
        assert config.block is not None
        layers = [LLMLayer.random(SPEC, 7 + i, config.block.frozen) for i, _ in enumerate(config.block.layers)]
        return LLM4SegNet(config, layers)

    def image(self, *sides: int, batch: int = 2) -> Tensor:
        shape = sides or (self.side,) * self.backbone.spatial_dims
        generator = torch.Generator().manual_seed(1)
        return torch.randn(batch, self.backbone.in_channels, *shape, generator=generator)

    def odd(self) -> Tensor:
        return self.image(*(self.side + 5 - 2 * i for i in range(self.backbone.spatial_dims)), batch=1)

    @pytest.mark.parametrize("with_block", [True, False])
    def test_logits_have_the_images_grid(self, with_block: bool) -> None:
        net = self.net()
        if not with_block:
            net = LLM4SegNet(net.config.model_copy(update={"block": None}))
        net.eval()
        for image in (self.image(), self.odd(), self.image(*(1,) * self.backbone.spatial_dims, batch=1)):
            with torch.inference_mode():
                logits = net(image)
            assert logits.shape == (image.shape[0], net.config.out_channels, *image.shape[2:])
            assert torch.isfinite(logits).all()

    def test_the_encoder_keeps_its_promise(self) -> None:
        net = self.net().eval()
        backbone = net.backbone
        features = backbone.encode(self.image())
        assert [f.shape[1] for f in features] == list(backbone.out_channels) == list(self.backbone.widths)
        assert features[-1].shape[2:] == tuple(
            side // stride for side, stride in zip(self.image().shape[2:], backbone.output_stride, strict=True)
        )
        torch.testing.assert_close(backbone(self.image()), backbone.decode(features))

    @pytest.mark.parametrize("parts", ["adapters", "adapters+decoder", "all"])
    def test_training_parts_moves_these_alone(self, parts: str) -> None:
        net = lively(self.net(norm=True, gate="residual"), self.image())
        net.train_only(parts).train()  # type: ignore[arg-type]
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        weights = [p for p in net.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(weights, lr=1.0)
        logits = net(self.image())
        every = logits if isinstance(logits, tuple) else (logits,)
        torch.stack([each.square().mean() for each in every]).sum().backward()
        optimiser.step()
        moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
        own = {id(p) for part in net.backbone.encoder_parts() for p in part.parameters()}
        encoder = {f"backbone.{name}" for name, p in net.backbone.named_parameters() if id(p) in own}
        adapters = {name for name in moved if name.startswith(("block.bridge.", "block.gate"))}
        assert {"block.gate", "block.bridge.adapter_in.weight", "block.bridge.adapter_out.weight"} <= adapters
        assert not any(name.startswith(FROZEN_PREFIX) for name in moved)
        backbone = {name for name in moved if name.startswith("backbone.")}
        assert bool(backbone & encoder) == (parts == "all")
        assert bool(backbone - encoder) == (parts != "adapters")
        statistics = {name for name in moved if "running_" in name or "num_batches" in name}
        resting = {id(m) for part in net.backbone.encoder_parts() for m in part.modules()} if parts != "all" else set()
        assert not any(module.training for module in net.modules() if id(module) in resting)
        assert parts != "adapters" or not statistics

    def test_features_take_the_images_place(self) -> None:
        net = self.net().eval()
        for image in (self.image(), self.odd()):
            with torch.inference_mode():
                features = net.features(image)
                assert torch.equal(net(features), net(image))
            assert features.grid == tuple(image.shape[2:])
            assert features.ndim == image.ndim

    def test_every_skip_and_the_bottleneck_reach_the_logits(self) -> None:
        backbone = self.net().train().backbone  # untrained running statistics would drown what comes through
        with torch.no_grad():
            features = backbone.encode(self.image())
            logits = backbone.decode(features)
            for i, feature in enumerate(features):
                noise = torch.randn(feature.shape, generator=torch.Generator().manual_seed(i))
                assert not torch.allclose(backbone.decode([*features[:i], noise, *features[i + 1 :]]), logits), i

    def test_every_trained_weight_takes_a_gradient(self) -> None:
        net = self.net().train()
        net(self.image()).square().mean().backward()
        for name, parameter in net.named_parameters():
            if name.startswith(FROZEN_PREFIX):
                assert parameter.grad is None, name
            else:
                assert parameter.grad is not None, name
                assert torch.isfinite(parameter.grad).all(), name

    def test_a_trainable_layer_takes_a_gradient_too(self) -> None:
        net = self.net(frozen=False).train()
        net(self.image()).square().mean().backward()
        grads = [p.grad for name, p in net.named_parameters() if name.startswith(FROZEN_PREFIX)]
        assert grads
        assert all(grad is not None for grad in grads)

    def test_frozen_is_a_mode_that_survives_train(self) -> None:
        net = self.net()
        for _ in range(2):
            net.train()
            assert net.backbone.training
            layer = net.llm_block().layers[0]
            assert not any(module.training for module in layer.modules())
            assert not any(parameter.requires_grad for parameter in layer.parameters())
            net.eval()
        trainable = self.net(frozen=False).train().llm_block().layers[0]
        assert all(module.training for module in trainable.modules())

    def test_an_optimiser_step_moves_trained_weights_alone(self) -> None:
        net = self.net().train()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        optimiser = torch.optim.SGD((p for p in net.parameters()), lr=0.1, weight_decay=0.1)
        net(self.image()).square().mean().backward()
        optimiser.step()
        moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
        wanted = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        assert {name for name in moved if not name.endswith(statistics)} == wanted
        assert not any(name.startswith(FROZEN_PREFIX) for name in moved)

    @pytest.mark.parametrize("form", ["folder", "file", "file in a new folder"])
    @pytest.mark.parametrize("frozen", [True, False])
    def test_saved_and_loaded_computes_the_same(self, tmp_path: Path, form: str, frozen: bool) -> None:
        pack = write_pack(
            tmp_path / "layers" / "made",
            LLMLayer.random(SPEC, 7).state_dict(),
            LANGUAGE_MODEL,
            repository="made/layer",
            revision="1",
            index=2,
        )
        config = self.config(layers=(pack.ref,), frozen=frozen)
        net = LLM4SegNet(config, [pack.build(frozen)])
        if not frozen:
            with torch.no_grad():
                for parameter in net.llm_block().layers.parameters():
                    parameter.mul_(1.1)
        lively(net, self.image())
        stored = CheckpointConfig(
            model=config,
            preprocess=PreprocessConfig(patch=(16, 16, 16) if self.backbone.spatial_dims == 3 else None),
            card=Card(name="made"),
        )
        checkpoint = Checkpoint(stored, net.trained_tensors(), tmp_path)
        expected = expected_shapes(stored)
        assert {name for name in net.trained_tensors() if not name.startswith(FROZEN_PREFIX)} == set(expected)
        out = {"folder": "out", "file": "out.safetensors"}.get(form, "new/out.safetensors")
        loaded = Checkpoint.load(checkpoint.save(tmp_path / out))
        assert loaded.config == stored
        assert loaded.digest == checkpoint.digest
        again = loaded.build()
        assert not again.training
        with torch.inference_mode():
            assert torch.equal(again(self.odd()), net(self.odd()))

    def test_the_block_can_be_off_random_and_on_again(self) -> None:
        net = lively(self.net(), self.image())
        image = self.image()
        with torch.inference_mode():
            on = net(image)
            net.set_block("off")
            off = net(image)
            net.set_block("random", 3)
            random, names = net(image), set(net.state_dict())
            net.set_block("random", 3)
            assert torch.equal(net(image), random), "the same seed gives the same layer"
            net.set_block("random", 4)
            assert not torch.equal(net(image), random)
            net.set_block("on")
            assert torch.equal(net(image), on)
        assert names == set(net.state_dict()), "random weights are never saved"
        assert len({round(float(logits.double().abs().sum()), 6) for logits in (on, off, random)}) == 3
        with pytest.raises(ConfigError, match="on, off or random"):
            net.set_block("sideways")

    def test_the_layer_can_be_swapped(self) -> None:
        net = lively(self.net(), self.image()).train()
        other = LLMLayer.random(SPEC, 99)
        with torch.inference_mode():
            before = net.eval()(self.image())
            net.swap_layers([other])
            after = net(self.image())
            net.swap_layers([LLMLayer.random(SPEC, 7)])
            assert torch.equal(net(self.image()), before)
        assert not torch.equal(before, after)
        net.train()
        assert not other.training
        wide = LLMLayer.random(LayerSpec("llama", 64, 64, 4, 2, 16))
        with pytest.raises(ConfigError, match="width 64 does not fit"):
            net.swap_layers([wide])

    def test_a_model_without_block_says_so(self) -> None:
        net = LLM4SegNet(self.config().model_copy(update={"block": None}))
        with pytest.raises(ConfigError, match="no language-model block"):
            net.set_block("off")

    @pytest.mark.parametrize("gate", ["none", "residual"])
    @pytest.mark.parametrize("norm", [False, True])
    def test_folded_equals_unfolded(self, gate: str, norm: bool) -> None:
        net = lively(self.net(gate=gate, norm=norm), self.image())
        for state in ("on", "random", "off"):
            net.set_block(state)
            twin = net.folded()
            assert (twin is net) == (state == "off")
            with torch.inference_mode():
                for image in (self.image(), self.odd()):
                    assert relative(twin(image), net(image)) < 1e-5

    def test_a_gate_starts_shut(self) -> None:
        net = self.net(gate="residual").eval()
        with torch.inference_mode():
            assert torch.equal(net(self.image()), net.backbone(self.image()))

    def test_adapters_alone_are_a_model(self) -> None:
        net = lively(self.net(layers=()), self.image())
        with torch.inference_mode():
            assert torch.isfinite(net(self.odd())).all()
        assert net.folded() is net
