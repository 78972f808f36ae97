"""Retrain, keep and roll back on a ``ViewerModel``: real layers and projects; what trains and predicts are fakes."""

from __future__ import annotations

import numpy as np

from napari_llm4seg.config import FinetuneConfig
from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.gui.controllers.verdict import figures
from napari_llm4seg.gui.layers import classes_of, set_classes
from napari_llm4seg.gui.state.settings import Settings

from .retrain_room import BETTER, OLD, PERHAPS, WORSE


def test_what_cannot_be_pressed_says_why(room):
    assert "There is no mask" in room.state.train.tooltip
    room.bench.segment()
    assert room.state.train.tooltip == "Correct or confirm a slice first."
    assert room.state.new.tooltip == "Correct or confirm a slice first."
    assert not room.trainers, "nothing is warmed before the first correction"


def test_the_first_correction_warms_the_process_and_each_further_one_again(room):
    layer = room.correct(2)
    assert room.state.train.enabled
    assert room.state.train.text == "Retrain with 1 slice"
    assert room.trainer.names() == ["load", "warm"]
    assert room.trainer.asked[0] == ("load", "/starters/liver", "auto")
    scans = room.bench.controller.scans()
    assert room.trainer.asked[1] == ("warm", room.bench.controller.project.store.folder, scans)
    room.bench.viewer.dims.set_current_step(0, 3)
    assert room.trainer.names() == ["load", "warm"], "looking at another slice is no reason"
    room.trainer.busy = "warm"
    room.bench.paint(layer, 3, 3, 4)
    room.bench.written()
    room.trainer.busy = ""
    room.trainer.tell({"event": "finished", "what": "warm"})
    assert room.trainer.names() == ["load", "warm", "warm"]
    assert len(room.trainers) == 1


def test_a_training_shows_its_curves_and_time_and_can_be_stopped(room):
    room.correct(2)
    room.controller.choose_parts("adapters")
    room.controller.retrain()
    quick = FinetuneConfig.quick("adapters").model_dump(mode="json")
    assert room.trainer.asked[-1] == ("train", room.bench.controller.scans(), quick, "")
    assert room.state.busy
    assert not room.state.train.enabled
    assert room.state.progress.text == "warming up"
    room.trainer.tell({"event": "split", "train": [], "held_back": [{"digest": "f" * 64}], "seconds": 7.0})
    assert room.bench.controller.project.store.held_back == {"f" * 64}
    step = {"event": "step", "epoch": 2, "epochs": 8, "loss": 0.5, "fraction": 0.25}
    room.trainer.tell(step)
    room.trainer.tell({**step, "event": "validated", "score": 0.7, "best": 0.7, "seconds_left": 12.0})
    assert room.state.curve.loss == ((2.0, 0.5),)
    assert room.state.curve.score == ((2.0, 0.7),)
    assert room.state.progress.text == "epoch 2 · 7 s left", "the time it has ends it before its epochs do"
    assert room.state.progress.done / room.state.progress.total == 0.25
    room.controller.stop()
    assert room.trainer.names()[-1] == "stop"
    room.trainer.finish()
    assert room.state.verdict is not None


def test_cancel_keeps_nothing(room):
    layer = room.correct(2)
    before = layer.data.copy()
    room.controller.retrain()
    room.controller.cancel()
    assert room.trainer.names()[-1] == "cancel"
    room.trainer.busy = ""
    room.trainer.tell({"event": "cancelled", "what": "train"})
    assert not room.state.busy
    assert room.state.verdict is None
    assert "nothing of it is kept" in room.state.message.text
    assert np.array_equal(layer.data, before)


def test_before_and_after_are_shown_with_what_changes_here(room):
    layer = room.correct(2)
    before = layer.data.copy()
    room.controller.retrain()
    room.bench.viewer.dims.set_current_step(0, 1)
    room.trainer.finish()
    verdict = room.state.verdict
    assert verdict.lines == (
        "Held back: 2 slices",
        "Dice 0.84 → 0.91 (+0.02 to +0.11)",
        "HD95 5.1 → 3.2 mm (−3.0 to +0.2)",
        "No distance: class absent in 1 → 0 slices",
    )
    assert "better" in verdict.words
    change = next(each for each in room.bench.viewer.layers if "what the new model changes" in each.name)
    grid = room.bench.scan.data[1] / 255 > 0.5
    added = int((grid & (before[1] == 0)).sum())
    assert np.array_equal(change.data[1] == 1, grid & (before[1] == 0))
    assert verdict.changes == f"In slice 1: +{added} (blue) and −0 pixels (orange)"
    assert [choice.label for choice in room.bench.state.masks] == [layer.name], "it is no mask to correct"
    assert room.bench.viewer.layers.selection.active is not change
    room.bench.viewer.dims.set_current_step(0, 0)
    assert "slice 0" in room.state.verdict.changes
    assert change.data[0].any()
    assert np.array_equal(layer.data, before), "the mask itself is as it was"
    room.controller.roll_back()
    assert change not in room.bench.viewer.layers
    assert room.state.verdict is None
    assert room.session.model == room.start


