"""The block's exact folding: adapter-in into q, k and v, RMSNorm gains into what follows, adapter-out into the MLP.

For tokens x with h = A x + b, the layer's first product is W_q diag(g) h / rms(h) = (W_q diag(g) A x + W_q diag(g) b)
/ rms(h): the per-token scale commutes, so the C-wide token replaces the D-wide one. Likewise the last two,
B W_down m, become one matrix from the MLP to the bottleneck. Equal to rounding; a third fewer operations for
C = 256 and LLaMA-3.2-1B. Where C is not below D a fold would cost more, and is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_llm4seg.models.block import LLMBlock
from napari_llm4seg.models.bridge import to_features, to_tokens
from napari_llm4seg.models.llm_layer import Angles, LLMLayer


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply in float64 so that folding adds no error of its own; on the CPU where the device has no float64."""
    device = torch.device("cpu") if left.device.type == "mps" else left.device
    return (left.to(device).double() @ right.to(device).double()).float().to(left.device)


def _bias(linear: nn.Linear) -> Tensor:
    return linear.bias if linear.bias is not None else linear.weight.new_zeros(linear.out_features)


def _scale(x: Tensor, eps: float) -> Tensor:
    """Return 1 / rms of each token, (B, N, 1), in float32."""
    return torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)


class _FoldedLayer(nn.Module):
    """One decoder layer whose ends may be folded into the adapters around it."""

    def __init__(self, layer: LLMLayer, adapter_in: nn.Linear | None, adapter_out: nn.Linear | None) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        gained = torch.cat([p.weight for p in projections]) * layer.input_layernorm.weight
        self.sizes = [p.out_features for p in projections]
        self.eps = layer.spec.eps
        self.attention = [attention]  # in a list: its weights are shared, not owned
        self.o_proj = [attention.o_proj]
        self.from_bottleneck = adapter_in is not None
        constant = gained.new_zeros(len(gained))
        if adapter_in is not None:
            constant = _product(gained, _bias(adapter_in)[:, None])[:, 0]
            gained = _product(gained, adapter_in.weight)
        self.register_buffer("qkv", gained.detach().clone(), persistent=False)
        self.register_buffer("qkv_constant", constant.detach(), persistent=False)
        self.register_buffer("qkv_bias", torch.cat([_bias(p) for p in projections]).detach(), persistent=False)
        gain = layer.post_attention_layernorm.weight
        gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)) * gain
        self.register_buffer("gate_up", gate_up.detach(), persistent=False)
        biases = torch.cat((_bias(mlp.gate_proj), _bias(mlp.up_proj))).detach()
        self.register_buffer("gate_up_bias", biases if layer.spec.mlp_bias else None, persistent=False)
        down, down_bias = mlp.down_proj.weight, _bias(mlp.down_proj)
        self.to_bottleneck = adapter_out is not None
        residual: Tensor | None = None
        if adapter_out is not None:
            residual = adapter_out.weight.detach()
            down_bias = _product(adapter_out.weight, down_bias[:, None])[:, 0] + _bias(adapter_out)
            down = _product(adapter_out.weight, down)
        self.register_buffer("down", down.detach().clone(), persistent=False)
        self.register_buffer("down_bias", down_bias.detach().clone(), persistent=False)
        self.register_buffer("residual", residual, persistent=False)

    qkv: Tensor
    qkv_constant: Tensor
    qkv_bias: Tensor
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor
    residual: Tensor | None

    def forward(self, tokens: Tensor, h: Tensor, angles: Angles | None, mask: Tensor) -> Tensor:
        """Return the layer's output (B, N, D), or the bottleneck's tokens (B, N, C) where adapter-out is folded in.

        Parameters
        ----------
        tokens : (B, N, C) of the bottleneck, read only where adapter-in is folded in
        h : (B, N, D) residual stream entering the layer
        """
        attention, o_proj = self.attention[0], self.o_proj[0]
        source = tokens if self.from_bottleneck else h
        qkv = torch.addmm(self.qkv_constant, source.flatten(0, 1), self.qkv.t()).reshape(*h.shape[:2], -1)
        qkv = qkv * _scale(h, self.eps).to(h.dtype) + self.qkv_bias
        q, k, v = qkv.split(self.sizes, dim=-1)
        q, k, v = attention.heads(q, k, v, angles)
        h = h + o_proj(attention.mix(q, k, v, mask))
        inner = F.linear(h, self.gate_up) * _scale(h, self.eps).to(h.dtype)
        if self.gate_up_bias is not None:
            inner = inner + self.gate_up_bias
        gate, up = inner.chunk(2, dim=-1)
        out = F.linear(F.silu(gate) * up, self.down, self.down_bias)
        return out + (h if self.residual is None else F.linear(h, self.residual))


class FoldedBlock(nn.Module):
    """Equal in output to the ``LLMBlock`` it is made from, with fewer operations; cannot be trained or switched.

    Parameters
    ----------
    block : LLMBlock
        With at least one running layer; its weights are read once, later changes do not reach the fold.
    """

    def __init__(self, block: LLMBlock) -> None:
        super().__init__()
        layers = block.running()
        narrow = block.bridge.adapter_in.in_features < block.hidden
        self.block = [block]  # shares bridge and gate; in a list so that state dicts and .train() stay apart
        self.folded_out = narrow
        self.layers = nn.ModuleList(
            _FoldedLayer(
                layer,
                block.bridge.adapter_in if narrow and i == 0 else None,
                block.bridge.adapter_out if narrow and i == len(layers) - 1 else None,
            )
            for i, layer in enumerate(layers)
        )
        self.specs = [layer.spec for layer in layers]
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C, *grid) of the same shape."""
        block, grid = self.block[0], features.shape[2:]
        bridge = block.bridge
        tokens = bridge.norm(to_tokens(features))
        h = bridge.adapter_in(tokens)
        mask = bridge.mask(tokens.shape[1], tokens.device)
        for layer, spec in zip(self.layers, self.specs, strict=True):
            h = layer(tokens, h, bridge.angles(spec, grid, tokens.device), mask)
        out = to_features(h, grid) if self.folded_out else bridge.leave(h, grid)
        return block.add(features, out)
