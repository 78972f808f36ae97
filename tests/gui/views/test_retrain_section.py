"""The training part of the dock: real widgets, real clicks, a real plot."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState
from napari_llm4seg.gui.views.abstract.retrain import CurveState, NewModelState, RetrainState, VerdictState, VersionRow
from tests.gui.views.actions import Actions

pytestmark = pytest.mark.gui

MADE = NewModelState(
    sizes=(Choice("tiny", "Tiny", "quick"), Choice("small", "Small", "the usual")),
    backbones=(Choice("cmunext", "CMUNeXt", "wide"),),
    layers=(Choice("smollm2-135m", "SmolLM2, layer 14", "shipped"), Choice("none", "None (plain CNN)", "no layer")),
    size="small",
    backbone="cmunext",
    layer="smollm2-135m",
    summary="Small · SmolLM2",
)
READY = RetrainState(
    trains="Retrains liver-v2",
    train=ButtonState(True, "Train further", "Retrain with 5 slices"),
    new=ButtonState(True, "From nothing", "New model…"),
    new_name="liver",
    new_classes="liver, spleen",
    made=MADE,
    stop=ButtonState(visible=False),
    cancel=ButtonState(visible=False),
)
VERDICT = VerdictState(
    lines=("Held back: 2 slices", "Dice 0.84 → 0.91 (+0.02 to +0.11)", "HD95 5.1 → 3.2 mm"),
    words="Better, on few slices: a rough idea.",
    changes="In slice 4: +120 (blue) and −8 pixels (orange)",
    check=ButtonState(True, "", "Check on all 12 slices (about 55 s)"),
    keep=ButtonState(True, "", "Keep as v2"),
    roll_back=ButtonState(True, "", "Roll back"),
)
VERSIONS = (
    VersionRow(1, "a model with a very long name indeed v1", "Dice 0.88 (2)", tooltip="from nothing"),
    VersionRow(2, "liver v2", "not measured", current=True),
)


@pytest.fixture
def section(qtbot):
    from napari_llm4seg.gui.views.retrain_section import RetrainSection

    widget = RetrainSection()
    qtbot.addWidget(widget)
    actions = Actions()
    widget.attach(actions)
    widget.show_state(READY)
    widget.resize(308, 700)
    widget.show()
    return widget, actions


def click(qtbot, button):
    from qtpy.QtCore import Qt

    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_everything_fits_the_narrow_dock(section):
    widget, _ = section
    curve = CurveState(((0.0, 0.9), (1.0, 0.5)), ((1.0, 0.6),))
    busy = replace(
        READY,
        curve=curve,
        verdict=VERDICT,
        versions=VERSIONS,
        progress=ProgressState(3, 10, "epoch 12/40 · 9 s left"),
        stop=ButtonState(True, "", "Stop now, keep best"),
        cancel=ButtonState(True, "", "Cancel"),
    )
    widget.show_state(busy)
    widget.versions.button.setChecked(True)
    assert widget.minimumSizeHint().width() <= 308
    assert widget.curve.plot.height() >= 120
    assert widget.figures[1].text() == VERDICT.lines[1]


def test_the_model_that_is_trained_further_is_named(section):
    widget, _ = section
    assert widget.trains.text() == "Retrains liver-v2"
    widget.show_state(replace(READY, trains=""))
    assert not widget.trains.isVisibleTo(widget)


def test_clicks_reach_the_controller(section, qtbot, monkeypatch):
    from qtpy.QtWidgets import QInputDialog

    widget, actions = section
    asked = []
    monkeypatch.setattr(QInputDialog, "getText", staticmethod(lambda *a, **k: (asked.append(a[2]), ("mine", True))[1]))
    click(qtbot, widget.parts["all"])
    click(qtbot, widget.train_button)
    click(qtbot, widget.new_button)
    assert actions.asked == [("choose_parts", "all"), ("retrain",), ("new_model", "mine")]
    assert "A model for liver, spleen" in asked[0]
    assert "\nMade of: Small · SmolLM2\n" in asked[0]
    actions.asked.clear()
    widget.show_state(replace(READY, stop=ButtonState(True, "", "Stop"), cancel=ButtonState(True, "", "Cancel")))
    click(qtbot, widget.stop_button)
    click(qtbot, widget.cancel_button)
    widget.show_state(replace(READY, verdict=VERDICT, message=Message("info", "Kept.")))
    click(qtbot, widget.check_button)
    click(qtbot, widget.keep_button)
    click(qtbot, widget.back_button)
    assert actions.asked == [("stop",), ("cancel",), ("cross_check",), ("keep",), ("roll_back",)]
    assert widget.message.isVisible()
    assert not widget.stop_button.isVisible()
    widget.show_state(replace(READY, verdict=replace(VERDICT, check=ButtonState(visible=False))))
    assert not widget.check_button.isVisible()


def test_what_a_new_model_is_made_of_is_chosen_below_its_button(section, qtbot):
    widget, actions = section
    options = widget.new_options
    assert not options.body.isVisible()
    assert options.summary.text() == "Small · SmolLM2"
    options.button.setChecked(True)
    assert options.body.isVisible()
    assert not options.summary.isVisible()
    assert options.size_box.currentText() == "Small"
    assert options.size_box.toolTip() == "the usual"
    options.layer_box.activated.emit(1)
    assert actions.asked == [("look_for_layers",), ("choose_new", "layer", "none")]
    widget.show_state(replace(READY, made=replace(MADE, enabled=False)))
    assert not options.size_box.isEnabled()
    assert widget.minimumSizeHint().width() <= 308


def test_a_worse_model_is_told_by_a_sign_and_words(section):
    widget, _ = section
    widget.show_state(replace(READY, verdict=replace(VERDICT, worse=True, words="Worse, on few slices.")))
    assert widget.trust.text() == "⚠ Worse, on few slices."


def test_curves_are_drawn_as_they_come(section):
    widget, _ = section
    assert widget.curve.plot is None, "nothing is imported before there is a curve"
    assert not widget.curve.isVisible()
    widget.show_state(replace(READY, curve=CurveState(((0.5, 0.9), (1.0, 0.5)), ((1.0, 0.6),))))
    assert widget.curve.isVisible()
    xs, ys = widget.curve._loss.getData()
    assert (list(xs), list(ys)) == ([0.5, 1.0], [0.9, 0.5])
    assert list(widget.curve._score.getData()[1]) == [0.6]
    assert "loss 0.500" in widget.curve.legend.text()
    assert "IoU 0.600" in widget.curve.legend.text()
    widget.show_state(READY)
    assert not widget.curve.isVisible()


def test_versions_are_used_renamed_and_compared(section, qtbot, monkeypatch):
    from qtpy.QtWidgets import QInputDialog

    widget, actions = section
    monkeypatch.setattr(QInputDialog, "getText", staticmethod(lambda *a, **k: ("the good one", True)))
    assert not widget.versions.isVisible()
    widget.show_state(replace(READY, versions=VERSIONS, compared="v1 → v2: better"))
    part = widget.versions
    part.button.setChecked(True)
    assert part.summary.text() == "2 · in use: liver v2"
    assert "Select" in part.use_button.toolTip()
    part.table.topLevelItem(0).setSelected(True)
    click(qtbot, part.use_button)
    click(qtbot, part.rename_button)
    assert not part.compare_button.isEnabled()
    part.table.topLevelItem(1).setSelected(True)
    click(qtbot, part.compare_button)
    assert actions.asked == [("use_version", 1), ("rename_version", 1, "the good one"), ("compare_versions", 1, 2)]
    assert part.compared.text() == "v1 → v2: better"
    widget.show_state(replace(READY, versions=(*VERSIONS, VersionRow(3, "v3"))))
    assert part._numbers() == [1, 2], "a new version does not take the choice away"


def test_the_plot_library_is_not_imported_with_the_dock():
    code = "import sys, napari_llm4seg.gui.views.correct_dock; sys.exit('pyqtgraph' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
