from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_llm4seg.corrections.session import CorrectionSession
from napari_llm4seg.corrections.store import SampleStore
from napari_llm4seg.corrections.writer import Writer
from napari_llm4seg.errors import InputError

from .made import Array, image_of, scan

VOLUME = scan(0, (5, 8, 9))
GRID = VOLUME.grid


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    with SampleStore.open(tmp_path / "project", create=True) as opened:
        yield opened


@pytest.fixture
def begin(store: SampleStore) -> Iterator[Callable[..., CorrectionSession]]:
    writer = Writer(store, delay=60)
    yield lambda **others: CorrectionSession(store, writer, store.scan_for(VOLUME), VOLUME, **others)
    writer.close()


def predicted() -> Array:
    mask = np.zeros(GRID, np.int32)  # as wide as a layer that a person made
    mask[1:4, 2:6, 2:7] = 1
    return mask


def states(session: CorrectionSession, store: SampleStore) -> dict[int, str]:
    """Return what is on the disk of every slice along the session's axis."""
    assert session._writer.flush(10)
    return {r.index: r.state for r in store.records(session.scan) if r.axis == session.axis}


def test_what_is_done_to_a_mask_gets_to_the_disk(begin: Callable[..., CorrectionSession], store: SampleStore) -> None:
    session, mask = begin(model="abc"), predicted()
    session.model_wrote(mask)
    assert session.look(mask) == []
    mask[2, 0, 0] = 1
    assert session.look(mask) == [2]
    assert states(session, store) == {2: "edited"}
    (record,) = store.records()
    assert (record.model, record.partial, record.written) == ("abc", False, session.review.written(2))
    image, labels = store.load(record)
    assert np.array_equal(image, image_of(VOLUME, 0, 2))
    assert np.array_equal(labels, mask[2])
    assert labels.dtype == np.uint8
    session.confirm(3, mask)
    session.confirm(4, mask)
    assert states(session, store) == {2: "edited", 3: "confirmed", 4: "confirmed"}
    mask[3, 0, 0] = 1
    session.look(mask, [3])
    assert states(session, store)[3] == "edited"
    assert session.corrected() == (2, 3, 4)
    mask[3, 0, 0] = 0
    session.look(mask, [3])
    assert states(session, store)[3] == "confirmed"
    session.unconfirm(3, mask)
    session.unconfirm(4, mask)
    mask[2, 0, 0] = 0
    session.look(mask)
    assert states(session, store) == {}
    assert session.review.counts() == {"untouched": 5, "edited": 0, "confirmed": 0}


def test_an_edit_that_nobody_told_of_is_seen_when_the_slice_is_confirmed(
    begin: Callable[..., CorrectionSession], store: SampleStore
) -> None:
    session, mask = begin(), predicted()
    session.model_wrote(mask)
    mask[2, 0, 0] = 1
    session.confirm(2, mask)
    assert states(session, store) == {2: "confirmed"}
    assert store.load(store.records()[0])[1][0, 0] == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_partial_annotation_counts_what_was_drawn_along_any_axis(
    begin: Callable[..., CorrectionSession], store: SampleStore, axis: int
) -> None:
    session, mask = begin(axis=axis, partial=True), predicted()
    session.model_wrote(mask)
    old = mask.copy()
    mask[2, 3, 4], mask[2, 0, 4] = 0, 2  # erased and painted
    changed = session.look(mask)
    assert changed == [[2], [0, 3], [4]][axis]
    session._writer.flush(10)
    for record in store.records():
        labels = store.load(record)[1]
        now, before = mask.take(record.index, axis), old.take(record.index, axis)
        assert np.array_equal(labels != 255, now != before)
        assert np.array_equal(labels[labels != 255], now[labels != 255])
        assert record.partial
    session.annotate_partly(False, mask)
    session._writer.flush(10)
    assert not any(record.partial for record in store.records())
    session.confirm(changed[0], mask)
    session.annotate_partly(True, mask)
    session._writer.flush(10)
    partial = {record.index: record.partial for record in store.records()}
    assert partial == {index: index != changed[0] for index in changed}


