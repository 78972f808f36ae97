"""The language-model block at a network's bottleneck: adapter in, frozen layers, adapter out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from napari_llm4seg.config import BlockConfig
from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.bridge import TokenBridge
from napari_llm4seg.models.llm_layer import LLMLayer

BlockState = Literal["on", "off", "random"]


class LLMBlock(nn.Module):
    """Bottleneck features through a bridge and decoder layers.

    Parameters
    ----------
    channels : int
        C of the bottleneck.
    config : BlockConfig
    layers : sequence of LLMLayer
        In the order they run; all of one width. Empty for adapters only.
    """

    def __init__(self, channels: int, config: BlockConfig, layers: Sequence[LLMLayer]) -> None:
        super().__init__()
        for layer in layers:
            if layer.spec.hidden != config.hidden:
                raise ConfigError(
                    f"A layer of width {layer.spec.hidden} came for a block of width {config.hidden}; "
                    "the block's hidden needs to be that of its language model."
                )
        self.config = config
        self.state: BlockState = "on"
        self.swapped = False  # whether other layers run than those the config names, for the record
        self.hidden = config.hidden
        self.bridge = TokenBridge(channels, self.hidden, config.positions, config.mask, config.norm)
        self.layers = nn.ModuleList(layers)
        for layer in layers:
            layer.freeze(config.frozen)
        # One number, starting at 0: training begins with the plain CNN and lets the block in as far as it helps.
        self.gate = nn.Parameter(torch.zeros(1)) if config.gate == "residual" else None
        self._random: list[LLMLayer] = []  # outside the module tree: never saved, never trained

    def set_state(self, state: BlockState, seed: int = 0) -> None:
        """Run the real layers ("on"), skip them but keep the adapters ("off"), or run random ones ("random").

        Parameters
        ----------
        state : {"on", "off", "random"}
        seed : int
            Of the random weights.
        """
        if state not in get_args(BlockState):
            raise ConfigError(f"The block cannot be '{state}'; it can be on, off or random.")
        self.state = state
        self._random = []
        if state == "random":
            device = self.bridge.adapter_in.weight.device
            self._random = [
                LLMLayer.random(layer.spec, seed + i).to(device).eval() for i, layer in enumerate(self.running("on"))
            ]

    def swap(self, layers: Sequence[LLMLayer]) -> None:
        """Run other decoder layers of the same width from now on.

        Raises
        ------
        ConfigError
            If a layer's width differs from what the adapters were made for.
        """
        self.check_fits(layers)
        device = self.bridge.adapter_in.weight.device
        self.layers = nn.ModuleList(layer.freeze(self.config.frozen).to(device) for layer in layers)
        self.swapped = True
        self.set_state("on")

    def check_fits(self, layers: Sequence[LLMLayer]) -> None:
        """Raise ConfigError where a layer's width differs from what the adapters were made for."""
        for layer in layers:
            if layer.spec.hidden != self.hidden:
                raise ConfigError(
                    f"A layer of width {layer.spec.hidden} does not fit adapters of width {self.hidden}; "
                    "choose a layer of the same language model, or train new adapters."
                )

    def running(self, state: BlockState | None = None) -> list[LLMLayer]:
        """Return the layers that a forward in ``state`` (default: the present one) runs."""
        state = state or self.state
        if state == "random":
            return self._random
        return [layer for layer in self.layers if isinstance(layer, LLMLayer)] if state == "on" else []

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LLMBlock:
        """Move the random layers too, which are outside the module tree."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for layer in self._random:
            layer._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C, *grid) of the same shape."""
        grid = features.shape[2:]
        tokens = self.through(self.bridge.enter(features), grid, self.running())
        return self.add(features, self.bridge.leave(tokens, grid))

    def through(
        self, tokens: Tensor, grid: Sequence[int], layers: Sequence[LLMLayer], mask: Tensor | None = None
    ) -> Tensor:
        """Return tokens (B, N, hidden) after ``layers``, one after the other.

        Parameters
        ----------
        tokens : tensor (B, N, hidden)
        grid : sizes whose product is N
        layers : sequence of LLMLayer
        mask : tensor (N, N) or (B, 1, N, N), bool, optional
            In place of the block's own; True where the row's token may look at the column's.
        """
        mask = self.bridge.mask(tokens.shape[1], tokens.device) if mask is None else mask
        for layer in layers:
            tokens = layer(tokens, self.bridge.angles(layer.spec, grid, tokens.device), mask)
        return tokens

    def add(self, features: Tensor, out: Tensor) -> Tensor:
        """Join the block's output with its input as the gate says."""
        return out if self.gate is None else features + self.gate * out
