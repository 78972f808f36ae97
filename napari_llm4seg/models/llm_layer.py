"""One pre-trained decoder layer in plain torch.

Keys are named as in Hugging Face checkpoints, so a layer's tensors load unchanged. The arithmetic is that of the
transformers classes for Llama, Qwen2, Qwen3 and Mistral (a parity test holds it to 1e-5), without their import time
of several seconds, and with mask and positions always given from outside: what is run is what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.models.spec import LayerSpec


class Angles(NamedTuple):
    """Cosines and sines of the rotary angles, each (N, head_dim), float32."""

    cos: Tensor
    sin: Tensor


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last axis, computed in float32 whatever the input's dtype."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turn the channel pairs (i, i + head_dim / 2) of ``x`` (..., N, head_dim) by ``angles``."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * angles.cos.to(x.dtype) + turned * angles.sin.to(x.dtype)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(head_dim)) under ``mask``.

    Parameters
    ----------
    q, k : tensor (B, heads, N, head_dim)
    mask : tensor (N, N), bool; True where the row's token may look at the column's

    Returns
    -------
    tensor (B, heads, N, N), rows sum to 1
    """
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(scores.float(), dim=-1).to(q.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention with optional biases and per-head q/k normalisation."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        self.q_proj = nn.Linear(spec.hidden, q, bias=spec.qkv_bias)
        self.k_proj = nn.Linear(spec.hidden, kv, bias=spec.qkv_bias)
        self.v_proj = nn.Linear(spec.hidden, kv, bias=spec.qkv_bias)
        self.o_proj = nn.Linear(q, spec.hidden, bias=spec.o_bias)
        if spec.qk_norm:
            self.q_norm = RMSNorm(spec.head_dim, spec.eps)
            self.k_norm = RMSNorm(spec.head_dim, spec.eps)

    def forward(self, x: Tensor, angles: Angles | None, mask: Tensor) -> Tensor:
        q, k, v = self.heads(self.q_proj(x), self.k_proj(x), self.v_proj(x), angles)
        out: Tensor = self.o_proj(self.mix(q, k, v, mask))
        return out

    def heads(self, q: Tensor, k: Tensor, v: Tensor, angles: Angles | None) -> tuple[Tensor, Tensor, Tensor]:
        """Split projections (B, N, heads * head_dim) into heads, normalise, rotate and repeat the shared ones.

        Returns
        -------
        q, k, v : tensor (B, heads, N, head_dim)
        """
        spec = self.spec
        q, k, v = (t.reshape(*t.shape[:-1], -1, spec.head_dim) for t in (q, k, v))
        if spec.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        groups = spec.heads // spec.kv_heads
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        return q, k, v

    @staticmethod
    def mix(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Return the heads' outputs side by side, (B, N, heads * head_dim)."""
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """Gated MLP (SwiGLU)."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(spec.hidden, spec.intermediate, bias=spec.mlp_bias)
        self.up_proj = nn.Linear(spec.hidden, spec.intermediate, bias=spec.mlp_bias)
        self.down_proj = nn.Linear(spec.intermediate, spec.hidden, bias=spec.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class LLMLayer(nn.Module):
    """One decoder layer of a language model.

    Parameters
    ----------
    spec : LayerSpec
    frozen : bool
        Frozen is a mode, not a moment: no weight takes a gradient and ``.train()`` leaves the layer in eval mode.

    Notes
    -----
    Source of the arithmetic: Llama (arXiv 2302.13971), Qwen2 (2407.10671), Qwen3 (2505.09388), Mistral (2310.06825).
    Mistral's sliding window does not enter: the mask is given from outside.
    """

    def __init__(self, spec: LayerSpec, frozen: bool = True) -> None:
        super().__init__()
        self.spec = spec
        self.frozen = frozen
        self.self_attn = Attention(spec)
        self.mlp = MLP(spec)
        self.input_layernorm = RMSNorm(spec.hidden, spec.eps)
        self.post_attention_layernorm = RMSNorm(spec.hidden, spec.eps)
        self.freeze(frozen)

    @classmethod
    def from_tensors(cls, spec: LayerSpec, tensors: Mapping[str, Tensor], frozen: bool = True) -> LLMLayer:
        """Build the layer from its tensors in any float dtype; kept and computed in float32.

        Raises
        ------
        CheckpointError
            Naming the first tensor that is missing, of another shape or left over.
        """
        check_tensors(spec, tensors)
        with torch.device("meta"):
            layer = cls(spec, frozen)
        wide = {name: tensor.detach().to(torch.float32).contiguous() for name, tensor in tensors.items()}
        layer.load_state_dict(wide, strict=True, assign=True)
        return layer.freeze(frozen)

    @classmethod
    def random(cls, spec: LayerSpec, seed: int = 0, frozen: bool = True) -> LLMLayer:
        """Return a layer with Xavier-uniform weights, zero biases and unit gains, as the published control does."""
        generator = torch.Generator().manual_seed(seed)
        # built empty: torch's own initialisation would draw from the seed that a training run relies on
        with torch.device("meta"):
            hollow = cls(spec, frozen)
        layer = hollow.to_empty(device="cpu")
        for name, parameter in layer.named_parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)
        return layer

    def freeze(self, frozen: bool = True) -> LLMLayer:
        """Switch between frozen and trainable; returns itself."""
        self.frozen = frozen
        self.requires_grad_(not frozen)
        return self.train(self.training)

    def train(self, mode: bool = True) -> LLMLayer:
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor, angles: Angles | None, mask: Tensor) -> Tensor:
        """Return the layer's output.

        Parameters
        ----------
        x : tensor (B, N, hidden)
        angles : Angles of N tokens, or None for no positions
        mask : tensor (N, N), bool; True where the row's token may look at the column's

        Returns
        -------
        tensor (B, N, hidden)
        """
        x = x + self.self_attn(self.input_layernorm(x), angles, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out

    def forward_with_weights(self, x: Tensor, angles: Angles | None, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, computed through the explicit attention weights, which are returned too.

        Returns
        -------
        output : tensor (B, N, hidden)
        weights : tensor (B, heads, N, N)
        """
        attention = self.self_attn
        normed = self.input_layernorm(x)
        q, k, v = attention.heads(attention.q_proj(normed), attention.k_proj(normed), attention.v_proj(normed), angles)
        weights = attention_weights(q, k, mask)
        x = x + attention.o_proj((weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.post_attention_layernorm(x)), weights


def check_tensors(spec: LayerSpec, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError at the first tensor that is missing, left over, of another shape or not float."""
    shapes = spec.tensor_shapes()
    for name, shape in shapes.items():
        if name not in tensors:
            raise CheckpointError(f"The decoder layer lacks '{name}' {shape}; it is not a whole {spec.family} layer.")
        came = tensors[name]
        if tuple(came.shape) != shape or not came.is_floating_point():
            raise CheckpointError(
                f"'{name}' of the decoder layer is {tuple(came.shape)} {came.dtype}; its config needs {shape} floats."
            )
    extra = sorted(set(tensors) - set(shapes))
    if extra:
        raise CheckpointError(
            f"The decoder layer has {extra[0][:120]!r}, which a {spec.family} layer has no place for."
        )
