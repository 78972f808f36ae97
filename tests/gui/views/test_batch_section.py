"""The batch page's drawing: real widgets, real clicks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_llm4seg.gui.views.abstract.batch import BatchRow, BatchState
from napari_llm4seg.gui.views.abstract.common import ButtonState, Message, ProgressState
from tests.gui.views.actions import Actions

pytestmark = pytest.mark.gui

READY = BatchState(
    source="/scans/with a long name",
    source_words="3 scans found",
    out="/masks",
    rows=(BatchRow("a"), BatchRow("b/c"), BatchRow("d")),
    start=ButtonState(True, "Every case", "Segment folder"),
    cancel=ButtonState(False, "Nothing is running."),
)


@pytest.fixture
def page(qtbot):
    from napari_llm4seg.gui.views.batch_section import BatchSection

    section = BatchSection()
    qtbot.addWidget(section)
    actions = Actions()
    section.attach(actions)
    section.show_state(READY)
    section.resize(320, 400)
    section.button.setChecked(True)
    section.show()
    return section, actions


def test_a_page_shows_its_folders_and_scans(page):
    section, _ = page
    assert section.count_line.text() == "3 scans found"
    assert section.table.topLevelItemCount() == 3
    assert section.start_button.isEnabled()
    assert not section.cancel_button.isEnabled()
    assert section.minimumSizeHint().width() <= 320


def test_rows_change_in_place(page):
    section, actions = page
    rows = (
        BatchRow("a", "done", "lesion 1.20 mL", "/masks/a_seg.nii.gz", True),
        BatchRow("b/c", "running"),
        READY.rows[2],
    )
    section.show_state(replace(READY, rows=rows, busy=True, progress=ProgressState(1, 3, "b/c: slice 3/9")))
    first = section.table.topLevelItem(0)
    assert [first.text(column) for column in range(3)] == ["a", "done", "lesion 1.20 mL"]
    assert "Double-click" in first.toolTip(0)
    assert section.bar.isVisible()
    assert not section.source_button.isEnabled()
    section.table.itemActivated.emit(first, 0)
    assert actions.asked == [("open_case", "a")]
    failed = (BatchRow("a", "failed", details="'a' is damaged."), *rows[1:])
    section.show_state(replace(READY, rows=failed, message=Message("warning", "1 failed")))
    assert section.table.topLevelItem(0) is first
    assert first.text(2) == "'a' is damaged."
    assert section.message.isVisible()
    section.show_state(replace(READY, rows=READY.rows))
    assert first.text(1) == ""


def test_clicks_reach_the_controller(page, qtbot, monkeypatch):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QFileDialog

    section, actions = page
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", staticmethod(lambda *a: "/chosen"))
    for button in (section.source_button, section.out_button, section.start_button):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert [asked[0] for asked in actions.asked] == ["choose_source", "choose_out", "start_batch"]
