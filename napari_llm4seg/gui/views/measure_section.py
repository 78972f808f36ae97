"""The Measure section of the Segment dock, drawn with Qt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDoubleSpinBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from napari_llm4seg.gui.views.abstract.common import Message
from napari_llm4seg.gui.views.abstract.measure import MeasureActions, MeasureState, Table
from napari_llm4seg.gui.views.class_list import aligned, swatch
from napari_llm4seg.gui.views.widgets import Bar, ChoiceBox, MessageLine, Section, button, reveal, show_button

_MOST_ROWS = 8
# Of a class's name this much is seen at least, in characters; beyond that the table scrolls sideways.
_LEAST_NAME = 8
# napari's style leaves so much room in cells that the names of the classes would have none at the dock's width
_TIGHT = (
    "QTableWidget::item { padding: 1px 2px; } QTableWidget { padding: 0px; } QHeaderView::section { padding: 2px 2px; }"
)


class MeasureTable(QTableWidget):
    """Read-only cells; as high as its rows, up to eight of them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setWordWrap(False)
        # "kidney left" and "kidney right" differ at their ends
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)
        self.verticalHeader().setVisible(False)
        self.setStyleSheet(_TIGHT)
        self.setVisible(False)
        self._table: Table | None = None

    def show_table(self, table: Table | None) -> None:
        self.setVisible(table is not None)
        if table is None or table == self._table:
            return
        self._table = table
        self.setColumnCount(len(table.heading))
        self.setRowCount(len(table.rows))
        for column, (text, tooltip) in enumerate(zip(table.heading, table.tooltips, strict=True)):
            item = QTableWidgetItem(text)
            item.setToolTip(tooltip)
            item.setTextAlignment(_alignment(column))
            self.setHorizontalHeaderItem(column, item)
        for row, cells in enumerate(table.rows):
            for column, text in enumerate(cells):
                self.setItem(row, column, _cell(text, column, f"{cells[0]}: {table.heading[column]} {text}"))
            if table.colours:
                self.item(row, 0).setIcon(swatch(table.colours[row], self.fontMetrics().height()))
        self.resizeRowsToContents()
        self._fit()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Give figures what they need and the names the rest; Qt's own way leaves no room for names in a dock."""
        if self._table is None:
            return
        metrics = self.fontMetrics()
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setMinimumSectionSize(10)
        columns = list(zip(self._table.heading, *self._table.rows, strict=True))
        needed = [max(metrics.horizontalAdvance(text) for text in texts) + 9 for texts in columns]
        icon = metrics.height() + 6 if self._table.colours else 0
        least = metrics.horizontalAdvance("n") * _LEAST_NAME + icon
        left = max(least, self.viewport().width() - sum(needed[1:]))
        for column, width in enumerate([left, *needed[1:]]):
            self.setColumnWidth(column, width)
        rows = sum(self.rowHeight(row) for row in range(min(self.rowCount(), _MOST_ROWS)))
        height = rows + header.sizeHint().height() + 2 * self.frameWidth() + 2
        if left + sum(needed[1:]) > self.viewport().width():
            height += self.horizontalScrollBar().sizeHint().height()
        self.setFixedHeight(height)


def _cell(text: str, column: int, tooltip: str) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setTextAlignment(_alignment(column))
    item.setToolTip(tooltip)
    return item


def _alignment(column: int) -> int:
    return aligned(Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft)


