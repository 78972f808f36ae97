from __future__ import annotations

import pytest

from napari_llm4seg.gui.views.abstract.common import Choice
from napari_llm4seg.gui.views.abstract.window import WindowState
from napari_llm4seg.gui.views.window_row import WindowRow

pytestmark = pytest.mark.gui
CHOICES = (Choice("soft tissue", "soft tissue"), Choice("lung", "lung"), Choice("own", "own…"))


class Actions:
    def __init__(self):
        self.done = []

    def choose_window(self, key):
        self.done.append(key)

    def use_own(self, centre, width):
        self.done.append((centre, width))


@pytest.fixture
def row(qtbot):
    row, actions = WindowRow(), Actions()
    qtbot.addWidget(row)
    row.attach(actions)
    row.show_state(WindowState(CHOICES, "lung", False, -600, 1500, "HU"))
    return row, actions


def test_the_row_is_there_for_scans_that_have_windows(row):
    row, actions = row
    assert not row.isHidden()
    assert row.box.currentText() == "lung"
    assert row.editor.isHidden()
    row.show_state(WindowState())
    assert row.isHidden()
    assert actions.done == []


def test_a_choice_and_two_numbers_reach_the_controller(row):
    row, actions = row
    row.box.activated.emit(0)
    row.show_state(WindowState(CHOICES, "lung", True, -600, 1500, "HU"))
    assert not row.editor.isHidden()
    assert (row.centre.text(), row.width.text()) == ("-600 HU", "1500 HU")
    row.centre.setValue(50)
    row.show_state(WindowState(CHOICES, "lung", True, -600, 1500, "HU"))
    assert row.centre.value() == 50, "what is being typed stays"
    row.use_button.click()
    assert actions.done == ["soft tissue", (50, 1500)]
    assert row.minimumSizeHint().width() <= 308
