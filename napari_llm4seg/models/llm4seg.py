"""LLM4Seg (arXiv 2506.18034): a CNN encoder-decoder whose bottleneck passes through a frozen language-model layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from napari_llm4seg.config import ModelConfig
from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.backbone import build_backbone
from napari_llm4seg.models.block import BlockState, LLMBlock
from napari_llm4seg.models.llm_layer import LLMLayer

FROZEN_PREFIX = "block.layers."


class LLM4SegNet(nn.Module):
    """Backbone encoder -> language-model block -> backbone decoder.

    Parameters
    ----------
    config : ModelConfig
    layers : sequence of LLMLayer
        The decoder layers ``config.block.layers`` names, in that order.
    """

    def __init__(self, config: ModelConfig, layers: Sequence[LLMLayer] = ()) -> None:
        super().__init__()
        self.config = config
        wanted = 0 if config.block is None else len(config.block.layers)
        if len(layers) != wanted:
            raise ConfigError(f"The model needs {wanted} frozen layer(s), {len(layers)} came.")
        self.backbone = build_backbone(config.backbone, config.out_channels)
        bottleneck = self.backbone.out_channels[-1]
        self.block: nn.Module | None = None if config.block is None else LLMBlock(bottleneck, config.block, layers)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits for an image of any size.

        Parameters
        ----------
        image : tensor (B, C, *grid), normalised
            Sides that ``output_stride`` does not divide are padded with edge values and cropped again.

        Returns
        -------
        tensor (B, K, *grid)
            While a network with deep supervision trains, a tuple: these, then the logits of its lower stages, fine to
            coarse, (B, K, *grid / stride), each side rounded up.
        """
        grid = image.shape[2:]
        features = self.encode(image)
        if self.block is not None:
            features[-1] = self.block(features[-1])
        if self.training and self.config.backbone.deep_supervision:
            wanted = self.backbone.fitting(grid)
            return tuple(_crop(logits, grid, wanted) for logits in self.backbone.decode_deep(features))
        return self.decode(features, grid)

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


def _crop(logits: Tensor, grid: Sequence[int], padded: Sequence[int]) -> Tensor:
    """Cut away what stands on padding; ``logits`` may be coarser than the padded image."""
    for axis, (side, full) in enumerate(zip(grid, padded, strict=True), start=2):
        logits = logits.narrow(axis, 0, -(-side * logits.shape[axis] // full))
    return logits
