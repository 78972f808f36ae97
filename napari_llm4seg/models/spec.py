"""Shape and arithmetic of one decoder layer, read from a Hugging Face ``config.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from napari_llm4seg.errors import CheckpointError, one_line

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
# The rotary scalings implemented, with the numbers each needs.
ROPE_FIELDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "high_freq_factor", "low_freq_factor", "original_max_position_embeddings"),
}


@dataclass(frozen=True)
class LayerSpec:
    """One decoder layer: sizes in channels, counts of heads, and the constants of its arithmetic.

    Attributes
    ----------
    family : "llama", "qwen2", "qwen3" or "mistral" (``model_type`` of the source's config)
    hidden, intermediate : width of the residual stream and of the gated MLP
    heads, kv_heads, head_dim : query heads, key/value heads, channels per head
    eps : added to the mean square in RMSNorm
    qkv_bias, o_bias, mlp_bias, qk_norm : which optional weights the layer has
    rope_theta : base of the rotary frequencies
    rope_scaling : parameters of "linear" or "llama3" frequency scaling, empty for none
    """

    family: str
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float = 1e-6
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    rope_theta: float = 10000.0
    rope_scaling: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LayerSpec:
        """Read a Hugging Face model config (transformers 4 or 5 layout).

        Raises
        ------
        CheckpointError
            For another family, activation or rotary scaling than those implemented, or sizes that do not fit.
        """
        family = str(config.get("model_type", "?"))
        if family not in FAMILIES:
            raise CheckpointError(
                f"This language model is of type '{family[:40]}'; the layer needs one of {', '.join(FAMILIES)}."
            )
        if config.get("hidden_act", "silu") != "silu":
            raise CheckpointError(f"Activation '{config['hidden_act']}' is not supported; the layer needs 'silu'.")
        try:
            spec = cls._read(family, config)
        except KeyError as error:
            raise CheckpointError(f"The language model's config lacks {error}.") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"The language model's config has an unusable number: {one_line(error, 120)}."
            ) from error
        spec.check()
        return spec

    @classmethod
    def _read(cls, family: str, config: Mapping[str, Any]) -> LayerSpec:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        rope = dict(config.get("rope_scaling") or {}) | dict(config.get("rope_parameters") or {})
        kind = str(rope.get("rope_type", rope.get("type", "default")))
        if kind not in ROPE_FIELDS:
            raise CheckpointError(
                f"Rotary scaling '{kind[:40]}' is not supported; {', '.join(ROPE_FIELDS)} are. Choose another model."
            )
        # Qwen3 alone has a fixed default; the others divide the width among the heads
        head_dim = config.get("head_dim") or (128 if family == "qwen3" else hidden // max(heads, 1))
        bias = bool(config.get("attention_bias", False)) and family in ("llama", "qwen3")
        return cls(
            family=family,
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(head_dim),
            eps=float(config.get("rms_norm_eps", 1e-6)),
            qkv_bias=family == "qwen2" or bias,
            o_bias=bias,
            mlp_bias=family == "llama" and bool(config.get("mlp_bias", False)),
            qk_norm=family == "qwen3",
            rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10000.0))),
            rope_scaling=()
            if kind == "default"
            else (("rope_type", kind), *((name, float(rope[name])) for name in ROPE_FIELDS[kind])),
        )

    def check(self) -> None:
        """Raise CheckpointError where the sizes cannot make a layer."""
        sizes = (self.hidden, self.intermediate, self.heads, self.kv_heads, self.head_dim)
        if min(sizes) < 1 or max(sizes) > 1 << 17 or self.heads % self.kv_heads or self.head_dim % 2:
            raise CheckpointError(
                f"Sizes hidden {self.hidden}, MLP {self.intermediate}, heads {self.heads}/{self.kv_heads} of "
                f"{self.head_dim} channels make no decoder layer."
            )
        scaling = [value for name, value in self.rope_scaling if name != "rope_type"]
        if not all(math.isfinite(number) and number > 0 for number in (self.eps, self.rope_theta, *scaling)):
            raise CheckpointError("The language model's config has a norm or rotary constant that is not above 0.")

    def inverse_frequencies(self) -> torch.Tensor:
        """Return the rotary frequencies in radians per token, (head_dim / 2,), float32.

        "llama3" scaling as in the Llama 3.1 model card: long waves are slowed by ``factor``, short ones kept.
        """
        # the order of float32 operations is that of transformers, so that angles agree to the last bit
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.int64).float() / self.head_dim
        inverse = 1.0 / (self.rope_theta**exponents)
        scaling = dict(self.rope_scaling)
        if scaling.get("rope_type") == "linear":
            return inverse / float(scaling["factor"])
        if scaling.get("rope_type") != "llama3":
            return inverse
        factor, old = float(scaling["factor"]), float(scaling["original_max_position_embeddings"])
        low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
        wavelength = 2 * math.pi / inverse
        slowed = torch.where(wavelength > old / low, inverse / factor, inverse)
        smooth = (old / wavelength - low) / (high - low)
        blended = (1 - smooth) * slowed / factor + smooth * slowed
        between = ~(wavelength < old / high) & ~(wavelength > old / low)
        return torch.where(between, blended, slowed)

    def n_weights(self) -> int:
        """Return the number of the layer's weights."""
        return sum(math.prod(shape) for shape in self.tensor_shapes().values())

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the layer's tensors by their Hugging Face names inside the layer, with shapes."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (self.hidden,),
            "post_attention_layernorm.weight": (self.hidden,),
            "self_attn.q_proj.weight": (q, self.hidden),
            "self_attn.k_proj.weight": (kv, self.hidden),
            "self_attn.v_proj.weight": (kv, self.hidden),
            "self_attn.o_proj.weight": (self.hidden, q),
            "mlp.gate_proj.weight": (self.intermediate, self.hidden),
            "mlp.up_proj.weight": (self.intermediate, self.hidden),
            "mlp.down_proj.weight": (self.hidden, self.intermediate),
        }
        if self.qkv_bias:
            shapes |= {
                "self_attn.q_proj.bias": (q,),
                "self_attn.k_proj.bias": (kv,),
                "self_attn.v_proj.bias": (kv,),
            }
        if self.o_bias:
            shapes["self_attn.o_proj.bias"] = (self.hidden,)
        if self.mlp_bias:
            shapes |= {
                "mlp.gate_proj.bias": (self.intermediate,),
                "mlp.up_proj.bias": (self.intermediate,),
                "mlp.down_proj.bias": (self.hidden,),
            }
        if self.qk_norm:
            shapes |= {"self_attn.q_norm.weight": (self.head_dim,), "self_attn.k_norm.weight": (self.head_dim,)}
        return shapes