def test_a_kept_version_is_the_model_and_segments_what_nobody_touched(room):
    layer = room.correct(2)
    room.bench.controller.show_slice(1)
    room.bench.controller.confirm()
    before, heard = layer.data.copy(), []
    room.session.stack_written.connect(heard.append)
    room.controller.retrain()
    room.trainer.finish()
    assert room.state.verdict.keep.text == "Keep as v1"
    room.controller.keep()
    assert heard == [room.session.mask_id], "its pieces are looked at"
    assert [row.name for row in room.state.versions] == ["liver v1"]
    assert room.state.versions[0].current
    assert room.state.versions[0].score == "Dice 0.91 (2)"
    assert room.session.model.name == "liver v1"
    assert room.session.predictor.checkpoint.digest == "/versions/v1"
    assert "liver v1" in [entry.name for entry in room.chooser.entries]
    assert np.array_equal(layer.data[1:3], before[1:3]), "edited and confirmed slices stay"
    new = room.bench.scan.data / 255 > 0.5
    assert np.array_equal(layer.data[3:], new[3:])
    assert layer.name == "ct · seg · liver v1"
    assert room.bench.state.strip.marks == (
        "untouched", "confirmed", "edited", "untouched", "untouched", "untouched"
    )  # fmt: skip
    assert not any("what the new model" in each.name for each in room.bench.viewer.layers)
    assert "4 untouched slices were segmented with it" in room.state.message.text

    layer.undo()
    room.bench.soon.come()
    assert np.array_equal(layer.data, before), "it was one undo step"
    assert room.bench.state.counts.startswith("1 edited · 1 confirmed"), "and undoing it is no edit"
    layer.redo()
    room.bench.soon.come()
    room.controller.roll_back()
    assert np.array_equal(layer.data, before)
    assert layer.name == "ct · seg · liver-v1"
    assert room.session.model == room.start
    assert room.keeper.current == 0
    assert not room.state.versions[0].current
    assert "stays among the versions" in room.state.message.text
    room.bench.soon.come()
    assert room.bench.state.counts.startswith("1 edited · 1 confirmed")
    layer.undo()
    room.bench.soon.come()
    assert np.array_equal(layer.data[3:], new[3:])


def test_rolling_back_leaves_what_was_edited_since(room):
    layer = room.trained()
    before = layer.data.copy()
    room.controller.keep()
    layer.paint((4, 9, 9), 2)
    room.bench.soon.come()
    edited = layer.data[4].copy()
    room.controller.roll_back()
    room.bench.soon.come()
    assert np.array_equal(layer.data[4], edited)
    assert np.array_equal(layer.data[5], before[5])
    assert room.bench.state.strip.marks[4] == "edited"


def test_a_worse_model_is_kept_at_the_second_click_only(room):
    room.trained(WORSE)
    assert room.state.verdict.worse
    assert room.state.verdict.words.startswith("Worse")
    room.controller.keep()
    assert not room.keeper.kept
    assert "worse" in room.state.message.text
    assert room.state.verdict.keep.text == "Keep as v1 all the same"
    room.controller.keep()
    assert len(room.keeper.kept) == 1


def test_one_that_may_be_worse_by_chance_is_asked_about_too(room):
    room.trained(PERHAPS)
    assert room.state.verdict.worse
    room.controller.keep()
    assert not room.keeper.kept
    assert "may be worse" in room.state.message.text


def test_what_was_held_back_may_hold_nothing(room):
    nothing = {**BETTER, "dice_before": None, "dice_after": None, "interval": None, "hd95_before": None}
    room.trained({**nothing, "verdict": "not measured", "trust": "Not measured: no class.", "remarks": []})
    assert room.state.verdict.lines == ("Held back: 2 slices",)
    assert room.state.verdict.words == "Not measured: no class."
    room.controller.keep()
    assert room.state.versions[0].score == "not measured"


def test_figures_of_versions_kept_before_pixels_were_counted():
    assert figures(OLD) == ("Held back: 2 slices", "Dice 0.84 → 0.91 (+0.02 to +0.11)", "HD95 5.1 → 3.2 mm")


def test_nothing_trains_while_a_new_model_waits_for_a_decision(room):
    room.trained()
    assert room.state.train.tooltip == "Keep the new model or roll it back first."
    room.controller.retrain()
    assert room.trainer.names().count("train") == 1


def test_a_killed_process_is_told_in_words_and_can_be_tried_again(room):
    room.correct(2)
    room.controller.retrain()
    room.trainer.busy = ""
    room.trainer.tell({"event": "died", "what": "train", "error": "The training process was killed. Try again."})
    assert room.state.message.text == "The training process was killed. Try again."
    assert room.state.message.kind == "error"
    assert not room.state.busy
    assert room.state.train.enabled
    count = len(room.trainer.asked)
    room.bench.viewer.dims.set_current_step(0, 1)
    assert len(room.trainer.asked) == count, "what has died is not warmed again of its own accord"
    room.controller.retrain()
    assert room.trainer.names()[-1] == "train"
    room.trainer.finish()
    assert room.state.verdict is not None


