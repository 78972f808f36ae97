"""The verdict says no more than the figures bear, and no loss goes unsaid."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.engine.gate import TOLERANCE, compare
from napari_llm4seg.engine.scores import Score


def made(name: str, hits, said, true, distances=None, pixels: int = 10_000, alone: bool = False) -> Score:
    """Return the score of a slice, of one class where the counts are numbers."""
    counts = [each if isinstance(each, tuple) else (each,) for each in (hits, said, true)]
    return Score(name, *counts, distances or (None,) * len(counts[0]), "mm", pixels, alone)


def scores(*values: float, alone: bool = False) -> list[Score]:
    """Return slices with these Dice, each with as many pixels in mask and truth."""
    return [made(f"slice {i}", round(1000 * value), 1000, 1000, alone=alone) for i, value in enumerate(values)]


def test_without_held_back_slices_nothing_is_claimed() -> None:
    gate = compare([], [])
    assert gate.verdict == "not measured"
    assert "no corrected slice was held back" in gate.words()
    assert gate.as_dict()["dice_after"] is None
    assert math.isnan(gate.difference)
    assert not gate.worse


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([0.80], [0.95], "perhaps better"),
        ([0.80], [0.785], "perhaps worse"),
        ([0.80], [0.795], "no clear difference"),
        ([0.80, 0.70, 0.75], [0.85, 0.78, 0.77], "perhaps better"),
        ([0.80, 0.70, 0.75, 0.8], [0.85, 0.78, 0.77, 0.83], "better"),
        ([0.80, 0.70, 0.75, 0.8], [0.75, 0.67, 0.71, 0.78], "worse"),
        ([0.80, 0.70, 0.75], [0.85, 0.78, 0.74], "perhaps better"),
        ([0.80, 0.70, 0.75], [0.795, 0.695, 0.745], "no clear difference"),
        ([0.80, 0.70, 0.75], [0.78, 0.69, 0.73], "perhaps worse"),
        ([0.80, 0.70, 0.75], [0.90, 0.50, 0.75], "perhaps worse"),
        ([0.80] * 6, [0.795, 0.794, 0.796, 0.795, 0.795, 0.793], "worse"),
        ([0.80] * 6, [0.805, 0.806, 0.804, 0.805, 0.805, 0.807], "better"),
        ([0.80] * 6, [0.81, 0.79, 0.80, 0.80, 0.81, 0.79], "no clear difference"),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_verdicts(before, after, verdict, alone) -> None:
    gate = compare(scores(*before, alone=alone), scores(*after, alone=alone))
    assert gate.verdict == verdict
    assert gate.words().startswith(verdict.capitalize())
    assert gate.worse == ("worse" in verdict)
    assert gate.as_dict()["dice_before"] == pytest.approx(np.mean(before))
    assert gate.difference == pytest.approx(np.mean(after) - np.mean(before))


SLICES = st.lists(
    st.tuples(*(st.integers(0, 200) for _ in range(3)), *(st.floats(0, 1) for _ in range(2))), min_size=1, max_size=9
)


@given(SLICES, st.booleans())
def test_no_fall_of_more_than_the_tolerance_goes_unwarned(rows, alone) -> None:
    before, after = [], []
    for i, (true, said, again, one, two) in enumerate(rows):
        before.append(made(str(i), round(one * min(true, said)), said, true, alone=alone))
        after.append(made(str(i), round(two * min(true, again)), again, true, alone=alone))
    gate = compare(before, after)
    shown = gate.as_dict()
    if shown["dice_before"] is not None and shown["dice_after"] - shown["dice_before"] < -TOLERANCE:
        assert gate.worse
        assert "worse" in gate.words().lower()
    json.dumps(shown, allow_nan=False)


def test_a_stray_pixel_in_a_slice_that_lacks_the_class_is_no_alarm() -> None:
    before = [made("a", 900, 1000, 1000), made("end", 0, 0, 0), made("sliver", 0, 0, 2)]
    after = [made("a", 920, 1000, 1000), made("end", 0, 1, 0), made("sliver", 0, 0, 2)]
    gate = compare(before, after)
    assert gate.difference == pytest.approx(1840 / 2003 - 1800 / 2002)
    assert not gate.worse


def test_where_none_was_to_be_held_back_more_slices_are_not_said_to_help() -> None:
    assert "With 4 or more corrected slices" in compare([], []).trust()
    assert compare([], [], wanted=False).trust() == (
        "Not measured: every corrected slice trained. Look at the result before you keep it."
    )


def test_slices_that_taught_the_old_model_are_told_of() -> None:
    assert compare(scores(0.9), scores(0.9)).remarks() == []
    assert compare(scores(0.9), scores(0.9), taught=1).remarks() == [
        "The old model had learnt from 1 of them: its Dice is too good"
    ]


def test_one_slice_has_no_interval_and_says_so() -> None:
    gate = compare(scores(0.8), scores(0.9))
    assert gate.low is None
    assert "single slice" in gate.words()
    assert "no interval" in gate.words()
    assert gate.as_dict()["interval"] is None


def test_words_tell_a_loss_from_what_may_be_chance() -> None:
    clear = compare(scores(0.8, 0.7, 0.8, 0.7, 0.8, 0.7), scores(0.7, 0.6, 0.71, 0.6, 0.7, 0.61))
    assert clear.trust() == "Worse, by more than the 6 slices differ by chance."
    few = compare(scores(0.8, 0.7), scores(0.7, 0.71))
    assert few.trust() == "Perhaps worse: Dice fell, but 2 slices are too few to tell it from chance."
    assert "from -0.100 to +0.010" in few.words()
    some = compare(scores(0.8, 0.7, 0.8, 0.7), scores(0.7, 0.6, 0.71, 0.61))
    assert some.trust() == "Worse, by more than the 4 slices differ: a rough idea, they are few."
    assert "95 % interval" in some.words()


def test_classes_that_are_not_there_are_told_and_warned_of_where_they_are_many() -> None:
    before = [made("a", (900, 0), (1000, 0), (1000, 0))]
    for pixels, worse in ((3, False), (300, True)):
        gate = compare(before, [made("a", (900, 0), (1000, pixels), (1000, 0))])
        assert gate.difference == 0
        assert gate.worse is worse
        assert gate.remarks() == [
            "No distance: class absent in 0 -> 1 slices",
            f"Classes not there: 0 -> {pixels} pixels",
        ]
    assert gate.trust().startswith("Perhaps worse: classes that are not there are marked now, 300 pixels (0 before).")


def test_where_nothing_is_held_there_is_no_dice_but_made_up_masks_are_warned_of() -> None:
    nothing = [made("a", 0, 5, 0), made("b", 0, 0, 0)]
    quiet = compare(nothing, [made("a", 0, 9, 0), made("b", 0, 0, 0)])
    assert (quiet.verdict, quiet.worse, quiet.as_dict()["dice_after"]) == ("not measured", False, None)
    assert "no class is in what was held back" in quiet.words()
    loud = compare(nothing, [made("a", 0, 5000, 0), made("b", 0, 0, 0)])
    assert (loud.verdict, loud.worse, loud.n) == ("perhaps worse", True, 2)


def test_scores_of_other_slices_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="other slices"):
        compare(scores(0.5), [made("another", 5, 10, 10)])