def test_an_earlier_session_is_offered_and_taken_up(
    begin: Callable[..., CorrectionSession], store: SampleStore
) -> None:
    first, mask = begin(model="old", partial=True), predicted()
    first.model_wrote(mask)
    mask[2, 0, 0] = 2
    first.look(mask)
    first.confirm(3, mask)
    first._writer.flush(10)

    later, fresh = begin(partial=True), np.zeros(GRID, np.uint8)
    offered = later.offer()
    assert sorted(offered) == [2, 3]
    for index, restored in offered.items():
        fresh[index] = restored.labels
        later.take_up(index, restored)
    assert np.array_equal(fresh[2:4], mask[2:4])
    assert later.look(fresh) == [], "taking up is no edit"
    assert later.review.states()[2:4] == ("edited", "confirmed")
    fresh[2, 7, 7] = 1
    later.look(fresh)
    later._writer.flush(10)
    record = store.records()[0]
    labels = store.load(record)[1]
    assert labels[0, 0] == 2
    assert labels[7, 7] == 1
    assert (labels != 255).sum() == 2, "what the model had written then still does not count"
    assert record.model == "old"
    fresh[2] = 0
    fresh[2, 2:6, 2:7] = 1  # back to what the model had written in the earlier session
    later.look(fresh)
    assert states(later, store) == {3: "confirmed"}


def test_undoing_everything_brings_back_what_an_earlier_session_had_corrected(
    begin: Callable[..., CorrectionSession], store: SampleStore
) -> None:
    first, mask = begin(model="old"), predicted()
    first.model_wrote(mask)
    mask[2, 0, 0] = 2
    first.confirm(2, mask)
    first._writer.flush(10)
    digest = store.records()[0].digest

    later, other = begin(model="new"), predicted()
    other[2, 1, 1] = 1
    later.model_wrote(other)
    assert later.corrected() == (2,), "the earlier correction trains on"
    other[2, 5, 5] = 2
    later.look(other)
    assert states(later, store) == {2: "edited"}
    other[2, 5, 5] = 1
    later.look(other)
    assert states(later, store) == {2: "confirmed"}
    (record,) = store.records()
    assert (record.digest, record.model) == (digest, "old")
    assert later.review.state(2) == "untouched", "of the mask on show"


def test_what_the_model_writes_later_takes_nothing_from_the_disk(
    begin: Callable[..., CorrectionSession], store: SampleStore
) -> None:
    session, mask = begin(), predicted()
    session.model_wrote(mask)
    mask[2, 0, 0] = 1
    session.look(mask)
    mask[2] = 0
    mask[0, 0, 0] = 1
    session.model_wrote(mask, [0, 2])
    assert session.look(mask) == []
    assert states(session, store) == {2: "edited"}
    assert session.review.states() == ("untouched",) * 5
    assert session.corrected() == ()


def test_a_mask_of_another_size_is_refused_and_nothing_is_lost(
    begin: Callable[..., CorrectionSession], store: SampleStore
) -> None:
    session, mask = begin(), predicted()
    session.model_wrote(mask)
    session.confirm(2, mask)
    calls: tuple[Callable[[Array], Any], ...] = (
        session.look,
        session.model_wrote,
        lambda other: session.confirm(1, other),
        lambda other: session.annotate_partly(True, other),
    )
    for call in calls:
        with pytest.raises(InputError, match=r"shape \(5, 8, 8\) now .* What was corrected before is kept"):
            call(mask[:, :, 1:])
    assert states(session, store) == {2: "confirmed"}
    assert session.look(mask) == []


def test_suggestions_know_what_was_corrected_here_and_earlier(begin: Callable[..., CorrectionSession]) -> None:
    first, mask = begin(), predicted()
    first.confirm(2, mask)
    first._writer.flush(10)
    session = begin()
    values = np.full((1, 8, 9), 0.01)
    for z in range(5):
        session.probabilities(z, values, "sigmoid")
    unsure = values.copy()
    unsure[0, 2:6, 2:6] = 0.45  # below the threshold: the areas stay equal
    session.probabilities(2, unsure, "sigmoid")
    session.probabilities(4, unsure, "sigmoid")
    best = session.suggestion()
    assert best is not None
    assert best.z == 4
    assert not session.enough()
    for z in (0, 1, 3, 4):
        session.confirm(z, mask)
    assert session.suggestion() is None
    assert session.enough()