class MeasureSection(Section):
    """``MeasureView``."""

    def __init__(self) -> None:
        super().__init__("Measure")
        self._actions: MeasureActions | None = None
        self._state = MeasureState()
        self._said: Message | None = None
        self._focus_back = False
        self.measure_button, self.cancel_button = button("Measure", ""), button("Cancel", "")
        self.copy_button, self.save_button = button("Copy", ""), button("Save CSV…", "")
        self.measures, self.agreement = MeasureTable("Measures"), MeasureTable("Agreement with the other mask")
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.other_box = ChoiceBox("Compare with")
        self.other_label, self.tolerance_label = QLabel("Against"), QLabel("Tolerance")
        self.other_label.setBuddy(self.other_box)
        self.tolerance = QDoubleSpinBox()
        self.tolerance.setAccessibleName("Tolerance of the surface Dice")
        self.tolerance.setToolTip("Surfaces count as equal where they are at most this far apart (surface Dice)")
        self.tolerance.setRange(0, 100)
        self.tolerance.setSingleStep(0.5)
        self.tolerance.setKeyboardTracking(False)
        self.tolerance_label.setBuddy(self.tolerance)
        self.bar = Bar("Progress of measuring")
        self.message = MessageLine(lambda: self._do("dismiss_message"))
        self._lay_out()
        self.measure_button.clicked.connect(lambda: self._do("measure"))
        self.cancel_button.clicked.connect(lambda: self._do("cancel"))
        self.copy_button.clicked.connect(lambda: self._do("copy"))
        self.save_button.clicked.connect(self._ask_path)
        self.other_box.chosen.connect(lambda key: self._do("choose_other", key))
        self.tolerance.valueChanged.connect(lambda value: self._do("set_tolerance", value))

    def _lay_out(self) -> None:
        rows = QVBoxLayout(self.body)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        top, bottom, grid = QHBoxLayout(), QHBoxLayout(), QGridLayout()
        top.addWidget(self.measure_button)
        top.addWidget(self.cancel_button)
        bottom.addWidget(self.copy_button)
        bottom.addWidget(self.save_button)
        grid.setColumnStretch(1, 1)
        for row, (label, field) in enumerate(
            ((self.other_label, self.other_box), (self.tolerance_label, self.tolerance))
        ):
            grid.addWidget(label, row, 0)
            grid.addWidget(field, row, 1)
        rows.addLayout(top)
        for widget in (self.bar, self.measures):
            rows.addWidget(widget)
        rows.addLayout(grid)
        for widget in (self.agreement, self.note):
            rows.addWidget(widget)
        rows.addLayout(bottom)
        rows.addWidget(self.message)

    def attach(self, actions: MeasureActions) -> None:
        self._actions = actions

    def show_state(self, state: MeasureState) -> None:
        self._state = state
        self.setVisible(state.shown)
        self.summary.show_text(state.summary)
        self._focus_back = self._focus_back or (self.measure_button.hasFocus() and not state.measure.enabled)
        for pressed, shown in (
            (self.measure_button, state.measure),
            (self.cancel_button, state.cancel),
            (self.copy_button, state.copy),
            (self.save_button, state.save),
        ):
            show_button(pressed, shown)
        if self._focus_back and state.measure.enabled:
            # a button that cannot be pressed loses the keyboard; it gets it back
            self.measure_button.setFocus()
            self._focus_back = False
        self.measures.show_table(state.measures)
        self.agreement.show_table(state.agreement)
        self.note.setText(state.note)
        self.note.setVisible(bool(state.note))
        self.other_box.show_choices(state.others, state.other, "no other mask")
        for widget in (self.other_label, self.other_box):
            widget.setVisible(bool(state.others))
        for widget in (self.tolerance_label, self.tolerance):
            widget.setVisible(bool(state.other))
        with QSignalBlocker(self.tolerance):
            self.tolerance.setValue(state.tolerance)
            self.tolerance.setSuffix(f" {state.unit}")
        self.bar.show_progress(state.progress)
        self.message.show_message(state.message)
        if state.message is not None and state.message != self._said:
            reveal(self.message)
        self._said = state.message

    def put_on_clipboard(self, text: str) -> None:
        QGuiApplication.clipboard().setText(text)

    def _ask_path(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the measures", self._state.suggested, "Tables (*.csv)")
        if path:
            self._do("save_csv", Path(path) if Path(path).suffix else Path(f"{path}.csv"))

    def _do(self, name: str, *values: Any) -> None:
        if self._actions is not None:
            getattr(self._actions, name)(*values)
