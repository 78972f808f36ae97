"""The list of series: ticks, the buttons' states, what comes back."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gui

LINES = ["1: CT, thorax, 120 slices of 512 × 512", "2: CT, scout, 1 image of 900 × 512", "3: MR, 30 slices of 64 × 64"]


@pytest.fixture
def dialog(qtbot):
    from napari_llm4seg.gui.views.series_dialog import SeriesDialog

    made = SeriesDialog("export", LINES, 1)
    qtbot.addWidget(made)
    return made


def test_the_given_one_is_ticked_and_all_can_be(qtbot, dialog):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QDialogButtonBox

    assert dialog.ticked() == [1]
    dialog.all_button.click()
    assert dialog.ticked() == [0, 1, 2]
    assert dialog.all_button.text() == "Tick none"
    dialog.all_button.click()
    button = dialog.buttons.button(QDialogButtonBox.StandardButton.Open)
    assert not button.isEnabled()
    assert "at least one" in button.toolTip()
    dialog.list.item(2).setCheckState(Qt.CheckState.Checked)
    assert button.isEnabled()
    assert dialog.ticked() == [2]


def test_a_double_click_opens_one(dialog):
    dialog.all_button.click()
    dialog.list.itemDoubleClicked.emit(dialog.list.item(2))
    assert dialog.ticked() == [2]
    assert dialog.result() == 1


def test_leaving_opens_nothing(monkeypatch, qtbot):
    from napari_llm4seg.gui.views import series_dialog

    monkeypatch.setattr(series_dialog.SeriesDialog, "exec_", lambda self: 0, raising=False)
    assert series_dialog.choose_series("export", LINES) == []
    monkeypatch.setattr(series_dialog.SeriesDialog, "exec_", lambda self: 1, raising=False)
    assert series_dialog.choose_series("export", LINES, 2) == [2]
