"""The published network written anew from its description: what a state dict of it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Add(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(x)


def conv(channels: int, out: int, size: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, size, 1, size // 2, groups=groups)


def act(channels: int) -> list[nn.Module]:
    return [nn.GELU(), nn.BatchNorm2d(channels)]


class Holder(nn.Module):
    """A module with one child under a chosen name."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x


class Published(nn.Module):
    """CMUNeXt, with LLM4Seg where a transformers decoder layer is given; three channels in, one out."""

    def __init__(
        self, widths: tuple[int, ...], depths: tuple[int, ...], kernels: tuple[int, ...], llm: nn.Module | None = None
    ) -> None:
        super().__init__()
        before = (widths[0], *widths)
        self.stem = self._block(3, widths[0])
        for i, (width, depth, kernel) in enumerate(zip(widths, depths, kernels, strict=True)):
            c = before[i]
            mixers = [
                nn.Sequential(
                    Add(nn.Sequential(conv(c, c, kernel, c), *act(c))),
                    *(conv(c, c * 4, 1), *act(c * 4)),
                    *(conv(c * 4, c, 1), *act(c)),
                )
                for _ in range(depth)
            ]
            self.add_module(f"encoder{i + 1}", Holder(block=nn.Sequential(*mixers), up=self._block(c, width)))
        for i in range(len(widths), 1, -1):
            deep, c = widths[i - 1], widths[i - 2]
            up = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear"), conv(deep, c, 3), nn.BatchNorm2d(c), nn.ReLU()
            )
            self.add_module(f"Up{i}", Holder(up=up))
            fuse = nn.Sequential(
                *(conv(c * 2, c * 2, 3, 2), *act(c * 2)),
                *(conv(c * 2, c * 4, 1), *act(c * 4)),
                *(conv(c * 4, c, 1), *act(c)),
            )
            self.add_module(f"Up_conv{i}", Holder(conv=fuse))
        self.Conv_1x1 = nn.Conv2d(widths[0], 1, 1)
        self.stages = len(widths)
        if llm is not None:
            hidden = llm.hidden_size
            self.llm4seg = nn.Module()
            self.llm4seg.adapter1 = nn.Linear(widths[-1], hidden)
            self.llm4seg.llm = llm
            self.llm4seg.adapter2 = nn.Linear(hidden, widths[-1])

    @staticmethod
    def _block(channels: int, out: int) -> Holder:
        return Holder(conv=nn.Sequential(conv(channels, out, 3), nn.BatchNorm2d(out), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        x = self.stem(x)
        for i in range(self.stages):
            if i:
                x = nn.functional.max_pool2d(x, 2, 2)
            x = self.get_submodule(f"encoder{i + 1}")(x)
            skips.append(x)
        if hasattr(self, "llm4seg"):
            x = self.through_language_model(x)
        for i in range(self.stages, 1, -1):
            x = self.get_submodule(f"Up{i}")(x)
            x = self.get_submodule(f"Up_conv{i}")(torch.cat([skips[i - 2], x], 1))
        return self.Conv_1x1(x)

    def through_language_model(self, x: Tensor) -> Tensor:
        """No mask, and the sine where the layer takes the cosine."""
        b, c, h, w = x.shape
        tokens = self.llm4seg.adapter1(x.reshape(b, c, h * w).permute(0, 2, 1))
        index = torch.arange(h * w).float().reshape(1, h * w, 1)
        out = self.llm4seg.llm(tokens, attention_mask=None, position_embeddings=[index.sin(), index.cos()])
        tokens = self.llm4seg.adapter2(out[0] if isinstance(out, tuple) else out)
        return tokens.permute(0, 2, 1).reshape(b, c, h, w)


def decoder_layer(config: Mapping[str, Any]) -> nn.Module:
    """Return transformers' decoder layer of a "llama" or "qwen2" config, under SDPA, with random weights."""
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer
    from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
    from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

    settings, layer = {"llama": (LlamaConfig, LlamaDecoderLayer), "qwen2": (Qwen2Config, Qwen2DecoderLayer)}[
        config["model_type"]
    ]
    plain = {key: value for key, value in config.items() if key != "model_type"}
    return layer(settings(**plain, attn_implementation="sdpa"), 0)


def made_images(count: int, seed: int) -> Tensor:
    """Return smooth colour images (count, 3, 256, 256) in [0, 1]: noise alone leaves deep layers nothing to tell."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 9, 9, generator=generator)
    smooth = nn.functional.interpolate(coarse, (256, 256), mode="bicubic")
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give gains and biases values of their own and running statistics those of the network's own features.

    So no two can be swapped unnoticed, and the signal stays alive through the whole depth, as in a trained network.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.weight.add_((torch.rand(module.weight.shape, generator=generator) - 0.5) * 0.4)
                module.bias.add_((torch.rand(module.bias.shape, generator=generator) - 0.5) * 0.4)
        # inputs are about 0.01: next to a bias of ordinary size they would drown in rounding
        net.stem.conv[0].bias.mul_(0.01)
        images = (made_images(2, seed) - 0.45) / 0.225 / 255
        net.train()(images)
        for name, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d) and not name.startswith("stem"):
                # a channel that is all but silent must not be blown up, rounding errors and all
                module.running_var.clamp_(min=0.1)
        logits = net.eval()(images)
        for parameter in net.Conv_1x1.parameters():
            parameter.div_(logits.std())  # logits of ordinary size, against which a tolerance means something
    return net
