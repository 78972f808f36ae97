"""A cross-check while a new model waits: the process is a fake, what is judged and said is real."""

from __future__ import annotations

import pytest

from napari_llm4seg.gui.controllers import verdict
from napari_llm4seg.gui.controllers.cross_check import each_takes, takes

from .retrain_room import BETTER, PERHAPS, WORSE

KEYS = [["ct", 0, z] for z in range(5)]
TOLD = {
    "train": KEYS[:3], "held_back": KEYS[3:4], "left_out": KEYS[4:], "seconds": 15.2,
    "cross_check": {"slices": 5, "trainings": 3, "fewest": 4},
}  # fmt: skip
ONE = {**PERHAPS, "n": 1, "interval": None, "hd95_interval": None, "dice_after": 0.8, "remarks": []}
CROSS = {**BETTER, "n": 5, "verdict": "better", "trust": "Better, by more than the 5 slices differ.", "new": False}


def trained(room, gate=ONE, **more):
    layer = room.correct(2)
    room.controller.retrain()
    room.trainer.finish(gate, **{**TOLD, **more})
    return layer


def judged(room, gate=CROSS):
    room.trainer.busy = ""
    room.trainer.tell({"event": "finished", "what": "cross_check", "gate": gate, "seconds": 44.0})


def test_it_is_offered_with_what_it_takes_and_asks_as_the_training_was_asked(room):
    trained(room)
    check = room.state.verdict.check
    assert check.text == "Check on all 5 slices (about 45 s)"
    assert check.enabled
    assert "Train 3 times more" in check.tooltip
    asked = next(each for each in room.trainer.asked if each[0] == "train")
    room.controller.cross_check()
    folder = room.bench.controller.project.store.folder
    assert room.trainer.asked[-1] == ("cross_check", folder, KEYS, asked[1], asked[2], None)


def test_too_few_new_slices_disable_it_with_the_reason(room):
    trained(room, cross_check={"slices": 2, "trainings": 2, "fewest": 4})
    check = room.state.verdict.check
    assert check.visible
    assert not check.enabled
    assert check.text == "Check on all slices"
    assert check.tooltip == "This needs 4 corrected slices that liver has not learnt from; there are 2."
    room.controller.cross_check()
    assert "cross_check" not in room.trainer.names()


def test_slices_learnt_before_are_not_among_those_judged(room):
    trained(room, cross_check={"slices": 4, "trainings": 3, "fewest": 4})
    assert room.state.verdict.check.text == "Check on the 4 new slices (about 45 s)"


def test_it_says_how_far_it_is_and_leaves_curve_and_decision_alone(room):
    trained(room)
    curve = room.state.curve
    room.controller.cross_check()
    assert room.state.progress.text == "cross-check: starting"
    room.trainer.tell({"event": "fold", "number": 2, "folds": 3, "seconds": 15.0})
    step = {"event": "step", "epoch": 12, "epochs": 24, "loss": 0.5, "fraction": 0.5}
    room.trainer.tell(step)
    room.trainer.tell({**step, "event": "validated", "score": 0.7, "best": 0.7, "seconds_left": 5.0})
    assert room.state.progress.text == "cross-check 2 of 3 · epoch 12 · 20 s left"
    assert room.state.progress.done / room.state.progress.total == 0.5
    assert room.state.curve == curve
    assert room.state.cancel.visible
    assert not room.state.stop.visible
    assert not room.state.verdict.check.enabled
    assert room.state.verdict.roll_back.enabled
    assert room.state.train.tooltip == "A cross-check is running."


def test_not_worse_withdraws_the_warning_of_the_few_held_back(room):
    trained(room)
    assert room.state.verdict.worse
    room.controller.keep()
    room.controller.cross_check()
    assert room.state.message is None
    judged(room)
    shown = room.state.verdict
    assert not shown.worse
    assert shown.lines == (
        "All 5 slices, each judged unseen",
        "Dice 0.84 → 0.91 (+0.02 to +0.11)",
        "HD95 5.1 → 3.2 mm (−3.0 to +0.2)",
        "No distance: class absent in 1 → 0 slices",
        "Held back, 1 slice: Dice 0.84 → 0.80",
    )
    assert shown.words == (
        "Better, by more than the 5 slices differ. The warning of the 1 slice held back is withdrawn. "
        "This judges the learning; the model itself learnt from more slices."
    )
    assert not shown.check.visible
    room.controller.keep()
    assert room.keeper.kept[0].cross_check == CROSS, "one click, and it goes along"
    assert "All 5 slices, each judged unseen" in room.state.versions[0].tooltip


def test_worse_asks_for_a_second_click(room):
    trained(room, BETTER)
    assert not room.state.verdict.worse
    room.controller.cross_check()
    judged(room, {**WORSE, "n": 5, "new": False})
    assert room.state.verdict.worse
    room.controller.keep()
    assert not room.keeper.kept
    assert room.state.message.text == "The new model is worse in the cross-check. Keep it all the same?"
    room.controller.keep()
    assert len(room.keeper.kept) == 1


