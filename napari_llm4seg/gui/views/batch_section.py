"""The batch page: folder in, folder out, a button, and a table of what became of each scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
)

from napari_llm4seg.gui.views.abstract.batch import BatchActions, BatchRow, BatchState
from napari_llm4seg.gui.views.widgets import Bar, Line, MessageLine, Section, button, show_button

_TABLE_HEIGHT = 150


class BatchSection(Section):
    """``BatchView`` in a section that is closed at first."""

    def __init__(self) -> None:
        super().__init__("Batch: a folder of scans")
        self._actions: BatchActions | None = None
        self._shown: list[BatchRow] = []
        rows = QVBoxLayout(self.body)
        rows.setContentsMargins(14, 0, 0, 0)
        rows.setSpacing(4)
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        self.source_button = button("Choose…", "Choose the folder of the scans; its sub-folders are looked at too")
        self.out_button = button("Choose…", "Choose the folder of the masks; what a person corrected there is kept")
        self.source_line, self.out_line, self.count_line = Line(), Line(), Line()
        for at, (text, line, chooser) in enumerate(
            (("From", self.source_line, self.source_button), ("To", self.out_line, self.out_button))
        ):
            label = QLabel(text)
            label.setBuddy(chooser)
            chooser.setAccessibleName(f"{text} folder")
            grid.addWidget(label, at, 0)
            grid.addWidget(line, at, 1)
            grid.addWidget(chooser, at, 2)
        rows.addLayout(grid)
        rows.addWidget(self.count_line)
        self.start_button, self.cancel_button = button("Segment folder", ""), button("Cancel", "")
        row = QHBoxLayout()
        row.addWidget(self.start_button, 2)
        row.addWidget(self.cancel_button, 1)
        rows.addLayout(row)
        self.bar = Bar("Progress of the folder")
        rows.addWidget(self.bar)
        self.table = self._table()
        rows.addWidget(self.table)
        self.message = MessageLine(lambda: self._do("dismiss_message"))
        rows.addWidget(self.message)
        self.source_button.clicked.connect(lambda: self._ask("choose_source", "Choose a folder of scans"))
        self.out_button.clicked.connect(lambda: self._ask("choose_out", "Choose a folder for the masks"))
        self.start_button.clicked.connect(lambda: self._do("start_batch"))
        self.cancel_button.clicked.connect(lambda: self._do("cancel_batch"))

    def _table(self) -> QTreeWidget:
        table = QTreeWidget()
        table.setAccessibleName("Scans of the folder")
        table.setHeaderLabels(["Scan", "State", "Found"])
        table.setRootIsDecorated(False)
        table.setUniformRowHeights(True)
        table.setMinimumHeight(_TABLE_HEIGHT)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setTextElideMode(Qt.TextElideMode.ElideRight)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = table.header()
        header.setMinimumSectionSize(40)
        resize = QHeaderView.ResizeMode
        modes = (resize.Interactive, resize.ResizeToContents, resize.Stretch)
        for column, mode in enumerate(modes):
            header.setSectionResizeMode(column, mode)
        header.resizeSection(0, 90)
        # a double click, or Return on the row
        table.itemActivated.connect(lambda item, column: self._do("open_case", item.text(0)))
        return table

    def attach(self, actions: BatchActions) -> None:
        self._actions = actions

    def show_state(self, state: BatchState) -> None:
        self.source_line.show_text(Path(state.source).name if state.source else "no folder chosen", state.source)
        self.out_line.show_text(Path(state.out).name if state.out else "beside it", state.out)
        self.count_line.show_text(state.source_words)
        self.source_button.setEnabled(not state.busy)
        self.out_button.setEnabled(not state.busy)
        show_button(self.start_button, state.start)
        show_button(self.cancel_button, state.cancel)
        self.bar.show_progress(state.progress)
        self._show_rows(state.rows)
        self.message.show_message(state.message)

    def _show_rows(self, rows: tuple[BatchRow, ...]) -> None:
        """Change only what differs: a folder may hold thousands of scans."""
        self.table.setVisible(bool(rows))
        if [row.name for row in rows] != [row.name for row in self._shown]:
            self.table.clear()
            self.table.addTopLevelItems([QTreeWidgetItem([row.name]) for row in rows])
            self._shown = [BatchRow(row.name) for row in rows]
        for number, (row, shown) in enumerate(zip(rows, self._shown, strict=True)):
            if row == shown and row.status:
                continue
            self._shown[number] = row
            item = self.table.topLevelItem(number)
            item.setText(1, row.status)
            item.setText(2, row.found or row.details)
            tip = f"{row.name}\n{row.details}" if row.details else row.name
            if row.openable:
                tip += "\nDouble-click opens the scan and its mask"
            for column in range(3):
                item.setToolTip(column, tip)
            if row.status == "running":
                self.table.scrollToItem(item)

    def _ask(self, action: str, title: str) -> None:
        folder = QFileDialog.getExistingDirectory(self, title)
        if folder:
            self._do(action, Path(folder))

    def _do(self, name: str, *values: Any) -> None:
        if self._actions is not None:
            getattr(self._actions, name)(*values)
