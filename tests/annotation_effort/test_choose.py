from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.corrections.suggest import Evidence
from training.annotation_effort.choose import even, first, suggested, unsuggested


def test_even_distances() -> None:
    assert even(4, 40) == [5, 15, 25, 35]
    assert even(2, 10, taken=[2, 7]) == [1, 6]
    assert even(3, 2) == [0, 1]


@given(n=st.integers(2, 60), data=st.data())
def test_every_choice_gives_as_many_distinct_slices_as_asked_for(n: int, data: st.DataObject) -> None:
    present = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    k = data.draw(st.integers(1, n - 1))
    for choice in ("uniform", "random"):
        chosen = unsuggested(choice, k, n, present, 3)  # type: ignore[arg-type]
        assert len(set(chosen)) == k
        assert set(chosen) <= set(range(n))
        assert first(present) in chosen
    organ = unsuggested("organ", k, n, present, 0)
    assert set(organ) <= set(present)
    assert len(set(organ)) == min(k, len(present))
    assert len(set(suggested(k, n, True, [], {}, present))) == k


def test_random_choices_depend_on_the_seed_alone() -> None:
    draws = [unsuggested("random", 6, 50, [20, 21], seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_suggestions_go_on_from_what_was_chosen_by_what_the_last_model_said() -> None:
    evidence = {z: Evidence(0.0, 0.2, (0.1,)) for z in range(30)}
    evidence[24] = Evidence(1.0, 0.2, (0.1,))
    assert suggested(2, 30, True, [3], evidence, [3]) == [3, 24]


@pytest.mark.parametrize("present", [[7], [4, 7, 20]])
def test_a_session_without_a_model_begins_with_the_middle_of_the_organ(present: list[int]) -> None:
    assert suggested(1, 30, True, [], {}, present) == [7]
