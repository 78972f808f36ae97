"""Names of the places inside a network that can be recorded.

===========================  ===============================================================  ====================
name                         what passes there                                                shape
===========================  ===============================================================  ====================
``encoder.1`` ...            features leaving each encoder stage, shallow to deep             (B, C_i, *grid_i)
``bottleneck``               those of the last stage, which enter the block                   (B, C, *grid)
``adapter_in.in``            their tokens, after the block's norm where it has one            (B, N, C)
``adapter_in.out``           the same at the language model's width                           (B, N, D)
``layer.1.in`` ...           tokens entering the k-th language-model layer that runs          (B, N, D)
``layer.1.q``                its queries, behind their norm and rotary angles                 (B, heads, N, d)
``layer.1.k``                its keys likewise, those that heads share repeated               (B, heads, N, d)
``layer.1.v``                its values, repeated likewise                                    (B, heads, N, d)
``layer.1.attention``        softmax(q k^T / sqrt d) of the q and k that ran: row i looks
                             at column j; rows sum to 1                                       (B, heads, N, N)
``layer.1.mixed``            attention x v, the heads side by side                            (B, N, heads x d)
``layer.1.after_attention``  the tokens plus what the attention adds                          (B, N, D)
``layer.1.mlp``              what the MLP adds to those                                       (B, N, D)
``layer.1.out`` ...          tokens leaving the layer                                         (B, N, D)
``adapter_out.in``           tokens after the last layer                                      (B, N, D)
``adapter_out.out``          the same at the bottleneck's width                               (B, N, C)
``block``                    features leaving the block, behind its gate                      (B, C, *grid)
``decoder``                  what the decoder takes in place of the bottleneck: the block's
                             output, or the bottleneck itself where there is no block         (B, C, *grid)
``decoder.1`` ...            features leaving each decoder stage, coarse to fine              (B, C_i, *grid_i)
``logits``                   the network's answer, cropped to the image                       (B, K, *image grid)
===========================  ===============================================================  ====================

Tokens are in raster order, last axis fastest. The names are the same in 2-D and 3-D. The points inside a layer, from
``q`` to ``mlp``, and the decoder's stages are recorded where they are asked for by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.block import LLMBlock
from napari_llm4seg.models.llm4seg import LLM4SegNet

TOKENS = ("adapter_in.", "adapter_out.", "layer.")
INSIDE = ("q", "k", "v", "attention", "mixed", "after_attention", "mlp")
BY_HEAD = ("q", "k", "v", "attention")


def is_tokens(name: str) -> bool:
    """Return whether tokens (B, N, C) pass at the point, rather than features on a grid or something of each head."""
    return name.startswith(TOKENS) and not is_by_head(name)


def is_by_head(name: str) -> bool:
    """Return whether something of each head (B, heads, N, ...) passes at the point."""
    return name.startswith("layer.") and name.rpartition(".")[2] in BY_HEAD


def points_of(net: LLM4SegNet) -> tuple[str, ...]:
    """Return the names of the points that are recorded by default, in the order a forward of ``net`` passes them.

    A network with a folded block has none inside the block: there the adapters are merged with the layer, and what
    the other points name is never computed.
    """
    encoder = [f"encoder.{i + 1}" for i in range(len(net.backbone.out_channels))]
    names = [*encoder, "bottleneck"]
    if isinstance(net.block, LLMBlock):
        layers = [f"layer.{k + 1}.{side}" for k in range(len(net.block.running())) for side in ("in", "out")]
        names += ["adapter_in.in", "adapter_in.out", *layers, "adapter_out.in", "adapter_out.out"]
    if net.block is not None:
        names.append("block")
    return (*names, "decoder", "logits")


def inner_points_of(net: LLM4SegNet) -> tuple[str, ...]:
    """Return the names of the further points that are recorded on request alone: inside the layers and the decoder."""
    layers = len(net.block.running()) if isinstance(net.block, LLMBlock) else 0
    names = [f"layer.{k + 1}.{part}" for k in range(layers) for part in INSIDE]
    return (*names, *(f"decoder.{i + 1}" for i in range(len(net.backbone.decoder_stages()))))


def check_points(net: LLM4SegNet, names: Iterable[str]) -> tuple[str, ...]:
    """Return ``names`` as given, each once.

    Raises
    ------
    ConfigError
        At the first that a forward of ``net`` does not pass, with the nearest that it does; for a network with a
        folded block, with the way to the plain one.
    """
    there = (*points_of(net), *inner_points_of(net))
    asked = tuple(dict.fromkeys(names))
    for name in asked:
        if name in there:
            continue
        if net.block is not None and not isinstance(net.block, LLMBlock) and is_tokens(name):
            raise ConfigError(
                f"'{name}' does not exist in a folded network, whose adapters are merged with the layer; "
                "record on the network it was folded from (predict with folded=False)."
            )
        near = difflib.get_close_matches(name, there, n=1, cutoff=0.0)
        raise ConfigError(f"This network has no point '{name[:60]}'; it has {', '.join(there)}. Nearest: '{near[0]}'.")
    return asked
