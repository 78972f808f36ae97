"""LLM4Seg (arXiv 2506.18034): a CNN encoder-decoder whose bottleneck passes through a frozen language-model layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_llm4seg.config import ModelConfig, Parts
from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.backbone import build_backbone
from napari_llm4seg.models.block import BlockState, LLMBlock
from napari_llm4seg.models.llm_layer import LLMLayer

FROZEN_PREFIX = "block.layers."


class Features(NamedTuple):
    """What the encoder made of a batch of images; a network takes it in the images' place.

    Attributes
    ----------
    stages : tensors (B, C_i, *grid_i), shallow to deep
    grid : the images' sizes in pixels or voxels, before any padding; or those of the windows
    corners : int64 tensor (B, axes) or None
        Where only windows of the images are to be decoded: their first bottleneck cells. All stages but the last, which
        the block needs whole, are cut to the windows already.
    """

    stages: tuple[Tensor, ...]
    grid: tuple[int, ...]
    corners: Tensor | None = None

    @property
    def ndim(self) -> int:
        """That of the images, batch and channels counted."""
        return 2 + len(self.grid)

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.preserve_format) -> Features:
        stages = tuple(stage.to(device, memory_format=memory_format) for stage in self.stages)
        return Features(stages, self.grid, self.corners)

    def windows(self, corners: Tensor, cells: tuple[int, ...]) -> Features:
        """Return windows of ``cells`` bottleneck cells that begin at ``corners`` (B, axes); the images' sides fit."""
        last = self.stages[-1]
        cut = tuple(cut_windows(stage, corners, cells, last.shape[2:]) for stage in self.stages[:-1])
        grid = tuple(n * side // full for n, side, full in zip(cells, self.grid, last.shape[2:], strict=True))
        return Features((*cut, last), grid, corners)


class LLM4SegNet(nn.Module):
    """Backbone encoder -> language-model block -> backbone decoder.

    Parameters
    ----------
    config : ModelConfig
    layers : sequence of LLMLayer
        The decoder layers ``config.block.layers`` names, in that order.
    """

    parts: Parts = "all"  # what ``train_only`` left trainable

    def __init__(self, config: ModelConfig, layers: Sequence[LLMLayer] = ()) -> None:
        super().__init__()
        self.config = config
        wanted = 0 if config.block is None else len(config.block.layers)
        if len(layers) != wanted:
            raise ConfigError(f"The model needs {wanted} frozen layer(s), {len(layers)} came.")
        self.backbone = build_backbone(config.backbone, config.out_channels)
        bottleneck = self.backbone.out_channels[-1]
        self.block: nn.Module | None = None if config.block is None else LLMBlock(bottleneck, config.block, layers)

    def forward(self, image: Tensor | Features) -> Tensor | tuple[Tensor, ...]:
        """Return logits for an image of any size.

        Parameters
        ----------
        image : tensor (B, C, *grid), normalised
            Sides that ``output_stride`` does not divide are padded with edge values and cropped again. Features that
            ``features`` gave do as well.

        Returns
        -------
        tensor (B, K, *grid)
            While a network with deep supervision trains, a tuple: these, then the logits of its lower stages, fine to
            coarse, (B, K, *grid / stride), each side rounded up.
        """
        encoded = image if isinstance(image, Features) else self.features(image)
        features, grid = list(encoded.stages), encoded.grid
        if self.block is not None:
            features[-1] = self.block(features[-1])
        if encoded.corners is not None:
            cells = [side // stride for side, stride in zip(grid, self.backbone.output_stride, strict=True)]
            features[-1] = cut_windows(features[-1], encoded.corners, cells, features[-1].shape[2:])
        if self.training and self.config.backbone.deep_supervision:
            wanted = self.backbone.fitting(grid)
            return tuple(_crop(logits, grid, wanted) for logits in self.backbone.decode_deep(features))
        return self.decode(features, grid)

    def features(self, image: Tensor) -> Features:
        """Return what ``forward`` takes in the place of an image (B, C, *grid): all that precedes the block."""
        return Features(tuple(self.encode(image)), tuple(image.shape[2:]))

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the encoder's features of an image (B, C, *grid) padded to the stride, shallow to deep."""
        grid = image.shape[2:]
        wanted = self.backbone.fitting(grid)
        padding = [pad for side, full in zip(grid[::-1], wanted[::-1], strict=True) for pad in (0, full - side)]
        if any(padding):
            image = F.pad(image, padding, mode="replicate")
        return self.backbone.encode(image)

    def decode(self, features: list[Tensor], grid: Sequence[int]) -> Tensor:
        """Return logits (B, K, *grid) from ``encode``'s features, whose last has passed the block."""
        return _crop(self.backbone.decode(features), grid, self.backbone.fitting(grid))

    def train_only(self, parts: Parts) -> LLM4SegNet:
        """Leave ``parts`` trainable and nothing else; returns itself.

        What is left out takes no gradient, and ``.train()`` leaves it in eval mode, so that its batch statistics stay
        too.

        Parameters
        ----------
        parts : {"adapters", "adapters+decoder", "all"}
            "adapters": the block's linears, norm and gate. "adapters+decoder": the backbone's decoder and head too; of
            a network without a block these alone. "all": the encoder too, and layers that the config does not freeze.

        Raises
        ------
        ConfigError
            If adapters alone are asked for and the network has none.
        """
        if parts == "adapters" and self.config.block is None:
            raise ConfigError(
                "This checkpoint has no language-model block, so it has no adapters to train; "
                "choose adapters+decoder (its decoder) or all."
            )
        self.parts = parts
        self.requires_grad_(True)
        for module in self._resting():
            module.requires_grad_(False)
        if isinstance(self.block, LLMBlock):
            for layer in self.block.layers:
                cast(LLMLayer, layer).freeze(self.block.config.frozen or parts != "all")
        return self.train(self.training)

    def _resting(self) -> list[nn.Module]:
        """Return the modules of the backbone that do not train."""
        if self.parts == "all":
            return []
        return [self.backbone] if self.parts == "adapters" else self.backbone.encoder_parts()

    def train(self, mode: bool = True) -> LLM4SegNet:
        super().train(mode)
        for module in self._resting():
            module.eval()
        return self

    def llm_block(self) -> LLMBlock:
        """Return the block.

        Raises
        ------
        ConfigError
            If the model has none, or carries its folded twin, which cannot be changed.
        """
        if not isinstance(self.block, LLMBlock):
            raise ConfigError("This model has no language-model block that can be switched.")
        return self.block

    def set_block(self, state: BlockState, seed: int = 0) -> None:
        """Switch the block: "on", "off" (adapters only) or "random"; see ``LLMBlock.set_state``."""
        self.llm_block().set_state(state, seed)

    def swap_layers(self, layers: Sequence[LLMLayer]) -> None:
        """Run other decoder layers of the same width; see ``LLMBlock.swap``."""
        self.llm_block().swap(layers)

    def folded(self) -> LLM4SegNet:
        """Return a network of equal output that shares this one's weights, its block folded for speed.

        The fold is taken once, from the block's present state; the network itself where there is nothing to fold.
        """
        if not isinstance(self.block, LLMBlock) or not self.block.running():
            return self
        from napari_llm4seg.models.folded import FoldedBlock

        twin = LLM4SegNet.__new__(LLM4SegNet)
        nn.Module.__init__(twin)
        twin.config = self.config
        twin.backbone = self.backbone
        twin.block = FoldedBlock(self.block)
        return twin.train(self.training)

    def trained_tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds: every weight and buffer except those of frozen layers."""
        frozen = self.config.block is not None and self.config.block.frozen
        return {
            name: tensor.detach()
            for name, tensor in self.state_dict().items()
            if not (frozen and name.startswith(FROZEN_PREFIX))
        }


def cut_windows(values: Tensor, corners: Tensor, cells: Sequence[int], coarse: Sequence[int]) -> Tensor:
    """Return of each of ``values`` (B, C, *grid) the window of ``cells`` from ``corners`` (B, axes) on.

    ``corners`` and ``cells`` count on the grid ``coarse``, whose sides divide those of ``values``.
    """
    factors = [side // full for side, full in zip(values.shape[2:], coarse, strict=True)]
    cut = []
    for value, corner in zip(values, corners.tolist(), strict=True):
        for axis, (start, n, factor) in enumerate(zip(corner, cells, factors, strict=True), start=1):
            value = value.narrow(axis, start * factor, n * factor)
        cut.append(value)
    return torch.stack(cut)


def _crop(logits: Tensor, grid: Sequence[int], padded: Sequence[int]) -> Tensor:
    """Cut away what stands on padding; ``logits`` may be coarser than the padded image."""
    for axis, (side, full) in enumerate(zip(grid, padded, strict=True), start=2):
        logits = logits.narrow(axis, 0, -(-side * logits.shape[axis] // full))
    return logits
