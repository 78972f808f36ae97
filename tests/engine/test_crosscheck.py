"""A cross-check judges every slice by a training that did not see it, and none that the checkpoint learnt from."""

from __future__ import annotations

import pytest

from napari_llm4seg.engine.crosscheck import Outlook, cross_check, learnt_from, outlook, parted
from napari_llm4seg.engine.finetune import Finetuner, finetune
from napari_llm4seg.engine.held_back import Item
from napari_llm4seg.errors import Cancelled, InputError

from .test_finetune import CONFIG, FIT, checkpoint, corrected

LEARNS = CONFIG.model_copy(update={"fit": FIT.model_copy(update={"epochs": 20, "validate_every": 10}), "parts": "all"})


def test_every_slice_is_judged_once_by_a_training_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = corrected((0, 3, 6, 9, 12, 15))
    seen: list[tuple[set[str], set[str]]] = []
    tuner = Finetuner(checkpoint(), LEARNS, "cpu")
    train = tuner.train

    def watched(*args, **how):  # type: ignore[no-untyped-def]
        done = train(*args, **how)
        names = [{args[0].slices[i].name for i in part} for part in (done.split.train, done.split.held_back)]
        seen.append((names[0], names[1]))
        return done

    monkeypatch.setattr(tuner, "train", watched)
    told: list[tuple[int, int]] = []
    gate = cross_check(tuner, slices, folds=3, on_fold=lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [score.name for score in gate.before] == [each.name for each in slices.slices]
    assert sorted(name for _, held in seen for name in held) == sorted(each.name for each in slices.slices)
    assert all(not train & held and len(train) == 4 for train, held in seen)
    assert gate.difference > 0.1
    assert tuner.checkpoint.digest == checkpoint().digest


def test_slices_that_the_model_has_learnt_from_train_and_are_not_judged() -> None:
    first = finetune(checkpoint(), corrected((0, 3)), LEARNS.model_copy(update={"hold_back": 0.0}), device="cpu")
    again = finetune(first.checkpoint, corrected((18,)), LEARNS, device="cpu")
    slices = corrected((0, 3, 6, 9, 12, 15))
    assert {slices.slices[i].digest for i in (0, 1)} < learnt_from(again.checkpoint)
    gate = cross_check(Finetuner(again.checkpoint, LEARNS, "cpu"), slices, folds=2)
    assert [score.name for score in gate.before] == [slices.slices[i].name for i in (2, 3, 4, 5)]
    halved = CONFIG.model_copy(update={"hold_back": 0.5})
    judged = finetune(again.checkpoint, corrected((0, 3, 18, 12)), halved, device="cpu").gate
    assert "learnt from" in judged.remarks()[0]
    assert outlook(again.checkpoint, slices) == Outlook(slices=4, trainings=3, fewest=4)
    assert outlook(checkpoint(), slices) == Outlook(slices=6, trainings=3, fewest=4)


def test_too_few_new_slices_are_one_line() -> None:
    with pytest.raises(InputError, match="needs 4 corrected slices that the model has not learnt from; there are 3"):
        cross_check(Finetuner(checkpoint(), CONFIG, "cpu"), corrected((0, 4, 8)))


def test_it_can_be_stopped() -> None:
    with pytest.raises(Cancelled):
        cross_check(Finetuner(checkpoint(), CONFIG, "cpu"), corrected(), cancel=lambda: True)


def test_neighbours_of_a_stack_lie_in_different_parts_and_near_duplicates_in_one() -> None:
    stack = [Item(str(z), "scan", z) for z in (9, 1, 5, 3, 7)]
    assert parted(stack, range(5), 3) == [[1, 4], [0, 3], [2]]
    images = [Item(str(i), f"group {group}") for i, group in enumerate("abab")]
    assert parted(images, range(4), 3) == [[0, 2], [1, 3]]
    assert parted(stack, [0, 2], 3) == [[2], [0]]
