"""Readings of attention weights that are known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_llm4seg.activations.attention import by_head, entropy, entropy_share, joined, rollout, token_map, visible
from napari_llm4seg.errors import ConfigError, InputError
from napari_llm4seg.models.bridge import build_mask

# two heads, three tokens, causal
WEIGHTS = torch.tensor(
    [
        [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.5, 0.25, 0.25]],
        [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
    ]
)
MASK = build_mask(3, "causal")


def test_from_and_to_a_token() -> None:
    assert by_head(WEIGHTS, 2, "from").tolist() == [[0.5, 0.25, 0.25], [0, 0, 1]]
    assert by_head(WEIGHTS, 0, "to").tolist() == [[1, 0.25, 0.5], [1, 1, 0]]
    assert visible(MASK, 1, "from").tolist() == [True, True, False]
    assert visible(MASK, 1, "to").tolist() == [False, True, True]


def test_heads_are_joined() -> None:
    heads = by_head(WEIGHTS, 2, "from")
    assert joined(heads, "mean").tolist() == [0.25, 0.125, 0.625]
    assert joined(heads, "max").tolist() == [0.5, 0.25, 1]
    assert joined(heads, 1).tolist() == [0, 0, 1]
    for head in (2, -1, "median"):
        with pytest.raises(ConfigError, match="no head"):
            joined(heads, head)  # type: ignore[arg-type]


def test_entropy_by_hand() -> None:
    found = entropy(WEIGHTS)
    assert found[0] == pytest.approx([0, -0.25 * math.log(0.25) - 0.75 * math.log(0.75), 1.5 * math.log(2)], abs=1e-6)
    assert found[1] == pytest.approx([0, 0, 0])
    share = entropy_share(WEIGHTS, MASK)
    assert share[0] == pytest.approx([0, found[0, 1] / math.log(2), found[0, 2] / math.log(3)], abs=1e-6)
    even = torch.full((1, 3, 3), 1 / 3)
    assert entropy_share(even, build_mask(3, "full")) == pytest.approx(np.ones((1, 3)))


def test_rollout_by_hand() -> None:
    first = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    second = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    # B1 = [[1, 0], [.5, .5]], B2 = [[.5, .5], [0, 1]]; R = B2 B1
    assert rollout([first, second]).tolist() == [[0.75, 0.25], [0.5, 0.5]]
    assert rollout([WEIGHTS, WEIGHTS]).sum(-1).tolist() == pytest.approx([1, 1, 1])
    with pytest.raises(InputError, match="No layer"):
        rollout([])


def test_maps_over_layers() -> None:
    other = WEIGHTS.flip(0)
    one = token_map([WEIGHTS, other], MASK, 2, head=0, layer=2)
    assert one.values.tolist() == [0, 0, 1]
    assert "head 0, layer 2" in one.title
    both = token_map([WEIGHTS, other], MASK, 2, head=0, layer="mean")
    assert both.values.tolist() == [0.25, 0.125, 0.625]
    rolled = token_map([WEIGHTS, other], MASK, 2, layer="rollout")
    assert rolled.values.sum() == pytest.approx(1)
    assert rolled.about["formula"].startswith("R =")
    assert not rolled.values[~rolled.visible].any()


def test_what_does_not_exist() -> None:
    with pytest.raises(InputError, match="tokens 0 to 2"):
        token_map([WEIGHTS], MASK, 3)
    with pytest.raises(ConfigError, match="no layer 2"):
        token_map([WEIGHTS], MASK, 0, layer=2)
    with pytest.raises(ConfigError, match="'from' or 'to'"):
        by_head(WEIGHTS, 0, "around")  # type: ignore[arg-type]
