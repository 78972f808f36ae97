"""The Correct & Retrain dock's drawing: real widgets, real clicks and keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message
from napari_llm4seg.gui.views.abstract.correct import CorrectState, OfferState, ProjectState, StripState
from tests.gui.views.actions import Actions

pytestmark = pytest.mark.gui

MARKS = ("untouched", "edited", "confirmed", "untouched", "untouched", "edited")
READY = CorrectState(
    masks=(Choice("m", "ct · seg · a model with a very long name indeed"),),
    mask="m",
    strip=StripState(MARKS, here=3, suggested=4),
    counts="2 edited · 1 confirmed · 6 slices",
    next_words="slice 4: unsure edge (62%)",
    go=ButtonState(True, "Show slice 4 (N)", "Go there"),
    confirm=ButtonState(True, "Slice 3 is right", "Confirm"),
    project=ProjectState("this scan's own", "/projects/ct", "3 saved"),
    keys=(("K", "confirm the slice on show, or take that back"), ("N", "go to the suggested slice")),
)


@pytest.fixture
def dock(qtbot):
    from napari_llm4seg.gui.views.correct_dock import CorrectWidget

    widget = CorrectWidget()
    qtbot.addWidget(widget)
    actions = Actions()
    widget.attach(actions)
    widget.show_state(READY)
    widget.resize(320, 640)
    widget.show()
    return widget, actions


def test_everything_fits_the_narrow_dock(dock):
    widget, _ = dock
    assert widget.minimumSizeHint().width() <= 320
    body = widget.strip.parentWidget()
    assert body.minimumSizeHint().width() <= 320
    assert widget.counts_line.text() == READY.counts
    assert "K confirm" in widget.keys_line.text()
    assert not widget.offer.isVisible()
    assert not widget.trouble.isVisible()


def test_without_slices_a_hint_stands_there(dock):
    widget, _ = dock
    widget.show_state(CorrectState(hint="Open a scan and press Segment."))
    assert widget.hint.isVisible()
    assert not widget.strip.isVisible()
    assert not widget.go_button.isVisible()
    assert not widget.confirm_button.isVisible()


def test_clicks_reach_the_controller(dock, qtbot):
    from qtpy.QtCore import Qt

    widget, actions = dock
    for button in (widget.go_button, widget.confirm_button):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    widget.partial_box.click()
    assert actions.asked == [("go_to_next",), ("confirm",), ("set_partial", True)]
    restore, anew = ButtonState(True, "", "Restore"), ButtonState(True, "", "Start anew")
    offer = OfferState("3 corrected slices from 12 Nov", restore, anew)
    trouble = replace(READY.project, saved="not saved", trouble="The disk is full.")
    widget.show_state(replace(READY, offer=offer, project=trouble, message=Message("warning", "It was closed.")))
    assert widget.offer.isVisible()
    assert widget.trouble.text() == "The disk is full."
    assert widget.message.isVisible()
    actions.asked.clear()
    qtbot.mouseClick(widget.restore_button, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(widget.anew_button, Qt.MouseButton.LeftButton)
    assert actions.asked == [("restore",), ("start_anew",)]


def test_a_project_is_chosen_from_the_menu(dock, monkeypatch):
    from pathlib import Path

    from qtpy.QtWidgets import QFileDialog

    widget, actions = dock
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", staticmethod(lambda *a: "/chosen"))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", staticmethod(lambda *a: ("/out.zip", "")))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", staticmethod(lambda *a: ("", "")))
    widget.show_state(replace(READY, project=replace(READY.project, export=ButtonState(True))))
    for action in widget.project_button.menu().actions():
        action.trigger()
    assert actions.asked == [
        ("shared_project",),
        ("own_project",),
        ("new_project", Path("/chosen")),
        ("open_project", Path("/chosen")),
        ("export_project", Path("/out.zip")),
    ]


def test_a_click_on_the_strip_jumps_and_keys_step(dock, qtbot):
    from qtpy.QtCore import QPoint, Qt

    widget, actions = dock
    strip = widget.strip
    step = strip.width() / len(MARKS)
    for z in range(len(MARKS)):
        qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(int((z + 0.5) * step), 20))
    assert actions.asked == [("show_slice", z) for z in range(len(MARKS))]
    actions.asked.clear()
    for key in ("Left", "Right", "Home", "End", "PageUp", "PageDown"):
        qtbot.keyClick(strip, getattr(Qt.Key, f"Key_{key}"))
    assert [z for _, z in actions.asked] == [2, 4, 0, 5, 2, 5]


def test_images_are_called_by_name_and_opened_by_a_click_alone(dock, qtbot):
    from qtpy.QtCore import QPoint, Qt

    widget, actions = dock
    names = tuple("abcdef"[: len(MARKS)])
    row = StripState(MARKS, 3, 4, names, "Images")
    widget.show_state(replace(READY, strip=row, drawn=False))
    assert widget.strip_title.text() == "Images"
    assert widget.strip.words(4) == "e: untouched, suggested next"
    assert not widget.confirm_button.isVisibleTo(widget), "there is no mask to confirm yet"
    assert widget.go_button.isVisibleTo(widget)
    step = widget.strip.width() / len(MARKS)
    qtbot.mousePress(widget.strip, Qt.MouseButton.LeftButton, pos=QPoint(int(0.5 * step), 20))
    for z in (1, 2, 5):  # a drag would open every file on its way
        qtbot.mouseMove(widget.strip, QPoint(int((z + 0.5) * step), 20))
    qtbot.mouseRelease(widget.strip, Qt.MouseButton.LeftButton, pos=QPoint(int(5.5 * step), 20))
    assert actions.asked == [("show_slice", 0)]


def test_states_are_told_by_words_form_and_colour(dock, qtbot):
    widget, _ = dock
    strip = widget.strip
    assert strip.words(2) == "Slice 2: confirmed"
    assert strip.words(4) == "Slice 4: untouched, suggested next"
    assert strip.words(3) == "Slice 3: untouched, on the screen"
    strip.show_state(StripState(MARKS))
    picture = strip.grab().toImage()
    ratio = picture.width() / strip.width()
    step = picture.width() / len(MARKS)
    background = picture.pixelColor(int(0.5 * step), int(12 * ratio))

    def height(z):
        column = int((z + 0.5) * step)
        return sum(picture.pixelColor(column, y) != background for y in range(picture.height()))

    assert 0 < height(0) < height(1) < height(2)
    middle = int(30 * ratio)
    assert picture.pixelColor(int(1.5 * step), middle) != picture.pixelColor(int(2.5 * step), middle)


def test_long_stacks_are_binned_and_every_slice_of_note_can_be_hit(qtbot):
    from napari_llm4seg.gui.views.slice_strip import SliceStrip

    strip = SliceStrip()
    qtbot.addWidget(strip)
    strip.resize(240, strip.sizeHint().height())
    marks = ["untouched"] * 1001
    for z in (0, 333, 700, 1000):
        marks[z] = "edited"
    strip.show_state(StripState(tuple(marks), here=500, suggested=801))
    covered = [z for column in range(strip._columns()) for z in strip.slices_of(column)]
    assert covered == list(range(1001))
    hit = {strip.slice_at(x) for x in range(240)}
    assert {0, 333, 700, 801, 1000} <= hit
    strip.grab()  # drawing it goes well
