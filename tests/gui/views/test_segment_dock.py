"""The Segment dock's drawing and its controls, without napari: real widgets, real clicks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState
from napari_llm4seg.gui.views.abstract.segment import OptionsState, SegmentState
from tests.gui.views.actions import Actions

pytestmark = pytest.mark.gui

READY = SegmentState(
    scans=(Choice("a", "a scan with quite a long name, as people have them"), Choice("b", "b")),
    scan="a",
    scan_words="512 × 512 × 78, 0.8 × 0.8 × 3 mm",
    models=(Choice("m", "breast-ultrasound"), Choice("n", "other")),
    model="m",
    model_lines=("breast ultrasound · BUSI", "CC0-1.0 · IoU 0.71"),
    model_tooltip="the whole card",
    devices=(Choice("auto", "auto: CPU"), Choice("cpu", "cpu")),
    segment_slice=ButtonState(True, "Segment the slice on show", "Segment slice"),
    segment_all=ButtonState(True, "every slice", "Segment whole scan"),
    cancel=ButtonState(False, "Nothing is running."),
    undo=ButtonState(False, "There is no result to take back."),
)


@pytest.fixture
def actions():
    return Actions()


@pytest.fixture
def dock(qtbot, actions):
    from napari_llm4seg.gui.views.segment_dock import SegmentWidget

    widget = SegmentWidget((("us", "Ultrasound"), ("ct", "CT")))
    qtbot.addWidget(widget)
    widget.attach(actions)
    widget.show_state(READY)
    widget.resize(320, 600)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


def click(qtbot, widget):
    from qtpy.QtCore import Qt

    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)


def test_buttons_ask_the_controller(qtbot, dock, actions):
    dock.show_state(replace(READY, cancel=ButtonState(True), undo=ButtonState(True)))
    for button in (dock.slice_button, dock.all_button, dock.cancel_button, dock.undo_button):
        click(qtbot, button)
    assert [name for name, *_ in actions.asked] == ["segment_slice", "segment_all", "cancel", "undo"]


def test_a_disabled_button_says_why_and_does_nothing(qtbot, dock, actions):
    dock.show_state(replace(READY, segment_slice=ButtonState(False, "Open a scan first.", "Segment")))
    click(qtbot, dock.slice_button)
    assert not actions.asked
    assert dock.slice_button.toolTip() == "Open a scan first."
    assert dock.slice_button.accessibleDescription() == "Open a scan first."


def test_choosing_from_the_lists(qtbot, dock, actions):
    from qtpy.QtCore import Qt

    for box, name in (
        (dock.scan_box, "choose_scan"),
        (dock.model_box, "choose_model"),
        (dock.device_box, "choose_device"),
    ):
        actions.asked.clear()
        box.setFocus()
        qtbot.keyClick(box, Qt.Key.Key_Down)
        assert [asked[0] for asked in actions.asked] == [name]
    assert actions.asked == [("choose_device", "cpu")]


def test_drawing_asks_nothing(dock, actions):
    dock.show_state(
        replace(READY, scan="b", model="n", device="cpu", options=OptionsState(True, "tiles", 0.25, 0.3, True, 0.1))
    )
    assert dock.scan_box.currentText() == "b"
    assert dock.options.threshold.value() == 0.3
    assert dock.options.overlap.value() == 25
    assert not actions.asked


def test_where_a_model_of_volumes_runs_is_no_choice(dock):
    dock.show_state(replace(READY, options=OptionsState(mode_reason="Always in patches.")))
    assert not dock.options.mode.isEnabled()
    assert dock.options.mode.toolTip() == "Always in patches."
    dock.show_state(READY)
    assert dock.options.mode.isEnabled()
    assert "Each slice" in dock.options.mode.toolTip()


def test_slices_along_another_axis_are_chosen(dock, actions):
    dock.show_state(replace(READY, options=OptionsState(axis="coronal")))
    assert dock.options.axis.currentText() == "coronal"
    dock.options.axis.activated.emit(3)
    assert actions.asked[-1] == ("set_option", "axis", "sagittal")
    dock.show_state(replace(READY, options=OptionsState(axis_reason="A single image has no other slices.")))
    assert not dock.options.axis.isEnabled()
    assert dock.options.axis.toolTip() == "A single image has no other slices."


def test_options_open_by_keyboard_and_report(qtbot, dock, actions):
    from qtpy.QtCore import Qt

    assert not dock.options.isVisible()
    dock.options_section.button.setFocus()
    qtbot.keyClick(dock.options_section.button, Qt.Key.Key_Space)
    assert dock.options.isVisible()
    qtbot.keyClick(dock.options.probability, Qt.Key.Key_Space)
    dock.options.threshold.setValue(0.35)
    dock.options.overlap.setValue(30)
    assert actions.asked == [
        ("set_option", "probability", True),
        ("set_option", "threshold", 0.35),
        ("set_option", "overlap", 0.3),
    ]


def test_an_option_without_effect_says_why(dock):
    dock.show_state(replace(READY, options=OptionsState(threshold_reason="No threshold here.")))
    assert not dock.options.threshold.isEnabled()
    assert dock.options.threshold.toolTip() == "No threshold here."


def test_progress_and_messages(qtbot, dock, actions):
    assert not dock.bar.isVisible()
    assert not dock.message.isVisible()
    dock.show_state(
        replace(
            READY,
            progress=ProgressState(31, 78, "slice 31/78 · 12 s left"),
            message=Message("error", "It broke.", "Traceback"),
        )
    )
    assert dock.bar.isVisible()
    assert (dock.bar.value(), dock.bar.maximum()) == (31, 78)
    assert "12 s" in dock.bar.text()
    assert dock.message.text.text() == "It broke."
    assert "Error" in dock.message.text.accessibleName()
    assert not dock.message.details.isVisible()
    click(qtbot, dock.message.more)
    assert dock.message.details.isVisible()
    assert dock.message.details.toPlainText() == "Traceback"
    click(qtbot, dock.message.close_button)
    assert actions.asked == [("dismiss_message",)]
    dock.show_state(READY)
    assert not dock.message.isVisible()


def test_cancel_does_not_move_when_the_bar_appears(dock):
    before = dock.cancel_button.mapTo(dock, dock.cancel_button.rect().topLeft())
    dock.show_state(replace(READY, progress=ProgressState(1, 3, "slice 1/3")))
    assert dock.cancel_button.mapTo(dock, dock.cancel_button.rect().topLeft()) == before


def test_nothing_open_offers_a_scan_and_samples(qtbot, dock, actions, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    assert not dock.welcome.isVisible()
    dock.show_state(replace(READY, scans=(), scan=None))
    assert dock.welcome.isVisible()
    assert not dock.scan_box.isEnabled()
    dock.sample_button.menu().actions()[1].trigger()
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args, **kw: ("/scans/x.nii.gz", ""))
    click(qtbot, dock.open_button)
    assert actions.asked == [("open_sample", "ct"), ("open_scan", Path("/scans/x.nii.gz"))]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args, **kw: "/scans/export")
    click(qtbot, dock.folder_button)
    assert actions.asked[-1] == ("open_scan", Path("/scans/export"))


def test_a_dialog_that_is_left_asks_nothing(dock, actions, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args, **kw: "")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args, **kw: ("", ""))
    for action in dock.add_button.menu().actions():
        action.trigger()
    assert not actions.asked


def test_adding_a_checkpoint_by_dialog(dock, actions, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args, **kw: "/models/a")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args, **kw: ("/models/b/config.json", ""))
    for action in dock.add_button.menu().actions():
        action.trigger()
    assert actions.asked == [("add_model", Path("/models/a")), ("add_model", Path("/models/b"))]


def test_adding_a_checkpoint_by_drop(dock, actions, tmp_path):
    from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
    from qtpy.QtGui import QDropEvent

    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path))])
    try:
        event = QDropEvent(QPointF(5, 5), Qt.CopyAction, data, Qt.LeftButton, Qt.NoModifier)
    except TypeError:  # the binding wants whole pixels
        event = QDropEvent(QPoint(5, 5), Qt.CopyAction, data, Qt.LeftButton, Qt.NoModifier)
    dock.dropEvent(event)
    assert actions.asked == [("add_model", tmp_path)]


def test_everything_is_reached_by_tab_and_has_a_name(qtbot, dock):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QAbstractSpinBox

    dock.options_section.button.setChecked(True)
    dock.show_state(replace(READY, cancel=ButtonState(True, "x"), undo=ButtonState(True, "y")))
    wanted = [
        dock.scan_box,
        dock.model_box,
        dock.add_button,
        dock.device_box,
        dock.options_section.button,
        dock.options.probability,
        dock.slice_button,
        dock.all_button,
        dock.cancel_button,
        dock.undo_button,
    ]
    chain, widget = [], dock
    for _ in range(500):
        widget = widget.nextInFocusChain()
        if widget is dock:
            break
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisible():
            chain.append(widget)
    order = [chain.index(widget) for widget in wanted]
    assert order == sorted(order)
    for widget in wanted:
        assert widget.accessibleName() or widget.text()
    for spin in dock.options.findChildren(QAbstractSpinBox):
        assert spin.accessibleName()


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0])
def test_nothing_is_wider_than_the_dock(qtbot, dock, factor):
    from qtpy.QtWidgets import QScrollArea, QWidget

    font = dock.font()
    font.setPointSizeF(font.pointSizeF() * factor)
    dock.setFont(font)
    dock.options_section.button.setChecked(True)
    dock.show_state(
        replace(READY, message=Message("error", "A sentence that is long enough to need two lines at least.", "more"))
    )
    dock.resize(int(320 * factor), 700)
    qtbot.wait(50)
    viewport = dock.findChild(QScrollArea).viewport()
    for widget in viewport.findChildren(QWidget):
        if widget.isVisible() and widget.parent() is not None:
            right = widget.mapTo(viewport, widget.rect().topRight()).x()
            assert right < viewport.width(), (type(widget).__name__, widget.objectName(), right)


def test_long_names_end_in_an_ellipsis_and_have_tooltips(dock):
    assert dock.scan_box.toolTip() == READY.scans[0].label
    assert dock.model_lines[0].toolTip() == "the whole card"
    assert not dock.model_lines[2].isVisible()


def test_the_keyboard_goes_to_cancel_and_back(qtbot, dock):
    dock.activateWindow()
    dock.all_button.setFocus()
    qtbot.waitUntil(dock.all_button.hasFocus)
    off = ButtonState(False, "running")
    dock.show_state(replace(READY, segment_slice=off, segment_all=off, cancel=ButtonState(True), busy=True))
    assert dock.cancel_button.hasFocus()
    dock.show_state(READY)
    assert dock.all_button.hasFocus()


def test_after_opening_the_first_scan_the_keyboard_is_at_the_button(qtbot, dock):
    dock.show_state(replace(READY, scans=(), scan=None))
    dock.activateWindow()
    dock.open_button.setFocus()
    qtbot.waitUntil(dock.open_button.hasFocus)
    dock.show_state(READY)
    assert dock.slice_button.hasFocus()
