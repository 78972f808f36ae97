"""The spectrum tab: the singular values' shares, the figures drawn from them, the stack and other versions."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_llm4seg.gui.views.abstract.inspect import SpectrumState
from napari_llm4seg.gui.views.plot import Plot
from napari_llm4seg.gui.views.reading import ReadingLine
from napari_llm4seg.gui.views.widgets import button, show_button, show_words, wrapped


class SpectrumTab(QWidget):
    """Emits ``chosen(what, value)`` and ``started(what, value)``."""

    chosen = Signal(str, object)
    started = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(4, 6, 4, 4)
        rows.setSpacing(4)
        rows.addWidget(ReadingLine("spectrum"))
        self.problem = wrapped()
        rows.addWidget(self.problem)
        self.centred_box = QCheckBox("centred: the mean token taken off")
        self.centred_box.setToolTip("Without it the first direction is mostly the mean of all tokens")
        rows.addWidget(self.centred_box)
        self.plot = Plot("Shares of the singular values")
        rows.addWidget(self.plot)
        self.table = figures_table(("", "Eff. rank", "-ln top"))
        rows.addWidget(self.table)
        self.stack_button, self.compare_button = button("Along the stack", ""), button("Another version…", "")
        row = QHBoxLayout()
        row.addWidget(self.stack_button)
        row.addWidget(self.compare_button)
        rows.addLayout(row)
        self.stack_plot = Plot("Effective rank along the stack")
        rows.addWidget(self.stack_plot)
        rows.addStretch()
        self._shown: SpectrumState | None = None
        self.centred_box.clicked.connect(lambda on: self.chosen.emit("centred", bool(on)))
        self.stack_button.clicked.connect(lambda: self.started.emit("stack", None))
        self.compare_button.clicked.connect(self._ask_version)

    def show_state(self, state: Any) -> None:
        if state == self._shown:
            return
        self._shown = state
        show_words(self.problem, state.problem)
        self.centred_box.setChecked(state.centred)
        self.plot.show_plot(state.plot)
        self.table.clear()
        for row in (*state.rows, *state.versions):
            item = QTreeWidgetItem(list(row))
            for column in (1, 2):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
                item.setToolTip(column, state.tooltips[column - 1])
            item.setToolTip(0, row[0])
            self.table.addTopLevelItem(item)
        for column, words in enumerate(state.tooltips, start=1):
            self.table.headerItem().setToolTip(column, words)
        fit_rows(self.table, most=10)
        show_button(self.stack_button, state.stack)
        show_button(self.compare_button, state.compare)
        self.stack_plot.show_plot(state.stack_plot)

    def _ask_version(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a checkpoint's folder")
        if folder:
            self.started.emit("compare", folder)


def figures_table(names: tuple[str, ...]) -> QTreeWidget:
    """Return a table whose first column takes what room the figures leave."""
    table = QTreeWidget()
    table.setHeaderLabels(list(names))
    table.setRootIsDecorated(False)
    table.setUniformRowHeights(True)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    header = table.header()
    header.setStretchLastSection(False)
    header.setMinimumSectionSize(30)
    for column in range(len(names)):
        modes = QHeaderView.ResizeMode
        header.setSectionResizeMode(column, modes.ResizeToContents if column else modes.Stretch)
    return table


def fit_rows(table: QTreeWidget, most: int) -> None:
    """Make a table as high as its rows, up to ``most`` of them, and hide it where there is none."""
    count = table.topLevelItemCount()
    table.setVisible(count > 0)
    row = table.sizeHintForRow(0) if count else 0
    table.setFixedHeight(table.header().sizeHint().height() + max(row, 16) * min(count, most) + 6)
