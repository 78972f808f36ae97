"""Legend, Measure and Clean up as drawn: real widgets, real clicks, no napari."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from napari_llm4seg.gui.views.abstract.classes import ClassesState, ClassRow
from napari_llm4seg.gui.views.abstract.clean_up import CleanUpState
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState
from napari_llm4seg.gui.views.abstract.measure import MeasureState, Table
from tests.gui.views.actions import Actions

pytestmark = pytest.mark.gui

ON = ButtonState(True, "what it does")
CLASSES = ClassesState(True, (ClassRow(1, "liver", "#E69F00"), ClassRow(3, "spleen", "#56B4E9")), 1)
MEASURES = MeasureState(
    shown=True,
    summary="liver 1423 mL",
    measures=Table(
        ("Class", "mL", "n", "Mean ± sd", "Ø mm"),
        ("",) * 5,
        (("liver", "1423", "1", "102 ± 21", "212"), ("spleen", "0.007", "13", "-88 ± 119", "4.0")),
        ("#E69F00", "#56B4E9"),
    ),
    note="The mask was edited since: measure again.",
    others=(Choice("", "no other mask"), Choice("b", "other")),
    measure=ON,
    copy=ON,
    save=ON,
    cancel=ButtonState(False, "", visible=False),
)
CLEAN = CleanUpState(
    True, (Choice("1", "liver"), Choice("3", "spleen")), "1", keep_largest=ON, fill_holes=ON, remove_islands=ON,
    smooth=ON, fill_between=ButtonState(False, "why not"),
)  # fmt: skip


@pytest.fixture
def shown(qtbot):
    """Show a widget at the dock's width; return it and what was asked of its controller."""

    def show(widget, state):
        actions = Actions()
        qtbot.addWidget(widget)
        widget.attach(actions)
        widget.show_state(state)
        widget.resize(320, 500)
        widget.show()
        qtbot.waitExposed(widget)
        if hasattr(widget, "button"):
            widget.button.setChecked(True)
        return widget, actions

    return show


def click(qtbot, widget, position=None):
    from qtpy.QtCore import QPoint, Qt

    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=position or QPoint(widget.width() // 2, 5))


@pytest.fixture
def legend(shown):
    from napari_llm4seg.gui.views.class_list import ClassList

    return shown(ClassList(), CLASSES)


def middle(legend, row, column=0):
    return legend.tree.visualItemRect(legend.tree.topLevelItem(row)).center()


def test_a_click_on_a_class_chooses_it(qtbot, legend):
    widget, actions = legend
    assert widget.tree.topLevelItem(1).text(0) == "spleen"
    assert widget.tree.topLevelItem(1).text(1) == "3"
    click(qtbot, widget.tree.viewport(), middle(widget, 1))
    assert ("select_class", 3) in actions.asked
    actions.asked.clear()
    widget.show_state(replace(CLASSES, selected=3))
    assert actions.asked == [], "what is drawn is not asked for"
    assert widget.tree.currentIndex().row() == 1


def test_the_arrow_keys_choose_too(qtbot, legend):
    from qtpy.QtCore import Qt

    widget, actions = legend
    widget.tree.setFocus()
    qtbot.keyClick(widget.tree, Qt.Key.Key_Down)
    assert actions.asked == [("select_class", 3)]


def test_a_double_click_renames(qtbot, legend):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QLineEdit

    widget, actions = legend
    viewport = widget.tree.viewport()
    click(qtbot, viewport, middle(widget, 1))
    qtbot.mouseDClick(viewport, Qt.MouseButton.LeftButton, pos=middle(widget, 1))
    editor = viewport.findChild(QLineEdit)
    editor.setText("left kidney")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: ("rename_class", 3, "left kidney") in actions.asked)
    # refused: the old name comes back
    widget.show_state(replace(CLASSES, selected=3, message=Message("error", "There is such a class.")))
    assert widget.tree.topLevelItem(1).text(0) == "spleen"


def test_colour_and_a_new_class(qtbot, legend, monkeypatch):
    from qtpy.QtGui import QColor
    from qtpy.QtWidgets import QColorDialog

    widget, actions = legend
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("#0072b2"))
    click(qtbot, widget.colour_button)
    click(qtbot, widget.add_button)
    assert actions.asked == [("recolour_class", 1, "#0072B2"), ("add_class",)]
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor())  # the dialog was closed
    click(qtbot, widget.colour_button)
    assert len(actions.asked) == 2


def test_many_classes_scroll(legend):
    widget, _ = legend
    low = widget.tree.height()
    widget.show_state(replace(CLASSES, classes=tuple(ClassRow(i, f"class {i}", "#E69F00") for i in range(1, 63))))
    assert low < widget.tree.height() < 4 * low
    widget.show_state(ClassesState())
    assert not widget.isVisible()


@pytest.fixture
def measure(shown):
    from napari_llm4seg.gui.views.measure_section import MeasureSection

    return shown(MeasureSection(), MEASURES)