def test_a_loss_that_those_held_back_show_beyond_chance_stands():
    assert verdict.warning({**WORSE, "n": 6}, CROSS) == "is worse on the slices held back"
    assert "But on the 6 slices held back: Worse." in verdict.trust({**WORSE, "n": 6}, CROSS)
    assert verdict.warning(PERHAPS, {**CROSS, "verdict": "not measured"}) == "may be worse on the slices held back"
    assert verdict.warning(PERHAPS, CROSS) == ""
    assert verdict.warning(BETTER, {}) == ""


def test_cancelled_failed_or_dead_it_leaves_the_decision_pending(room):
    trained(room)
    room.controller.cross_check()
    room.controller.cancel()
    assert room.trainer.names()[-1] == "cancel"
    room.trainer.tell({"event": "cancelled", "what": "cross_check"})
    assert room.state.message.text == "The cross-check was stopped; the new model is as it was."
    assert room.state.verdict.check.enabled
    room.controller.cross_check()
    room.trainer.tell({"event": "failed", "what": "cross_check", "error": "All are held back."})
    assert (room.state.message.kind, room.state.message.text) == ("error", "All are held back.")
    room.controller.cross_check()
    room.trainer.tell({"event": "died", "what": "cross_check", "error": "The training process was killed."})
    assert room.state.message.text == "The training process was killed."
    room.controller.cross_check()
    judged(room)
    assert not room.state.verdict.worse


@pytest.mark.parametrize("decide", ["keep", "roll_back"])
def test_deciding_ends_it_and_what_it_tells_late_is_not_heard(room, decide):
    trained(room, BETTER)
    room.controller.cross_check()
    getattr(room.controller, decide)()
    assert "cancel" in room.trainer.names()
    assert len(room.keeper.kept) == (decide == "keep")
    message = room.state.message
    room.trainer.tell({"event": "step", "epoch": 1, "epochs": 9, "loss": 0.1, "fraction": 0.1})
    room.trainer.busy = ""
    room.trainer.tell({"event": "cancelled", "what": "cross_check"})
    assert room.state.message == message
    assert not room.state.busy
    room.controller.retrain()
    room.trainer.tell({"event": "step", "epoch": 1, "epochs": 9, "loss": 0.1, "fraction": 0.1})
    assert room.state.curve.loss == ((1.0, 0.1),), "the next training is heard again"
    room.trainer.finish()
    assert room.state.verdict is not None


def test_a_new_model_gets_a_dice_of_slices_it_did_not_see(room):
    room.correct(2)
    room.controller.new_model("abdomen")
    none = {"n": 0, "worse": False, "verdict": "not measured", "words": "Not measured."}
    room.trainer.finish(none, **{**TOLD, "train": KEYS, "held_back": [], "left_out": [], "seconds": 61.0})
    assert room.state.verdict.check.text == "Check on all 5 slices (about 3 min)"
    assert room.state.verdict.words.startswith("Not measured: a new model learns from every corrected slice.")
    room.controller.cross_check()
    *_, scans, config, new = room.trainer.asked[-1]
    assert scans == room.bench.controller.scans()
    assert config is None
    assert [each["name"] for each in new["classes"]] == ["liver", "spleen"]
    assert (new["preset"], new["device"]) == ("small", "auto")
    judged(room, {**CROSS, "new": True, "dice_after": 0.93, "dice_interval": [0.9, 0.951], "worse": True})
    shown = room.state.verdict
    assert shown.lines == ("All 5 slices, each judged unseen", "Dice 0.93 (0.90 to 0.95)", "HD95 3.2 mm")
    assert not shown.worse, "there is nothing before"
    assert "a training without it" in shown.words
    room.controller.keep()
    assert room.state.versions[0].score == "Dice 0.93 (5)"


def test_after_a_training_ended_early_it_is_said_to_take_as_long_as_whole_ones(room):
    room.correct(2)
    room.controller.retrain()
    room.trainer.tell({"event": "split", "train": [], "held_back": [], "seconds": None})
    room.trainer.tell({"event": "step", "epoch": 10, "epochs": 20, "loss": 0.5, "fraction": 0.5})
    room.controller.stop()
    room.trainer.finish(ONE, **{**TOLD, "seconds": 5.0})
    assert room.state.verdict.check.text == "Check on all 5 slices (about 30 s)"


def test_what_was_corrected_meanwhile_is_warmed_once_it_is_over(room):
    layer = trained(room)
    room.controller.cross_check()
    room.bench.paint(layer, 3, 3, 4)
    room.bench.written()
    assert room.trainer.names()[-1] == "cross_check", "nothing gets in its way"
    judged(room)
    assert room.trainer.names()[-1] == "warm"
    assert room.state.verdict.lines[0] == "All 5 slices, each judged unseen"


def test_what_is_left_of_a_training_ended_early_counts():
    assert each_takes({"seconds": 5.0}, 0.5) == 10.0
    assert takes({"seconds": 5.0, "cross_check": {"trainings": 3}}, 0.5) == 30.0
    assert takes({}) == 0.0
