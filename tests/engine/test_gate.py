"""What is held back never trains or leaks, and the verdict says no more than the figures bear."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.engine.gate import FEWEST, Item, Score, bootstrap, compare, hold_back, near

ITEMS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30)), min_size=0, max_size=14, unique=True).map(
    lambda rows: [Item(f"{scan}{z}", scan, z) for scan, z in rows]
)


def scores(*values: float, unit: str = "mm") -> list[Score]:
    return [Score(f"slice {i}", value, 10 * (1 - value), unit) for i, value in enumerate(values)]


@given(ITEMS, st.floats(0, 0.9), st.integers(0, 3), st.sets(st.integers(0, 13)), st.integers(0, 5))
def test_no_neighbour_of_a_held_back_slice_trains(items, fraction, gap, locked_numbers, seed) -> None:
    locked = {items[i].digest for i in locked_numbers if i < len(items)}
    parts = hold_back(items, fraction, gap=gap, locked=locked, seed=seed)
    assert sorted(parts.train + parts.held_back + parts.left_out) == list(range(len(items)))
    assert not any(near(items[i], items[j], gap) for i in parts.train for j in parts.held_back)
    assert all(any(near(items[i], items[j], gap) for j in parts.held_back) for i in parts.left_out)
    assert locked <= {items[i].digest for i in parts.held_back}
    if not locked:
        assert len(parts.held_back) <= max(1, round(fraction * len(items)))
        assert not parts.held_back or len(parts.train) >= 2
    if len(items) < FEWEST and not locked:
        assert not parts.held_back
    assert parts == hold_back(items, fraction, gap=gap, locked=locked, seed=seed)


def test_slices_far_apart_give_one_of_five() -> None:
    parts = hold_back([Item(str(z), "ct", z) for z in (3, 10, 20, 30, 40)])
    assert (len(parts.train), len(parts.held_back), len(parts.left_out)) == (4, 1, 0)


def test_in_a_run_of_slices_its_end_costs_least() -> None:
    items = [Item(str(z), "ct", z) for z in (20, 21, 22, 23, 24)]
    parts = hold_back(items)
    assert parts.held_back in ((0,), (4,))
    assert len(parts.left_out) == 1


def test_what_was_held_back_stays_so_when_more_comes() -> None:
    items = [Item(str(z), "ct", z) for z in (3, 10, 20, 30, 40)]
    held = {items[i].digest for i in hold_back(items).held_back}
    more = [Item(str(z), "ct", z) for z in range(0, 100, 4)] + items
    later = hold_back(more, locked=held)
    assert held <= {more[i].digest for i in later.held_back}
    assert len(later.held_back) == 6


def test_near_duplicate_images_go_together() -> None:
    items = [Item(str(i), f"group {i // 2}") for i in range(8)]
    parts = hold_back(items, 0.25)
    kept = {items[i].scan for i in parts.held_back}
    assert not kept & {items[i].scan for i in parts.train}


def test_without_held_back_slices_nothing_is_claimed() -> None:
    gate = compare([], [])
    assert gate.verdict == "not measured"
    assert "no corrected slice was held back" in gate.words()
    assert gate.as_dict()["dice_after"] is None
    assert math.isnan(gate.difference)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([0.80], [0.95], "no clear difference"),
        ([0.80], [0.785], "worse"),
        ([0.80], [0.795], "no clear difference"),
        ([0.80, 0.70, 0.75], [0.85, 0.78, 0.76], "better"),
        ([0.80, 0.70, 0.75], [0.85, 0.78, 0.74], "no clear difference"),
        ([0.80, 0.70, 0.75], [0.795, 0.695, 0.745], "worse"),
        ([0.80, 0.70, 0.75], [0.90, 0.50, 0.75], "worse"),
    ],
)
def test_verdicts(before, after, verdict) -> None:
    gate = compare(scores(*before), scores(*after))
    assert gate.verdict == verdict
    assert gate.words().startswith(verdict.capitalize())
    assert gate.as_dict()["dice_before"] == pytest.approx(np.mean(before))
    assert gate.difference == pytest.approx(np.mean(after) - np.mean(before))


def test_one_slice_has_no_interval_and_says_so() -> None:
    gate = compare(scores(0.8), scores(0.9))
    assert gate.low is None
    assert "single slice" in gate.words()
    assert gate.as_dict()["interval"] is None


def test_the_interval_of_two_slices_is_their_range() -> None:
    gate = compare(scores(0.5, 0.5), scores(0.6, 0.8))
    assert (gate.low, gate.high) == (pytest.approx(0.1), pytest.approx(0.3))


def test_the_interval_covers_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        low, high = bootstrap(rng.normal(0.02, 0.05, 30), seed=trial)
        inside += low <= 0.02 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_scores_of_other_slices_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="other slices"):
        compare(scores(0.5), [Score("another", 0.5, 1.0)])
