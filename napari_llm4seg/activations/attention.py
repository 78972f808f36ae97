"""What one token looks at, and who looks at it: read from recorded weights, in words where nothing can be read.

For weights a[h, i, j] of head h (row i looks at column j; rows sum to 1):

- from token i          a[h, i, :], adds up to 1
- to token i            a[h, :, i], how much every token takes from it; adds up to anything
- entropy               H[h, i] = - sum_j a ln a (nats): 0 where one token has all, ln n where n seen ones share evenly
- rollout               R = B_L ... B_2 B_1 with B = (mean over heads of a + 1) / 2 for each layer: what reaches a token
                        through all layers, the 1 standing for the residual around the attention (Abnar and Zuidema,
                        arXiv 2005.00928). It knows nothing of the MLPs and of the values' sizes.

Under a causal mask a token sees itself and those before it in raster order alone: everything to its lower right is not
unimportant but out of sight, and is marked so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.errors import ConfigError, InputError

Float = npt.NDArray[np.float32]
Way = Literal["from", "to"]
Head = int | Literal["mean", "max"]

ROLLOUT = "R = B_L ... B_1, B = (mean over heads of attention + identity) / 2"
ENTROPY = "H = - sum a ln a over the tokens that are seen, in nats"


@dataclass(frozen=True, eq=False)
class TokenMap:
    """One number for each token.

    Attributes
    ----------
    values : array (N,), float32; 0 where not visible
    visible : array (N,), bool; False where the mask lets nothing pass, whatever the weights
    title : what it shows, in words
    unit : of the values
    about : what was asked: token, way, head, layer
    """

    values: Float
    visible: npt.NDArray[np.bool_]
    title: str
    unit: str = "share of attention"
    about: dict[str, Any] = field(default_factory=dict)


def check_token(token: int, n_tokens: int) -> None:
    """Raise InputError where there is no such token."""
    if not 0 <= token < n_tokens:
        raise InputError(f"There is no token {token}; the slice has tokens 0 to {n_tokens - 1}.")


def by_head(weights: Tensor, token: int, way: Way) -> Float:
    """Return the attention from or to ``token``, (heads, N).

    Parameters
    ----------
    weights : tensor (heads, N, N)
    token : int
    way : {"from", "to"}
    """
    check_token(token, weights.shape[-1])
    if way not in ("from", "to"):
        raise ConfigError(f"Attention goes 'from' or 'to' a token, not '{way}'.")
    taken = weights[:, token] if way == "from" else weights[:, :, token]
    values: Float = taken.float().cpu().numpy()
    return values


def joined(heads: Float, head: Head) -> Float:
    """Return one head of (heads, ...), or their mean or largest value."""
    if head == "mean":
        return np.asarray(heads.mean(axis=0))
    if head == "max":
        return np.asarray(heads.max(axis=0))
    if isinstance(head, str) or not 0 <= head < len(heads):
        raise ConfigError(f"There is no head '{head}'; give mean, max or 0 to {len(heads) - 1}.")
    return np.asarray(heads[head])


def visible(mask: Tensor, token: int, way: Way) -> npt.NDArray[np.bool_]:
    """Return which tokens ``token`` can see ("from"), or can see it ("to"), under a mask (N, N), bool."""
    check_token(token, len(mask))
    row = mask[token] if way == "from" else mask[:, token]
    seen: npt.NDArray[np.bool_] = row.cpu().numpy()
    return seen


def entropy(weights: Tensor) -> Float:
    """Return the entropy of every head's row in nats, (heads, N), for weights (heads, N, N)."""
    a = weights.float()
    values: Float = torch.special.entr(a).sum(-1).cpu().numpy()
    return values


def entropy_share(weights: Tensor, mask: Tensor) -> Float:
    """Return the entropy over its largest possible, ln(number of visible tokens), (heads, N) in [0, 1].

    A token that sees one token alone has no choice and counts 0.
    """
    most = np.log(np.maximum(mask.sum(-1).cpu().numpy(), 1)).astype(np.float32)
    share: Float = np.clip(entropy(weights) / np.where(most > 0, most, 1.0), 0.0, 1.0)
    return share


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """Return the rollout (N, N) of the weights (heads, N, N) of each layer, in the order they ran.

    Rows sum to 1; row i says from which tokens of the first layer's input token i is made.
    """
    if not layers:
        raise InputError("No layer ran, so there is no attention to follow.")
    result: Tensor | None = None
    for weights in layers:
        mean = weights.float().mean(0)
        step = (mean + torch.eye(len(mean), device=mean.device)) / 2
        result = step if result is None else step @ result
    assert result is not None
    return result


def token_map(
    layers: Sequence[Tensor],
    mask: Tensor,
    token: int,
    way: Way = "from",
    head: Head = "mean",
    layer: int | Literal["mean", "rollout"] = 1,
) -> TokenMap:
    """Return one map of attention.

    Parameters
    ----------
    layers : sequence of tensor (heads, N, N)
        Weights of every layer that ran.
    mask : tensor (N, N), bool
        The forward's own.
    token : int
    way : {"from", "to"}
    head : int, "mean" or "max"
        Counted from 0.
    layer : int, "mean" or "rollout"
        From 1; the mean over layers; or the rollout through all, for which heads are always averaged.

    Raises
    ------
    InputError, ConfigError
        If there is no such token, head or layer.
    """
    seen = visible(mask, token, way)
    direction = "looks at" if way == "from" else "is looked at by"
    about = {"token": token, "way": way, "head": head, "layer": layer}
    if layer == "rollout":
        values = joined(by_head(rollout(layers)[None], token, way), "mean")
        title = f"What token {token} {'is made of' if way == 'from' else 'goes into'}: rollout, {len(layers)} layer(s)"
        return TokenMap(values, seen, title, about=about | {"head": "mean", "formula": ROLLOUT})
    if layer == "mean":
        values = np.mean([joined(by_head(weights, token, way), head) for weights in layers], axis=0)
        which = f"mean over {len(layers)} layers"
    else:
        if not 1 <= layer <= len(layers):
            raise ConfigError(f"There is no layer {layer}; {len(layers)} layer(s) ran.")
        values = joined(by_head(layers[layer - 1], token, way), head)
        which = f"layer {layer}"
    heads = f"head {head}" if isinstance(head, int) else f"{head} over heads"
    return TokenMap(
        np.asarray(values, np.float32), seen, f"What token {token} {direction}: {heads}, {which}", about=about
    )