def test_the_table_fits_the_dock_and_says_its_colours(measure):
    widget, _ = measure
    table = widget.measures
    assert [table.horizontalHeaderItem(column).text() for column in range(5)] == list(MEASURES.measures.heading)
    assert table.item(0, 1).text() == "1423"
    assert not table.item(1, 0).icon().isNull()
    assert table.horizontalHeader().length() <= table.viewport().width()
    assert table.columnWidth(0) > table.fontMetrics().horizontalAdvance("spleen") + table.fontMetrics().height()
    assert widget.summary.text() == "liver 1423 mL"
    assert widget.width() == 320
    assert widget.note.isVisible()
    assert not widget.agreement.isVisible()
    assert not widget.tolerance.isVisible()
    assert not widget.cancel_button.isVisible()


def test_a_table_that_is_too_wide_scrolls_and_shows_all_its_rows(measure):
    widget, _ = measure
    wide = tuple((f"class {i}", "123456789.0", "12345", "-12345 ± 123456", "123456") for i in range(3))
    widget.show_state(replace(MEASURES, measures=replace(MEASURES.measures, rows=wide, colours=("#E69F00",) * 3)))
    table = widget.measures
    assert table.horizontalHeader().length() > table.viewport().width()
    assert table.rowViewportPosition(2) + table.rowHeight(2) <= table.viewport().height()


def test_the_section_asks_its_controller(qtbot, measure, monkeypatch, tmp_path):
    from qtpy.QtWidgets import QFileDialog

    widget, actions = measure
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "table"), ""))
    for button in (widget.measure_button, widget.copy_button, widget.save_button):
        click(qtbot, button)
    widget.other_box.setCurrentIndex(1)
    widget.other_box.activated.emit(1)
    widget.show_state(replace(MEASURES, other="b", cancel=ON, progress=ProgressState(1, 3, "liver")))
    widget.tolerance.setValue(2.0)
    click(qtbot, widget.cancel_button)
    assert actions.asked == [
        ("measure",),
        ("copy",),
        ("save_csv", Path(tmp_path / "table.csv")),
        ("choose_other", "b"),
        ("set_tolerance", 2.0),
        ("cancel",),
    ]
    assert widget.bar.format() == "liver"
    widget.put_on_clipboard("a\tb")
    from qtpy.QtGui import QGuiApplication

    assert QGuiApplication.clipboard().text() == "a\tb"


@pytest.fixture
def clean_up(shown):
    from napari_llm4seg.gui.views.clean_up_section import CleanUpSection

    return shown(CleanUpSection(), CLEAN)


def test_every_step_asks_its_controller(qtbot, clean_up):
    widget, actions = clean_up
    for step in (widget.largest_button, widget.holes_button, widget.islands_button, widget.smooth_button):
        click(qtbot, step)
    click(qtbot, widget.between_button)  # cannot be pressed
    assert widget.between_button.toolTip() == "why not"
    widget.slice_radio.click()
    widget.smallest.setValue(12)
    widget.radius.setValue(2.5)
    widget.class_box.activated.emit(1)
    assert actions.asked == [
        ("keep_largest",),
        ("fill_holes",),
        ("remove_islands",),
        ("smooth",),
        ("choose_where", "slice"),
        ("set_smallest", 12.0),
        ("set_radius", 2.5),
        ("choose_class", "3"),
    ]


def test_the_keyboard_comes_back_to_the_button(qtbot, clean_up):
    widget, _ = clean_up
    widget.activateWindow()
    widget.holes_button.setFocus()
    qtbot.waitUntil(widget.holes_button.hasFocus)
    off = ButtonState(False, "running")
    widget.show_state(replace(CLEAN, keep_largest=off, fill_holes=off, remove_islands=off, smooth=off, busy=True))
    assert not widget.holes_button.hasFocus()
    widget.show_state(CLEAN)
    assert widget.holes_button.hasFocus()


def test_units_running_and_flat_masks_are_drawn(clean_up):
    widget, actions = clean_up
    assert widget.smallest.suffix() == " mm³"
    assert widget.volume_radio.isChecked()
    assert not widget.cancel_button.isVisible()
    widget.show_state(replace(CLEAN, where="slice", smallest_unit="mm²", busy=True, cancel=ON, flat=True))
    assert widget.smallest.suffix() == " mm²"
    assert widget.slice_radio.isChecked()
    assert widget.cancel_button.isVisible()
    assert not widget.class_box.isEnabled()
    assert not widget.where_row.isVisible()
    assert not widget.between_button.isVisible()
    assert actions.asked == []
    assert widget.width() == 320


def test_a_section_opened_at_the_foot_of_a_dock_scrolls_into_view(qtbot):
    from qtpy.QtWidgets import QLabel, QScrollArea, QVBoxLayout, QWidget

    from napari_llm4seg.gui.views.widgets import Section

    area, page = QScrollArea(), QWidget()
    qtbot.addWidget(area)
    layout = QVBoxLayout(page)
    above, section = QLabel(), Section("Clean up")
    above.setFixedHeight(360)
    inside = QVBoxLayout(section.body)
    answer = QLabel("all of it")
    answer.setFixedHeight(150)
    inside.addWidget(answer)
    layout.addWidget(above)
    layout.addWidget(section)
    area.setWidget(page)
    area.setWidgetResizable(True)
    area.resize(320, 420)
    area.show()
    section.button.click()
    foot = area.verticalScrollBar()
    qtbot.waitUntil(lambda: foot.maximum() > 50 and foot.value() > foot.maximum() - 20)
