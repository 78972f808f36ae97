"""Whether recorded attention is that of the forward that made the mask: the forward computed again from it.

Asking a network for its attention weights the easy way can run another network: under another mask, or at other
positions. So nothing is shown on trust. From what a layer took in, x, and the recorded weights A of its heads:

- rows      every row of A sums to 1, and nothing lies where the forward's own mask forbids a look
- weights   A against softmax(q k^T / sqrt d), with q and k made from x anew, under the mask and the rotary angles that
            the forward handed to the layer
- output    y = h + MLP(norm(h)), h = x + W_o (A v), v made from x anew, against the layer's recorded output
- logits    the whole block and the decoder run on these outputs, against the recorded logits

A difference is given absolutely and relative: for every token the largest difference over the token's largest value,
then the largest over tokens; weights and logits over their largest value. float32 rounds at 6e-8, so 1e-5 leaves room
for another order of the same sums and none for another network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_llm4seg.activations.recorder import Activations
from napari_llm4seg.errors import ConfigError, ProofError
from napari_llm4seg.models.block import LLMBlock
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer, attention_weights

TOLERANCE = 1e-5
# float16 keeps 11 bits of every weight
HALF_TOLERANCE = 2e-3


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes
    ----------
    name : what was compared, e.g. "layer 1 output"
    largest_difference : in the compared values' own unit
    relative : as the module says
    tolerance : largest ``relative`` that passes
    """

    name: str
    largest_difference: float
    relative: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.relative <= self.tolerance  # not for NaN


@dataclass(frozen=True)
class Proof:
    """Comparisons of one recorded forward.

    Attributes
    ----------
    checks : tuple of Check, at least one
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def worst(self) -> Check:
        """The check nearest to its tolerance, or furthest beyond."""
        return max(self.checks, key=lambda check: (not check.ok, check.relative / check.tolerance))

    @property
    def largest_difference(self) -> float:
        return self.worst.largest_difference

    @property
    def relative(self) -> float:
        return self.worst.relative

    @property
    def tolerance(self) -> float:
        return self.worst.tolerance

    @property
    def words(self) -> str:
        """What a person is told."""
        worst = self.worst
        amount = f"{worst.relative:.1e} (relative; {worst.tolerance:.0e} is allowed)"
        if self.ok:
            return (
                f"Same forward as the mask's: computed again from this attention, nothing is off by more than {amount}."
            )
        return (
            f"Nothing is drawn: computed again from the recorded attention, {worst.name} is off by {amount}, so it is "
            "not the attention of the forward that made the mask."
        )

    def require(self) -> None:
        """Raise ProofError, with the reason, where a check failed."""
        if not self.ok:
            raise ProofError(self.words)

    def as_dict(self) -> dict[str, object]:
        """Return what goes into a report."""
        return {
            "ok": self.ok,
            "largest_difference": self.largest_difference,
            "relative": self.relative,
            "tolerance": self.tolerance,
            "words": self.words,
            "checks": {
                check.name: {"largest_difference": check.largest_difference, "relative": check.relative, "ok": check.ok}
                for check in self.checks
            },
        }


def compare(name: str, came: Tensor, wanted: Tensor, tolerance: float, by_token: bool = False) -> Check:
    """Return how far ``came`` is from ``wanted``; infinitely far where the shapes differ or a value is not finite."""
    if came.shape != wanted.shape or not (torch.isfinite(came).all() and torch.isfinite(wanted).all()):
        return Check(name, float("inf"), float("inf"), tolerance)
    off, size = (came.float() - wanted.float()).abs(), wanted.float().abs()
    largest = float(off.max())
    if by_token:
        off, size = off.amax(-1), size.amax(-1)
        relative = float((off / size.clamp_min(torch.finfo(torch.float32).tiny)).max())
    else:
        relative = largest / max(float(size.max()), torch.finfo(torch.float32).tiny)
    return Check(name, largest, relative, tolerance)


def tokens_again(layer: LLMLayer, x: Tensor, attention: Tensor) -> Tensor:
    """Return the layer's output (B, N, D) for tokens ``x``, mixed by the given ``attention`` (B, heads, N, N)."""
    inner = layer.self_attn
    normed = layer.input_layernorm(x)
    # neither q nor k nor angles enter: v is split into heads and repeated, never turned
    _, _, v = inner.heads(inner.q_proj(normed), inner.k_proj(normed), inner.v_proj(normed), None)
    h = x + inner.o_proj((attention.to(x.dtype) @ v).transpose(1, 2).flatten(2))
    out: Tensor = h + layer.mlp(layer.post_attention_layernorm(h))
    return out


