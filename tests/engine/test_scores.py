"""Counts in, one Dice out: exact cases, and what must hold for all counts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.engine.scores import (
    Score,
    as_rows,
    distance_interval,
    distances,
    extent,
    interval,
    of_rows,
    own_interval,
    pooled,
    stray,
)


def score(hits: object, said: object, true: object, name: str = "", alone: bool = False, **more: object) -> Score:
    counts = [each if isinstance(each, tuple) else (each,) for each in (hits, said, true)]
    return Score(name, *counts, distances=(None,) * len(counts[0]), alone=alone, **more)  # type: ignore[arg-type]


def test_a_stack_s_slices_are_one_thing() -> None:
    slices = [score((40, 3), (50, 4), (60, 6)), score((0, 5), (1, 5), (0, 5)), score((0, 0), (0, 2), (0, 0))]
    assert pooled(slices) == pytest.approx((80 / 111 + 16 / 22) / 2)
    assert slices[0].dice == pytest.approx((80 / 110 + 6 / 10) / 2)
    assert slices[1].dice == 1.0, "of the class it holds"
    assert slices[2].dice is None
    assert [each.lacks for each in slices] == [False, True, True]


def test_images_of_their_own_are_averaged_and_empty_ones_do_not_count() -> None:
    images = [score(40, 50, 50, alone=True), score(1, 2, 2, alone=True), score(0, 7, 0, alone=True)]
    assert pooled(images) == pytest.approx((0.8 + 0.5) / 2)
    assert stray(images) == 7
    mixed = [replace(each, alone=i > 0) for i, each in enumerate(images)]
    assert pooled(mixed) == pytest.approx(2 * 41 / (59 + 52)), "with slices of a stack among them all are pooled"


def test_a_class_that_is_not_there_has_no_dice() -> None:
    slices = [score((40, 0), (50, 9), (50, 0)), score((0, 0), (3, 1), (0, 0))]
    assert pooled(slices) == pytest.approx(80 / 103)
    assert stray(slices) == 10, "those of the first class are false ones of a class that is there"
    assert extent(slices) == 50
    empty = [score(0, 4, 0, pixels=100), score(0, 0, 0, pixels=50)]
    assert math.isnan(pooled(empty))
    assert (stray(empty), extent(empty)) == (4, 150)
    assert interval(empty, empty) is None


COUNTS = st.tuples(st.integers(0, 300), st.integers(0, 300), st.floats(0, 1)).map(
    lambda each: score(round(each[2] * min(each[:2])), each[0], each[1])
)
PAIRS = st.lists(
    st.tuples(*(st.integers(0, 300) for _ in range(3)), *(st.floats(0, 1) for _ in range(2))).map(
        lambda row: (
            score(round(row[3] * min(row[0], row[1])), row[1], row[0]),
            score(round(row[4] * min(row[0], row[2])), row[2], row[0]),
        )
    ),
    min_size=1,
    max_size=8,
)


def sides(pairs, alone=False):
    return tuple([replace(pair[at], name=str(i), alone=alone) for i, pair in enumerate(pairs)] for at in (0, 1))


@given(PAIRS, st.booleans(), st.randoms())
def test_order_and_repetition_change_nothing_and_swapping_turns_the_sign(pairs, alone, random) -> None:
    before, after = sides(pairs, alone)
    if all(each.empty for each in before):
        return
    assert 0 <= pooled(before) <= 1
    order = list(range(len(pairs)))
    random.shuffle(order)
    assert pooled([before[i] for i in order]) == pytest.approx(pooled(before))
    assert pooled(before * 3) == pytest.approx(pooled(before))
    found, back = interval(before, after), interval(after, before)
    assert (found is None) == (sum(not each.empty for each in before) < 2)
    if found is not None and back is not None:
        assert found == interval(before, after), "the same draws each time"
        assert found == pytest.approx((-back[1], -back[0]))
        if len(pairs) <= 3:
            assert found[0] - 1e-12 <= pooled(after) - pooled(before) <= found[1] + 1e-12


@given(PAIRS, COUNTS)
def test_a_slice_that_stays_as_it_was_never_turns_the_sign_over_images(pairs, same) -> None:
    before, after = sides(pairs, alone=True)
    same = replace(same, name="same", alone=True)
    if all(each.empty for each in before):
        return
    change = pooled(after) - pooled(before)
    more = pooled([*after, same]) - pooled([*before, same])
    assert abs(more) <= abs(change) + 1e-12
    assert change * more >= 0 or abs(change) < 1e-12


@given(PAIRS, st.lists(COUNTS, max_size=4))
def test_with_more_hits_and_no_more_errors_no_slice_that_stays_as_it_was_makes_it_worse(pairs, same) -> None:
    """Without "no more errors" it may: errors that weigh little beside a bad mask weigh more beside a good one."""
    better = []
    for old, _ in pairs:  # half of what is missed is found, half of what is false is left out
        hits = old.hits[0] + (old.true[0] - old.hits[0]) // 2
        better.append(replace(old, hits=(hits,), said=(hits + (old.said[0] - old.hits[0]) // 2,)))
    before, after = [old for old, _ in pairs] + same, better + same
    if not all(each.empty for each in before):
        assert pooled(after) >= pooled(before) - 1e-12


@given(PAIRS)
def test_nothing_changed_is_a_difference_of_nothing(pairs) -> None:
    before, _ = sides(pairs)
    assert interval(before, before) in (None, (0.0, 0.0))


@given(st.integers(100, 1000), st.integers(1, 20), st.integers(0, 3))
def test_a_stray_pixel_weighs_a_pixel_wherever_it_lies(size, slices, strays) -> None:
    full, empty = [score(size, size, size)] * slices, score(0, 0, 0)
    change = pooled([*full, replace(empty, said=(strays,))]) - pooled([*full, empty])
    assert -strays / (2 * size * slices) <= change <= 0


def test_the_interval_of_up_to_three_slices_is_the_range_over_all_draws() -> None:
    def slices(*dices: float) -> list[Score]:
        return [score(round(1000 * each), 1000, 1000) for each in dices]

    assert interval(slices(0.5), slices(0.9)) is None
    assert interval(slices(0.5, 0.5), slices(0.6, 0.8)) == pytest.approx((0.1, 0.3))
    assert own_interval(slices(0.9)) is None
    assert own_interval(slices(0.6, 0.8)) == pytest.approx((0.6, 0.8))
    assert interval(slices(0.5, 0.5, 0.5), slices(0.4, 0.8, 0.6)) == pytest.approx((-0.1, 0.3))
    with_empty = interval([*slices(0.5, 0.5), score(0, 0, 0)], [*slices(0.6, 0.8), score(0, 500, 0)])
    assert with_empty == pytest.approx((2 * 600 / 3000 - 0.5, 0.3)), "twice the empty one and once the first at worst"
    assert interval([*slices(0.5), score(0, 0, 0)], [*slices(0.6), score(0, 9, 0)]) is None, "one tells of Dice"


def test_the_interval_covers_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):  # 30 slices whose Dice rises by 0.02 on average
        true = rng.integers(500, 1500, 30)
        rises = rng.normal(0.02, 0.05, 30)
        before = [score(round(0.8 * t), int(t), int(t)) for t in true]
        after = [score(round((0.8 + rise) * t), int(t), int(t)) for t, rise in zip(true, rises, strict=True)]
        found = interval(before, after, seed=trial)
        assert found is not None
        inside += found[0] <= 0.02 <= found[1]
    assert 0.88 <= inside / 200 <= 0.99


def test_distances_are_compared_where_there_is_one_both_times() -> None:
    before = [score(1, 1, 1), score(1, 1, 1), score(0, 0, 1)]
    old = [replace(each, distances=(value,)) for each, value in zip(before, (5.0, 7.0, None), strict=True)]
    new = [replace(each, distances=(value,)) for each, value in zip(before, (3.0, None, 1.0), strict=True)]
    assert distances(old, new) == (5.0, 3.0)
    assert distances(old[1:], new[1:]) is None
    assert distance_interval(old, new) is None, "a single slice has one both times"
    two = [replace(each, distances=(value, 1.0)) for each, value in zip(before[:2], (4.0, 8.0), strict=True)]
    three = [replace(each, distances=(value, 1.0)) for each, value in zip(before[:2], (5.0, 2.0), strict=True)]
    assert distances(two, three) == (3.5, 2.25)
    assert distance_interval(two, three) == (-3.0, 0.5)
    assert distance_interval([], []) is None
    assert [each.hd95 for each in old] == [5.0, 7.0, None]


@given(PAIRS, st.booleans())
def test_rows_are_read_back(pairs, alone) -> None:
    before, after = sides(pairs, alone)
    assert of_rows(as_rows(before, after), "pixel") == (before, after)
