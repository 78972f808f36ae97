"""One forward, from the bottleneck on, as often as asked: with other layers, without a head, with tokens out of sight.

The encoder has run once and its features are kept. Nothing here changes the network: other layers are run beside its
own, other masks handed to its own, so there is nothing to put back, whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from napari_llm4seg.errors import Cancelled, ConfigError
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer

Cancel = Callable[[], bool]
OnProgress = Callable[[int, int, str], object]

# Forwards of the decoder at once. On a CPU one at a time is quickest (0.18 s each against 0.22 s in fours, CMUNeXt at
# 256 x 256): their features then stay in its cache.
_ON_CPU, _ELSEWHERE = 1, 8


@dataclass(frozen=True, eq=False)
class View:
    """The encoder's answer to one image, and what the block's layers make of it.

    Attributes
    ----------
    features : list of tensor (1, C_i, *grid_i)
    image_grid : of the image, in pixels
    mirrored : whether the image was flipped along its last axis
    """

    features: list[Tensor]
    image_grid: tuple[int, ...]
    mirrored: bool = False

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(self.features[-1].shape[2:])


class Replay:
    """Runs a network again from its bottleneck.

    Parameters
    ----------
    net : LLM4SegNet
        In eval mode, with an unfolded block; read only.
    views : sequence of View
        Their probabilities are averaged, mirrored ones turned back: one, or the image and its mirror image.
    head : {"sigmoid", "softmax"}
    layers : sequence of LLMLayer, optional
        Those of the forward; by default the ones that the network would run now.
    """

    def __init__(
        self,
        net: LLM4SegNet,
        views: Sequence[View],
        head: Literal["sigmoid", "softmax"],
        layers: Sequence[LLMLayer] | None = None,
    ) -> None:
        self.net, self.views, self.head = net, tuple(views), head
        self.block = net.llm_block()
        self.layers = list(self.block.running() if layers is None else layers)
        with torch.no_grad():
            self.steps = [self._steps(view) for view in self.views]

    def _steps(self, view: View) -> list[Tensor]:
        """Return the tokens (1, N, D) before every layer and behind the last."""
        steps = [self.block.bridge.enter(view.features[-1])]
        for layer in self.layers:
            steps.append(self.block.through(steps[-1], view.grid, [layer]))
        return steps

    def probabilities(
        self, tokens: Sequence[Tensor], cancel: Cancel | None = None, done: Callable[[int], object] | None = None
    ) -> Tensor:
        """Return the probabilities (M, K, *image grid), on the CPU, of tokens as they leave the layers.

        Parameters
        ----------
        tokens : for each view a tensor (M, N, D)
        cancel : callable -> bool, optional
        done : callable(int), optional
            Told how many of the M are finished.

        Raises
        ------
        Cancelled
        """
        count = len(tokens[0])
        batch = _ON_CPU if tokens[0].device.type == "cpu" else _ELSEWHERE
        parts = []
        for start in range(0, count, batch):
            if cancel is not None and cancel():
                raise Cancelled("Stopped.")
            chunk = [each[start : start + batch] for each in tokens]
            answers = [self._answer(view, each) for view, each in zip(self.views, chunk, strict=True)]
            parts.append(torch.stack(answers).mean(0).cpu())
            if done is not None:
                done(min(start + batch, count))
        return torch.cat(parts)

    def _answer(self, view: View, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            size = len(tokens)
            features = [each.expand(size, *each.shape[1:]) for each in view.features]
            bottleneck = features[-1]
            features[-1] = self.block.add(bottleneck, self.block.bridge.leave(tokens, view.grid))
            logits = self.net.decode(features, view.image_grid).float()
            found = logits.sigmoid() if self.head == "sigmoid" else logits.softmax(dim=1)
            return found.flip(-1) if view.mirrored else found

    def normal(self) -> list[Tensor]:
        """Return the tokens of the forward as it was."""
        return [steps[-1] for steps in self.steps]

    def with_layers(self, layers: Sequence[LLMLayer]) -> list[Tensor]:
        """Return the tokens behind other layers, none for the adapters alone.

        Raises
        ------
        ConfigError
            If a layer's width is not the adapters'.
        """
        self.block.check_fits(layers)
        device = self.steps[0][0].device
        with torch.no_grad():
            placed = [layer.to(device).eval() for layer in layers]
            return [self.block.through(steps[0], view.grid, placed) for view, steps in self._pairs()]

    def without_heads(self, number: int, heads: Sequence[int]) -> list[Tensor]:
        """Return the tokens with one head of a layer knocked out at a time, for each view (len(heads), N, D).

        The attention adds o_proj of all heads side by side, a sum over heads; a head is knocked out by taking its own
        term off, which equals zeroing what it mixed before o_proj. Only the MLP and what follows runs again.

        Parameters
        ----------
        number : int
            Of the layer, from 1.
        heads : sequence of int
            From 0.
        """
        if not 1 <= number <= len(self.layers):
            raise ConfigError(f"There is no layer {number}; {len(self.layers)} layer(s) run.")
        layer = self.layers[number - 1]
        wrong = [head for head in heads if not 0 <= head < layer.spec.heads]
        if wrong:
            raise ConfigError(f"Layer {number} has no head {wrong[0]}; it has heads 0 to {layer.spec.heads - 1}.")
        with torch.no_grad():
            return [self._without(view, steps[number - 1], number, heads) for view, steps in self._pairs()]

    def _pairs(self) -> list[tuple[View, list[Tensor]]]:
        return list(zip(self.views, self.steps, strict=True))

    def _without(self, view: View, x: Tensor, number: int, heads: Sequence[int]) -> Tensor:
        layer = self.layers[number - 1]
        inner, size = layer.self_attn, layer.spec.head_dim
        bridge = self.block.bridge
        angles = bridge.angles(layer.spec, view.grid, x.device)
        normed = layer.input_layernorm(x)
        q, k, v = inner.heads(inner.q_proj(normed), inner.k_proj(normed), inner.v_proj(normed), angles)
        mixed = inner.mix(q, k, v, bridge.mask(x.shape[1], x.device))
        attended = x + inner.o_proj(mixed)
        parts = [slice(head * size, (head + 1) * size) for head in heads]
        terms = torch.cat([mixed[..., part] @ inner.o_proj.weight[:, part].T for part in parts])
        h = attended - terms
        h = h + layer.mlp(layer.post_attention_layernorm(h))
        return self.block.through(h, view.grid, self.layers[number:])

    def with_blocked(self, regions: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return the tokens where a region's tokens cannot be looked at, one region at a time, (len(regions), N, D).

        In every layer their keys are masked for all other tokens. A blocked token still sees itself and keeps its own
        features, which pass along the residual: what is blocked is the flow from it to others.

        Parameters
        ----------
        regions : sequence of sequences of int
            Tokens of the image as it lies; a mirrored view blocks those at the mirrored places.
        """
        with torch.no_grad():
            answers = []
            for view, steps in self._pairs():
                n_tokens = steps[0].shape[1]
                own = self.block.bridge.mask(n_tokens, steps[0].device)
                hidden = torch.zeros(len(regions), n_tokens, dtype=torch.bool, device=own.device)
                for row, region in zip(hidden, regions, strict=True):
                    row[self._seen_in(view, region)] = True
                masks = own & ~hidden[:, None, :]
                masks |= torch.eye(n_tokens, dtype=torch.bool, device=own.device)
                tokens = steps[0].expand(len(regions), -1, -1)
                answers.append(self.block.through(tokens, view.grid, self.layers, masks[:, None]))
            return answers

    def _seen_in(self, view: View, region: Sequence[int]) -> list[int]:
        n_tokens = self.steps[0][0].shape[1]
        wrong = [token for token in region if not 0 <= token < n_tokens]
        if wrong:
            raise ConfigError(f"There is no token {wrong[0]}; the slice has tokens 0 to {n_tokens - 1}.")
        if not view.mirrored:
            return list(region)
        width = view.grid[-1]
        # padding lies behind the image, so a mirrored cell may straddle two; the nearer is taken
        spare = self.net.backbone.fitting(view.image_grid)[-1] - view.image_grid[-1]
        shift = round(spare * width / self.net.backbone.fitting(view.image_grid)[-1])
        return [t - t % width + max(0, width - 1 - shift - t % width) for t in region]
