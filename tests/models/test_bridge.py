from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.models.bridge import TokenBridge, build_angles, build_mask, to_features, to_tokens
from tests.models.base import SPEC

grids = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)


@given(grids, st.integers(1, 3), st.integers(1, 4))
def test_tokens_are_in_raster_order_and_fold_back(grid: tuple[int, ...], batch: int, channels: int) -> None:
    features = torch.arange(batch * channels * math.prod(grid)).reshape(batch, channels, *grid)
    tokens = to_tokens(features)
    assert tokens.shape == (batch, math.prod(grid), channels)
    for n, place in enumerate(torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, len(grid)).tolist()):
        assert torch.equal(tokens[:, n], features[(slice(None), slice(None), *place)])
    assert torch.equal(to_features(tokens, grid), features)


@given(st.integers(1, 40))
def test_masks(n: int) -> None:
    causal = build_mask(n, "causal")
    assert causal.dtype == torch.bool
    assert all(bool(causal[i, j]) == (j <= i) for i in range(n) for j in range(n))
    assert build_mask(n, "full").all()


@given(grids)
def test_own_positions_do_not_see_the_grid(grid: tuple[int, ...]) -> None:
    own, flat = build_angles(SPEC, grid, "own"), build_angles(SPEC, (math.prod(grid),), "own")
    assert own is not None
    assert flat is not None
    assert torch.equal(own.cos, flat.cos)
    assert torch.equal(own.sin, flat.sin)


@given(grids)
def test_angles_are_angles(grid: tuple[int, ...]) -> None:
    for kind in ("own", "axial", "paper"):
        angles = build_angles(SPEC, grid, kind)
        assert angles is not None
        assert angles.cos.shape == angles.sin.shape == (math.prod(grid), SPEC.head_dim)
        assert angles.cos.dtype == torch.float32
        torch.testing.assert_close(angles.cos**2 + angles.sin**2, torch.ones_like(angles.cos))
    assert build_angles(SPEC, grid, "none") is None


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 5)])
def test_axial_positions_turn_with_their_own_coordinate(grid: tuple[int, ...]) -> None:
    """Each frequency belongs to one axis: it changes along that one and stays along the others."""
    angles = build_angles(SPEC, grid, "axial")
    assert angles is not None
    turn = torch.atan2(angles.sin, angles.cos).reshape(*grid, SPEC.head_dim)
    owners = []
    for channel in range(SPEC.head_dim):
        moves = [axis for axis in range(len(grid)) if turn[..., channel].diff(dim=axis).abs().max() > 1e-7]
        assert len(moves) == 1
        owners += moves
    half = SPEC.head_dim // 2
    assert owners[:half] == owners[half:], "both channels of a rotated pair turn together"
    assert set(owners) == set(range(len(grid)))
    for axis in range(len(grid)):
        frequencies = [SPEC.inverse_frequencies()[i] for i in range(half) if owners[i] == axis]
        assert all(a > b for a, b in pairwise(frequencies))


def test_axial_positions_of_a_row_are_own_positions_with_one_axis() -> None:
    own, axial = build_angles(SPEC, (9,), "own"), build_angles(SPEC, (9,), "axial")
    assert own is not None
    assert axial is not None
    assert torch.equal(own.cos, axial.cos)


@pytest.mark.parametrize("grid", [(3, 5), (2, 3, 4), (1, 1)])
@pytest.mark.parametrize("norm", [False, True])
def test_the_bridge_takes_any_grid(grid: tuple[int, ...], norm: bool) -> None:
    bridge = TokenBridge(6, SPEC.hidden, norm=norm)
    features = torch.randn(2, 6, *grid)
    tokens = bridge.enter(features)
    assert tokens.shape == (2, math.prod(grid), SPEC.hidden)
    assert bridge.leave(tokens, grid).shape == features.shape


def test_angles_made_in_inference_mode_serve_training_later() -> None:
    """They are remembered per grid, and inference tensors cannot enter a graph."""
    bridge = TokenBridge(6, SPEC.hidden)
    cpu = torch.device("cpu")
    with torch.inference_mode():
        bridge.angles(SPEC, (7, 11), cpu)
        bridge.mask(77, cpu)
    angles = bridge.angles(SPEC, (7, 11), cpu)
    assert angles is not None
    weight = torch.ones(77, SPEC.head_dim, requires_grad=True)
    (weight * angles.cos * bridge.mask(77, cpu).sum(1, keepdim=True)).sum().backward()
    assert weight.grad is not None
    assert bridge.angles(SPEC, (7, 11), cpu) is angles
