"""Between a CNN's bottleneck and a language model's tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from napari_llm4seg.config import MaskKind, Positions
from napari_llm4seg.models.llm_layer import Angles
from napari_llm4seg.models.spec import LayerSpec


def to_tokens(features: Tensor) -> Tensor:
    """Flatten (B, C, *grid) into tokens (B, N, C) in raster order (last axis fastest)."""
    return features.flatten(2).transpose(1, 2)


def to_features(tokens: Tensor, grid: Sequence[int]) -> Tensor:
    """Fold tokens (B, N, C) back into (B, C, *grid)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)


def build_mask(n_tokens: int, kind: MaskKind) -> Tensor:
    """Return the (N, N) bool mask, True where the row's token may look at the column's.

    "causal" lets a token see itself and those before it in raster order; "full" lets it see all.
    """
    full = torch.ones(n_tokens, n_tokens, dtype=torch.bool)
    return full.tril() if kind == "causal" else full


def build_angles(spec: LayerSpec, grid: Sequence[int], positions: Positions) -> Angles | None:
    """Return the rotary angles for a grid of tokens.

    Parameters
    ----------
    spec : LayerSpec
    grid : sizes (h, w) or (d, h, w) of the token grid
    positions : {"none", "own", "axial", "paper"}
        "own": the model's own rotary embedding of the flat raster index. "axial": the model's frequencies dealt out
        in turn to the grid's axes, each turning with its own coordinate. "paper": what the published code computes,
        which hands (sin, cos) of the flat index, in radians, to a layer that takes them as (cos, sin), on all
        channels alike.

    Returns
    -------
    Angles, each (N, head_dim) float32, or None for "none"
    """
    if positions == "none":
        return None
    index = torch.arange(math.prod(grid))
    if positions == "paper":
        shape = (len(index), spec.head_dim)
        return Angles(index.sin()[:, None].expand(shape), index.cos()[:, None].expand(shape))
    inverse = spec.inverse_frequencies()
    if positions == "own":
        half = index.float()[:, None] * inverse
    else:
        axes = torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij"), -1).flatten(0, -2).float()
        half = axes[:, torch.arange(len(inverse)) % len(grid)] * inverse
    angles = torch.cat((half, half), dim=-1)
    return Angles(angles.cos(), angles.sin())


class TokenBridge(nn.Module):
    """Linear adapters around the tokens, with the angles and the mask for any grid.

    Parameters
    ----------
    channels : int
        C of the bottleneck.
    hidden : int
        Width of the language model.
    positions, mask, norm
        As in ``BlockConfig``.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        positions: Positions = "own",
        mask: MaskKind = "causal",
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.positions: Positions = positions
        self.mask_kind: MaskKind = mask
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.adapter_in = nn.Linear(channels, hidden)
        self.adapter_out = nn.Linear(hidden, channels)

    def enter(self, features: Tensor) -> Tensor:
        """Return bottleneck features (B, C, *grid) as language-model tokens (B, N, hidden)."""
        tokens: Tensor = self.adapter_in(self.norm(to_tokens(features)))
        return tokens

    def leave(self, tokens: Tensor, grid: Sequence[int]) -> Tensor:
        """Return language-model tokens (B, N, hidden) as bottleneck features (B, C, *grid)."""
        return to_features(self.adapter_out(tokens), grid)

    def angles(self, spec: LayerSpec, grid: Sequence[int], device: torch.device) -> Angles | None:
        """Return ``build_angles`` on ``device``, remembered per grid."""
        return _angles_on(spec, tuple(grid), self.positions, device)

    def mask(self, n_tokens: int, device: torch.device) -> Tensor:
        """Return ``build_mask`` on ``device``, remembered per number of tokens."""
        return _mask_on(n_tokens, self.mask_kind, device)


# Small caches: a run meets one or two grids; a 3-D mask of 4096 tokens is 16 MB.
@lru_cache(maxsize=8)
def _angles_on(spec: LayerSpec, grid: tuple[int, ...], positions: Positions, device: torch.device) -> Angles | None:
    with torch.inference_mode(False):
        angles = build_angles(spec, grid, positions)
        return None if angles is None else Angles(angles.cos.to(device), angles.sin.to(device))


@lru_cache(maxsize=4)
def _mask_on(n_tokens: int, kind: MaskKind, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return build_mask(n_tokens, kind).to(device)
