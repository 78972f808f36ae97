from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.corrections.review import ModelMask, Review, annotated, drawn


def test_a_slice_s_way_through_its_states() -> None:
    review = Review(3, {0: "a", 1: "b"})
    assert review.states() == ("untouched",) * 3
    assert review.edited(0, "x")
    assert review.states() == ("edited", "untouched", "untouched")
    assert not review.edited(0, "x"), "nothing new"
    review.edited(0, "a")
    assert review.state(0) == "untouched", "everything was undone"
    review.edited(0, "x")
    review.confirm(0)
    assert review.state(0) == "confirmed"
    review.edited(0, "y")
    assert review.state(0) == "edited", "what was confirmed is another content"
    review.edited(0, "x")
    assert review.state(0) == "confirmed", "undo leads back to what was confirmed"
    review.unconfirm(0)
    assert review.state(0) == "edited"
    review.edited(0, "a")
    assert review.state(0) == "untouched"


def test_a_slice_may_be_right_as_the_model_made_it_and_an_empty_one_too() -> None:
    review = Review(3, {0: "a"})
    review.confirm(0)
    review.confirm(2)
    assert review.states() == ("confirmed", "untouched", "confirmed")
    review.edited(2, "x")
    assert review.state(2) == "edited"
    review.edited(2, "")
    assert review.state(2) == "confirmed"
    review.unconfirm(2)
    review.unconfirm(2)
    assert review.state(2) == "untouched"


def test_what_the_model_writes_later() -> None:
    review = Review(2, {0: "a", 1: "b"})
    review.edited(0, "x")
    review.model_wrote(0, "c")
    assert review.state(0) == "untouched"
    review.confirm(0)
    review.model_wrote(0, "c")
    assert review.state(0) == "confirmed", "the same content as before"
    review.model_wrote(0, "d")
    assert review.state(0) == "untouched", "nobody has said that this is right"
    review.edited(0, "c")
    assert review.state(0) == "edited"


def test_counts_and_what_trains() -> None:
    review = Review(5)
    review.edited(3, "x")
    review.confirm(1)
    assert review.counts() == {"untouched": 3, "edited": 1, "confirmed": 1}
    assert review.corrected() == (1, 3)
    assert len(review) == 5
    with pytest.raises(ValueError, match="at least one"):
        Review(0)


def test_an_earlier_session_is_put_back() -> None:
    review = Review(3, {0: "a"})
    review.restore(0, "x", "edited", "b")
    review.restore(1, "y", "confirmed", "")
    review.restore(2, "", "confirmed", "")
    assert review.states() == ("edited", "confirmed", "confirmed")
    review.edited(0, "b")
    assert review.state(0) == "untouched", "what the model had written in that session"
    review.restore(1, "", "untouched", "")
    assert review.state(1) == "untouched"


@given(st.lists(st.tuples(st.sampled_from(["edit", "confirm", "unconfirm", "write"]), st.sampled_from("abc"))))
def test_the_state_says_what_is_there(events: list[tuple[str, str]]) -> None:
    """Whatever happened: untouched is the model's content, confirmed is what was last confirmed, the rest is edited."""
    review = Review(1, {0: "a"})
    model, now, right = "a", "a", None
    for event, content in events:
        if event == "edit":
            review.edited(0, content)
            now = content
        elif event == "confirm":
            review.confirm(0)
            right = now
        elif event == "unconfirm":
            review.unconfirm(0)
            right = None
        else:
            review.model_wrote(0, content)
            model = now = content
            right = right if right == content else None
        expected = "confirmed" if right == now else "untouched" if now == model else "edited"
        assert review.state(0) == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_what_the_model_wrote_is_kept(dtype: type) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(dtype)
    mask[2] = 0
    kept = ModelMask((4, 5, 6))
    for z, labels in enumerate(mask):
        kept.keep(z, labels)
    for z, labels in enumerate(mask):
        assert np.array_equal(kept.slice_at(z), labels)
        assert (z in kept) == (z != 2)
    kept.keep(1, np.zeros((5, 6), dtype))
    assert not kept.slice_at(1).any()
    with pytest.raises(ValueError, match=r"\(5, 6\), not \(6, 5\)"):
        kept.keep(0, mask[0].T)


def test_only_what_was_drawn_counts_where_annotation_is_partial() -> None:
    model = np.array([[0, 1, 1], [0, 1, 2]], np.uint8)
    labels = np.array([[3, 1, 0], [0, 2, 2]], np.uint8)  # painted, erased, relabelled
    expected = np.array([[True, False, True], [False, True, False]])
    assert np.array_equal(drawn(labels, model), expected)
    counts = annotated(labels, model, "edited", partial=True)
    assert counts is not None
    assert np.array_equal(counts, expected)
    assert annotated(labels, model, "edited", partial=False) is None
    assert annotated(labels, model, "confirmed", partial=True) is None
    nothing = annotated(model, model, "edited", partial=True)
    assert nothing is not None
    assert not nothing.any()
