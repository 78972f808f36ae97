"""The what-if tab: a change and a button, what came of it, all heads in a table, and a test of maps."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSpinBox, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from napari_llm4seg.gui.views.abstract.inspect import EffectRow, WhatIfState
from napari_llm4seg.gui.views.inspect_spectrum import figures_table, fit_rows
from napari_llm4seg.gui.views.reading import ReadingLine
from napari_llm4seg.gui.views.widgets import ChoiceBox, button, show_button, show_words, wrapped

_KEY = Qt.ItemDataRole.UserRole
_VALUE = Qt.ItemDataRole.UserRole + 1


class Row(QTreeWidgetItem):
    """A row that is sorted by its numbers, not by how they are written."""

    def __lt__(self, other: Any) -> bool:
        column = self.treeWidget().sortColumn() if self.treeWidget() is not None else 0
        mine, theirs = self.data(column, _VALUE), other.data(column, _VALUE)
        if mine is None or theirs is None:
            return bool(self.text(column) < other.text(column))
        return bool(mine < theirs)


class WhatIfTab(QWidget):
    """Emits ``chosen(what, value)`` and ``started(what, value)``."""

    chosen = Signal(str, object)
    started = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(4, 6, 4, 4)
        self._rows.setSpacing(4)
        self.problem = wrapped()
        self._rows.addWidget(ReadingLine("what if"))
        self._rows.addWidget(self.problem)
        self._build_changes()
        self._build_heads()
        self._build_test()
        self._rows.addStretch()
        self._shown: WhatIfState | None = None

    def _build_changes(self) -> None:
        self.change_box, self.head_box = ChoiceBox("Change"), QSpinBox()
        self.head_box.setPrefix("head ")
        self.head_box.setAccessibleName("Head")
        self.run_button = button("Try it", "")
        row = QHBoxLayout()
        row.addWidget(self.change_box, 1)
        row.addWidget(self.head_box)
        self._rows.addLayout(row)
        self._rows.addWidget(self.run_button)
        self.region_line = wrapped()
        self.region_line.setText(
            "To block a region, draw a shape or paint labels on the slice; it is then listed above."
        )
        self.effects = figures_table(("Change", "Dice", "Pixels"))
        self.effects.setAccessibleName("Changes tried")
        self._rows.addWidget(self.effects)
        self._rows.addWidget(self.region_line)
        self.change_box.chosen.connect(lambda key: self.chosen.emit("change", key))
        self.head_box.valueChanged.connect(lambda value: self.chosen.emit("head", value))
        self.run_button.clicked.connect(lambda: self.started.emit("run", None))
        self.effects.itemClicked.connect(self._picked)

    def _build_heads(self) -> None:
        self._rows.addWidget(ReadingLine("all heads"))
        self.table_button = button("All heads in turn", "")
        self._rows.addWidget(self.table_button)
        self.heads = figures_table(("Head", "Dice", "Pixels", "Entropy"))
        self.heads.setAccessibleName("Every head knocked out in turn")
        self.heads.setSortingEnabled(True)
        self.heads.sortByColumn(1, Qt.SortOrder.AscendingOrder)
        self.heads.headerItem().setToolTip(0, "The head that is knocked out, the others in place")
        self.heads.headerItem().setToolTip(3, "How spread the head's look is on average, of the largest possible")
        self._rows.addWidget(self.heads)
        self.table_button.clicked.connect(lambda: self.started.emit("table", None))
        self.heads.itemClicked.connect(self._picked)

    def _build_test(self) -> None:
        self._rows.addWidget(ReadingLine("faithfulness"))
        self.map_box, self.test_button = ChoiceBox("Map to test"), button("Test it", "")
        row = QHBoxLayout()
        label = QLabel("Map")
        label.setBuddy(self.map_box)
        row.addWidget(label)
        row.addWidget(self.map_box, 1)
        self._rows.addLayout(row)
        self._rows.addWidget(self.test_button)
        self.verdicts = wrapped()
        self._rows.addWidget(self.verdicts)
        self.map_box.chosen.connect(lambda key: self.chosen.emit("map", key))
        self.test_button.clicked.connect(lambda: self.started.emit("test", None))

    def _picked(self, item: Any, column: int) -> None:
        self.chosen.emit("picked", str(item.data(0, _KEY)))

    # ------------------------------------------------------------------ drawing

    def show_state(self, state: Any) -> None:
        if state == self._shown:
            return
        before, self._shown = self._shown, state
        show_words(self.problem, state.problem)
        self.change_box.show_choices(state.changes, state.change, "nothing recorded")
        self.head_box.setVisible(state.needs_head)
        self.head_box.blockSignals(True)
        self.head_box.setRange(0, max(0, state.heads - 1))
        self.head_box.setValue(state.head)
        self.head_box.blockSignals(False)
        show_button(self.run_button, state.run)
        show_button(self.table_button, state.table)
        show_button(self.test_button, state.test)
        self.map_box.show_choices(state.maps, state.map, "no map")
        if before is None or state.rows != before.rows:
            _fill(self.effects, state.rows, 8)
        if before is None or state.table_rows != before.table_rows:
            _fill(self.heads, state.table_rows, 9)
        for table in (self.effects, self.heads):
            _pick(table, state.picked)
        show_words(self.verdicts, "\n\n".join(state.verdicts))


def _fill(table: QTreeWidget, rows: tuple[EffectRow, ...], most: int) -> None:
    sorting = table.isSortingEnabled()
    table.setSortingEnabled(False)
    table.clear()
    for row in rows:
        item = Row([row.name, f"{row.dice:.3f}", str(row.pixels)])
        item.setData(0, _KEY, row.key)
        values: list[Any] = [int(row.name) if row.name.isdigit() else None, row.dice, row.pixels]
        if row.entropy is not None:
            item.setText(3, f"{row.entropy:.2f}")
            values.append(row.entropy)
        for column, value in enumerate(values):
            item.setData(column, _VALUE, value)
            item.setToolTip(column, f"{row.name}: click to lay the difference on the scan, blue gained, orange lost")
            if column:
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
        table.addTopLevelItem(item)
    table.setSortingEnabled(sorting)
    fit_rows(table, most)


def _pick(table: QTreeWidget, key: str) -> None:
    for number in range(table.topLevelItemCount()):
        item = table.topLevelItem(number)
        item.setSelected(bool(key) and item.data(0, _KEY) == key)