def test_a_training_that_fails_is_said(room):
    room.correct(2)
    room.controller.retrain()
    room.trainer.tell({"event": "failed", "what": "train", "error": "Memory did not suffice for the training."})
    assert "Memory did not suffice" in room.state.message.text
    assert room.state.train.enabled


def test_a_version_that_cannot_be_written_can_be_kept_later(room):
    from napari_llm4seg.errors import InputError

    room.trained()
    room.keeper.broken = InputError("The disk is full. Make room.")
    room.controller.keep()
    assert room.state.message.text == "The disk is full. Make room."
    assert room.session.model == room.start
    room.keeper.broken = None
    room.controller.keep()
    assert room.session.model.name == "liver v1"


def test_what_a_new_model_is_made_of_is_chosen_kept_and_handed_on(room):
    room.correct(2)
    made = room.state.made
    assert (made.size, made.backbone, made.layer) == ("small", "cmunext", "smollm2-135m")
    assert made.summary == "Small · CMUNeXt · SmolLM2"
    assert made.summary in room.state.new.tooltip
    for name, key in (("preset", "base"), ("backbone", "unet"), ("layer", "random")):
        room.controller.choose_new(name, key)
    assert room.state.made.summary == "Base · U-Net · random layer"
    room.controller.new_model("abdomen")
    asked = room.trainer.asked[-1][-1]
    assert {key: asked[key] for key in ("preset", "backbone", "layer")} == {
        "preset": "base", "backbone": "unet", "layer": "random",
    }  # fmt: skip
    assert not room.state.made.enabled, "nothing is chosen while it trains"
    assert Settings.load().new_model == {"preset": "base", "backbone": "unet", "layer": "random"}


def test_a_new_model_is_trained_from_the_classes_of_the_mask(room):
    layer = room.correct(2)
    before = layer.data.copy()
    assert room.state.new.enabled
    assert room.state.new_classes == "liver, spleen"
    room.controller.new_model("abdomen")
    scans = room.bench.controller.scans()
    made = {"preset": "small", "backbone": "cmunext", "layer": "smollm2-135m", "modality": "", "device": "auto"}
    assert room.trainer.asked[-1] == ("new", ["liver", "spleen"], scans, "abdomen", made)
    room.trainer.tell({"event": "split", "train": [], "held_back": [], "seconds": 105.0})
    room.trainer.tell({"event": "step", "epoch": 3, "epochs": 300, "loss": 0.5, "fraction": 0.01})
    assert room.state.progress.text in ("epoch 3 · 1 min 45 s left", "epoch 3 · 1 min 44 s left")
    assert room.state.curve.loss == ((3.0, 0.5),)
    assert room.state.stop.visible
    room.trainer.finish({"n": 0, "worse": False, "verdict": "not measured", "words": "Not measured: too few."})
    assert room.state.verdict.lines == ()
    assert "Not measured" in room.state.verdict.words
    room.controller.keep()
    assert room.session.model.name == "liver v1"
    assert not np.array_equal(layer.data, before)
    assert room.session.model != room.start
    room.controller.roll_back()
    assert np.array_equal(layer.data, before)
    assert room.session.model == room.start, "what was in use before the new model"
    assert f"'{room.start.name}' is in use again" in room.state.message.text


def test_classes_named_after_the_first_correction_are_in_the_project_once_a_new_model_learns_them(room):
    layer = room.correct(2)
    set_classes(layer, (*classes_of(layer), (3, "kidney", "#009E73")))
    store = room.bench.controller.saver.project.store
    assert [spec.name for spec in store.classes] == ["liver", "spleen"]
    room.controller.new_model("abdomen")
    with SampleStore.open(store.folder, read_only=True) as found:
        assert [(spec.value, spec.name) for spec in found.classes] == [(1, "liver"), (2, "spleen"), (3, "kidney")]


def test_versions_are_used_renamed_and_compared(room):
    room.trained()
    room.controller.keep()
    room.controller.retrain()
    room.trainer.finish()
    room.controller.keep()
    assert [row.number for row in room.state.versions] == [1, 2]
    room.controller.use_version(1)
    assert room.session.model.name == "liver v1"
    assert room.keeper.current == 1
    room.controller.rename_version(1, "the good one")
    assert room.session.model.name == "the good one"
    assert room.state.versions[0].name == "the good one"
    room.controller.compare_versions(2, 1)
    assert room.state.compared == "v1 against v2"


def test_closing_the_dock_ends_the_process(room):
    room.trained()
    room.controller.close()
    assert room.trainer.closed
    assert not any("what the new model" in each.name for each in room.bench.viewer.layers)