def prove_layer(activations: Activations, number: int, layer: LLMLayer) -> Proof:
    """Hold the recorded attention of a layer to its recorded output.

    Parameters
    ----------
    activations : Activations
        With ``layer.<number>.in``, ``.attention`` and ``.out``.
    number : int
        From 1, as in the points' names.
    layer : LLMLayer
        The layer that ran there, as it was then.

    Raises
    ------
    ConfigError
        If one of the points was not recorded.
    """
    name, said = f"layer.{number}", f"layer {number}"
    x, attention, out = (activations[f"{name}.{part}"] for part in ("in", "attention", "out"))
    angles, mask = activations.handed[number]
    tolerance = HALF_TOLERANCE if attention.dtype == torch.float16 else TOLERANCE
    with torch.no_grad():
        device = layer.input_layernorm.weight.device
        x, mask = x.to(device), mask.to(device)
        inner, normed = layer.self_attn, layer.input_layernorm(x)
        q, k, _ = inner.heads(inner.q_proj(normed), inner.k_proj(normed), inner.v_proj(normed), angles)
        weights = attention.to(device)
        again = tokens_again(layer, x, weights)
        return Proof(
            (
                *_weights(said, weights, q, k, mask, tolerance),
                compare(f"{said} output", again, out.to(device), tolerance, by_token=True),
            )
        )


def _weights(said: str, weights: Tensor, q: Tensor, k: Tensor, mask: Tensor, tolerance: float) -> tuple[Check, Check]:
    """Return the checks of rows and weights; head by head, so that large grids of tokens need no second copy."""
    rows, apart, largest = 0.0, 0.0, 0.0
    for head in range(weights.shape[1]):
        one = weights[:, head].float()
        hidden = float((one * ~mask).abs().max())
        uneven = float((one.sum(-1) - 1).abs().max())
        again = attention_weights(q[:, head, None], k[:, head, None], mask)[:, 0]
        found = compare(said, one, again, tolerance)
        rows, apart = _larger(rows, hidden, uneven, -float(one.min())), _larger(apart, found.largest_difference)
        largest = _larger(largest, float(again.max()))
    return (
        Check(f"{said} rows", rows, rows, tolerance),
        Check(f"{said} attention", apart, apart / max(largest, torch.finfo(torch.float32).tiny), tolerance),
    )


def _larger(*values: float) -> float:
    """Return the largest value; infinity where one is not a number, so that it never passes."""
    return max(float("inf") if value != value else value for value in values)


def prove(net: LLM4SegNet, activations: Activations) -> Proof:
    """Hold a whole recorded forward to its logits; ``net`` must be in the state in which it was recorded.

    Parameters
    ----------
    net : LLM4SegNet
    activations : Activations
        With every ``encoder.<i>``, ``logits``, and of every layer that ran ``in``, ``attention`` and ``out``.

    Raises
    ------
    ConfigError
        If other layers run now, or one of the points was not recorded.
    """
    layers = net.block.running() if isinstance(net.block, LLMBlock) else []
    if len(activations.handed) != len(layers):
        raise ConfigError(f"{len(activations.handed)} layers were recorded and {len(layers)} run now; record again.")
    checks = [check for k, layer in enumerate(layers, 1) for check in prove_layer(activations, k, layer).checks]
    return Proof((*checks, _logits(net, activations, layers)))


def _logits(net: LLM4SegNet, activations: Activations, layers: Sequence[LLMLayer]) -> Check:
    device = next(net.parameters()).device
    attentions = [activations[f"layer.{k}.attention"].to(device) for k in range(1, len(layers) + 1)]
    tolerance = HALF_TOLERANCE if any(weights.dtype == torch.float16 for weights in attentions) else TOLERANCE
    with torch.no_grad():
        features = [activations[f"encoder.{i + 1}"].to(device) for i in range(len(net.backbone.out_channels))]
        if isinstance(net.block, LLMBlock):
            tokens = net.block.bridge.enter(features[-1])
            for layer, attention in zip(layers, attentions, strict=True):
                tokens = tokens_again(layer, tokens, attention)
            features[-1] = net.block.add(features[-1], net.block.bridge.leave(tokens, activations.grid))
        elif net.block is not None:
            raise ConfigError("A folded network has no inside; record the one it was folded from.")
        logits = net.decode(features, activations.image_grid)
        return compare("logits", logits, activations["logits"].to(device), tolerance)
