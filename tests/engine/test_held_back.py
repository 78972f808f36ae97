"""What is held back never trains or leaks, and tells as much as it can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.engine.held_back import FEWEST, Item, hold_back, near

ITEMS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 9)),
    min_size=0,
    max_size=14,
    unique_by=lambda row: row[:2],
).map(lambda rows: [Item(f"{scan}{z}", scan, z, size) for scan, z, size in rows])


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


def test_one_that_holds_something_is_held_back_where_there_is_one() -> None:
    empty = [Item(str(z), "ct", z, size=0) for z in range(0, 40, 5)]
    for seed in range(5):
        parts = hold_back([*empty, Item("organ", "ct", 60)], seed=seed)
        assert 8 in parts.held_back
        assert len(parts.held_back) == 2
    assert len(hold_back(empty).held_back) == 2
    later = hold_back([*empty, Item("organ", "ct", 60)], locked={"0", "5"})
    assert later.held_back == (0, 1, 8), "one more, as the two that are locked tell nothing"


def test_the_first_few_of_a_stack_are_no_slivers() -> None:
    sizes = (4, 900, 30, 1000, 0, 800, 5, 700, 420, 600, 3, 650)
    stack = [Item(str(z), "ct", 10 * z, size) for z, size in enumerate(sizes)]
    chosen = {hold_back(stack, 0.25, seed=seed).held_back for seed in range(20)}
    assert all(sizes[i] >= 420 for parts in chosen for i in parts)
    assert len(chosen) > 5, "which of them is drawn"
    many = [i for seed in range(20) for i in hold_back(stack, 0.5, seed=seed).held_back]
    assert any(sizes[i] < 100 for i in many)
    images = [Item(str(i), f"group {i}", size=size) for i, size in enumerate(sizes)]
    assert any(sizes[i] < 100 for seed in range(20) for i in hold_back(images, 0.25, seed=seed).held_back)


def test_near_duplicate_images_go_together() -> None:
    items = [Item(str(i), f"group {i // 2}") for i in range(8)]
    parts = hold_back(items, 0.25)
    kept = {items[i].scan for i in parts.held_back}
    assert not kept & {items[i].scan for i in parts.train}
