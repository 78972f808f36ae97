from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.corrections.suggest import Evidence, Suggester, Weights, measure, uncertainty

HEADS = ["sigmoid", "softmax"]


def disc(radius: float = 12.0, width: float = 0.5, size: int = 48) -> np.ndarray:
    """Return the probability of a disc whose edge goes from 1 to 0 over about ``width`` pixels, (Y, X)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return 1 / (1 + np.exp((np.hypot(y, x) - radius) / width))


def as_head(probability: np.ndarray, head: str) -> np.ndarray:
    return np.stack([1 - probability, probability]) if head == "softmax" else probability[None]


def stack(head: str, slices: list[np.ndarray], **weights: float) -> Suggester:
    suggester = Suggester(len(slices), weights=Weights(**weights))
    for z, probability in enumerate(slices):
        suggester.add(z, as_head(probability, head), head)
    return suggester


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_uncertainty_is_one_at_the_threshold_and_nothing_at_certainty() -> None:
    values = np.array([[[0, 0.25, 0.5, 0.75, 1]]])
    np.testing.assert_allclose(uncertainty(values, "sigmoid")[0], [0, 0.5, 1, 0.5, 0])
    np.testing.assert_allclose(uncertainty(values, "sigmoid", 0.25)[0], [0, 1, 2 / 3, 1 / 3, 0], rtol=1e-6)
    both = np.concatenate([1 - values, values])
    np.testing.assert_allclose(uncertainty(both, "softmax")[0], [0, 0.5, 1, 0.5, 0])
    three = np.array([0.4, 0.35, 0.25]).reshape(3, 1, 1)
    np.testing.assert_allclose(uncertainty(three, "softmax"), 0.95, rtol=1e-6)
    two_classes = np.array([0.9, 0.45]).reshape(2, 1, 1)
    np.testing.assert_allclose(uncertainty(two_classes, "sigmoid"), 0.9, rtol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_both_heads_give_the_same_evidence_of_one_class(head: str) -> None:
    found = measure(as_head(disc(), head), head)
    other = measure(as_head(disc(), "sigmoid"), "sigmoid")
    assert found.unsure == pytest.approx(other.unsure, abs=1e-5)
    assert (found.edge, found.areas) == (other.edge, other.areas)
    assert found.areas[0] == pytest.approx(np.pi * 12**2 / 48**2, rel=0.02)


def test_a_square_s_edge_is_the_band_around_it() -> None:
    square = np.zeros((1, 20, 30))
    square[0, 5:15, 10:20] = 1
    for band in (1, 2, 3):  # on either side of the edge; the corners of the outermost ring touch no edge
        found = measure(square, "sigmoid", band=band)
        assert found.edge == pytest.approx(((10 + 2 * band) ** 2 - 4 - (10 - 2 * band) ** 2) / 600)
        assert found.unsure == 0
    assert found.areas == (100 / 600,)


def test_nothing_found_is_certain_unless_it_was_just_missed() -> None:
    nothing = measure(np.zeros((1, 20, 20)), "sigmoid")
    assert (nothing.unsure, nothing.edge, nothing.areas) == (0, 0, (0,))
    missed = np.zeros((1, 20, 20))
    missed[0, 5:10, 5:10] = 0.45
    found = measure(missed, "sigmoid")
    assert found.areas == (0,)
    assert found.unsure == pytest.approx(0.9)
    assert measure(np.full((1, 8, 8), np.nan), "sigmoid").unsure == 0


def test_how_large_the_thing_is_does_not_count_as_uncertainty() -> None:
    small, large = (measure(disc(radius, size=96)[None], "sigmoid") for radius in (10, 40))
    assert small.unsure == pytest.approx(large.unsure, rel=0.1)
    assert large.edge > 3 * small.edge


# --- ranking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("z", [0, 3, 9, 19])
def test_a_slice_with_an_unsure_edge_is_suggested_before_sure_ones(head: str, z: int) -> None:
    slices = [disc(width=0.3)] * 20
    slices[z] = disc(width=3)
    best = stack(head, slices, presence=0).next([])
    assert best is not None
    assert best.z == z
    assert best.reason.startswith("unsure edge (")


@pytest.mark.parametrize(("unsure", "sure"), [(6, 13), (13, 6), (2, 17)])
def test_of_slices_that_cover_as_much_the_unsure_one_comes_first(unsure: int, sure: int) -> None:
    slices = [disc(width=0.3)] * 20
    assert {s.z: s.gain for s in stack("sigmoid", slices).rank([9, 10])}[unsure] > 0
    slices[unsure] = disc(width=3)
    order = [suggestion.z for suggestion in stack("sigmoid", slices).rank([9, 10])]
    assert order.index(unsure) < order.index(sure)


def test_neighbours_of_corrected_slices_come_later() -> None:
    suggester = stack("sigmoid", [disc(width=2)] * 30)
    order = [suggestion.z for suggestion in suggester.rank([10])]
    assert order.index(20) < order.index(13) < order.index(11)
    assert 10 not in order
    assert sorted([*order, 10]) == list(range(30))
    best = suggester.next([10])
    assert best is not None
    assert best.z > 15


def test_of_two_unsure_slices_the_one_that_no_correction_is_near() -> None:
    slices = [disc(width=0.3)] * 30
    slices[6] = slices[22] = disc(width=3)
    suggester = stack("sigmoid", slices)
    assert suggester.rank([5])[0].z == 22
    assert suggester.rank([23])[0].z == 6


def test_a_slice_whose_area_breaks_the_run_is_suggested() -> None:
    slices = [disc(10, 0.3)] * 20
    slices[7] = disc(4, 0.3)
    best = stack("sigmoid", slices, presence=0).next([])
    assert best is not None
    assert best.z == 7
    assert best.reason == "area off its neighbours' (84%)"
    growing = [disc(4 + z / 2, 0.3) for z in range(20)]
    assert "area" not in stack("sigmoid", growing).rank([])[0].reason


def test_slices_that_hold_nothing_come_after_those_that_hold_the_thing_however_undecided_they_are() -> None:
    undecided = np.full((48, 48), 0.45)
    slices = [undecided] * 40 + [disc(width=1)] * 12 + [undecided] * 8
    suggester = stack("sigmoid", slices)
    assert {z for z in suggester.plan(5) if 39 <= z <= 52} == set(suggester.plan(5))
    assert 40 <= suggester.rank([46])[0].z < 52


def test_what_hangs_together_with_a_corrected_slice_comes_before_what_was_found_elsewhere() -> None:
    nothing = np.zeros((48, 48))
    slices = [disc(16, 1)] * 12 + [nothing] * 16 + [disc(10, 1)] * 12
    assert stack("sigmoid", slices).rank([])[0].z < 12  # the larger, while nothing is known of either
    ranked = stack("sigmoid", slices).rank([33])
    assert 28 <= ranked[0].z < 40
    order = [suggestion.z for suggestion in ranked]
    assert order.index(6) < order.index(20)  # yet it may be there too
    alike = stack("sigmoid", slices, outside=1.0).rank([33])
    assert alike[0].z < 12


def test_a_little_beyond_the_ends_of_the_thing_is_looked_at_before_the_empty_rest() -> None:
    slices = [np.zeros((48, 48))] * 30 + [disc(12, 0.3)] * 4 + [np.zeros((48, 48))] * 30
    order = [suggestion.z for suggestion in stack("sigmoid", slices).rank([31, 32])]
    assert order.index(35) < order.index(40)
    assert order.index(28) < order.index(20)


def test_without_probabilities_the_choice_is_even_coverage() -> None:
    suggester = Suggester(21)
    assert suggester.plan(3) == [10, 3, 17]
    first, second = suggester.next([]), suggester.next([10])
    assert first is not None
    assert second is not None
    assert first.reason == "in the middle of what is not corrected"
    assert second.reason == "7 slices from the nearest corrected one"


def test_nothing_left() -> None:
    suggester = stack("sigmoid", [disc()] * 4)
    assert suggester.next(range(4)) is None
    assert suggester.enough(range(4))
    assert suggester.plan(9) != []
    assert len(suggester.plan(9)) == 4
    assert Suggester(0).next([]) is None


def test_slices_without_probabilities_count_like_most() -> None:
    suggester = Suggester(9)
    for z in (0, 1, 2):
        suggester.add(z, disc(width=2)[None], "sigmoid")
    ranked = {suggestion.z: suggestion for suggestion in suggester.rank([])}
    assert ranked[7].gain > 0
    assert not ranked[7].reason.startswith("unsure")


def test_images_of_a_set_have_no_neighbours() -> None:
    suggester = Suggester(5, stack=False)
    for z, width in enumerate([0.3, 2.0, 1.0, 2.0, 0.3]):
        suggester.add(z, disc(8 + 3 * z, width)[None], "sigmoid")
    suggester.note({z: Evidence(e.unsure, 1.0, e.areas) for z, e in suggester.evidence.items()})
    order = [suggestion.z for suggestion in suggester.rank([])]
    assert set(order[:2]) == {1, 3}
    assert order[2] == 2
    assert [suggestion.z for suggestion in suggester.rank([1])] == [z for z in order if z != 1]
    plain = Suggester(3, stack=False).next([0])
    assert plain is not None
    assert (plain.z, plain.reason) == (1, "not corrected yet")


def test_further_correction_buys_little_once_the_gain_is_a_small_part_of_the_first() -> None:
    suggester = stack("sigmoid", [disc(width=2)] * 20)
    assert not suggester.enough([])
    assert suggester.next([]) is not None
    done = [10]
    while not suggester.enough(done):
        best = suggester.next(done)
        assert best is not None
        done.append(best.z)
    assert 3 < len(done) < 20
    # the model has learnt: what is left is certain
    for z in range(20):
        suggester.add(z, disc(width=0.05)[None], "sigmoid")
    assert suggester.enough([10])


def same_needs(suggester: Suggester, some: set[int], more: set[int]) -> bool:
    one, other = suggester._needs(sorted(some)), suggester._needs(sorted(more))
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_correcting_a_run_makes_what_lies_just_beyond_it_count_more() -> None:
    suggester = Suggester(16, weights=Weights(outside=1.0))
    suggester.note({z: Evidence(0, 0, (float(z < 10),)) for z in range(16)})
    before, after = ({s.z: s.gain for s in suggester.rank(done)} for done in ([], [0]))
    assert after[12] > before[12]
    assert not same_needs(suggester, set(), {0})
    assert same_needs(suggester, {0}, {0, 15})


@given(st.data())
def test_gains_never_grow_by_correcting_more_and_the_ranking_is_repeatable(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 15))
    fractions = st.floats(0, 1)
    suggester = Suggester(n, data.draw(st.booleans()), Weights(outside=1.0))
    known = data.draw(st.sets(st.integers(0, n - 1)))
    suggester.note({z: Evidence(data.draw(fractions), data.draw(fractions), (data.draw(fractions),)) for z in known})
    some = data.draw(st.sets(st.integers(0, n - 1)))
    more = some | data.draw(st.sets(st.integers(0, n - 1)))
    before = {suggestion.z: suggestion.gain for suggestion in suggester.rank(some)}
    after = {suggestion.z: suggestion.gain for suggestion in suggester.rank(more)}
    assert set(after) == set(range(n)) - more
    assert all(gain >= 0 for gain in after.values())
    # in a stack, which slices count in full depends on what was corrected, and with it what a correction gains
    if not suggester.stack or same_needs(suggester, some, more):
        assert all(after[z] <= before[z] + 1e-8 for z in after)
    assert suggester.rank(some) == suggester.rank(sorted(some))
    usual = Suggester(n, suggester.stack)
    usual.note(suggester.evidence)
    ranked = usual.rank(some)
    assert ranked == usual.rank(sorted(some))
    assert {suggestion.z for suggestion in ranked} == set(before)
    assert all(suggestion.gain >= 0 for suggestion in ranked)
