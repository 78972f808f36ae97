"""The versions of a project's checkpoint: with their scores, to use, rename and compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
)

from napari_llm4seg.gui.views.abstract.retrain import VersionRow
from napari_llm4seg.gui.views.widgets import Section, button, show_words, wrapped

_HEIGHT = 96


class VersionList(Section):
    """A table in a section that is closed at first; not seen while there is no version.

    Parameters
    ----------
    do : callable(str, ...)
        Calls the controller's action of that name.
    """

    def __init__(self, do: Callable[..., None]) -> None:
        super().__init__("Versions")
        self._do = do
        self._rows: tuple[VersionRow, ...] = ()
        self._enabled = True
        self.table = QTreeWidget()
        self.table.setAccessibleName("Versions of the model")
        self.table.setHeaderLabels(["Version", "Unseen slices"])
        self.table.setRootIsDecorated(False)
        self.table.setUniformRowHeights(True)
        self.table.setFixedHeight(_HEIGHT)
        self.table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.table.header().setStretchLastSection(False)
        self.table.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.use_button = button("Use", "")
        self.rename_button = button("Rename…", "")
        self.compare_button = button("Compare", "")
        self.compared = wrapped()
        row = QHBoxLayout()
        for each in (self.use_button, self.rename_button, self.compare_button):
            row.addWidget(each)
        rows = QVBoxLayout(self.body)
        rows.setContentsMargins(14, 0, 0, 0)
        rows.setSpacing(4)
        rows.addWidget(self.table)
        rows.addLayout(row)
        rows.addWidget(self.compared)
        self.table.itemSelectionChanged.connect(self._selected)
        self.table.itemActivated.connect(lambda item, column: self._use())
        self.use_button.clicked.connect(self._use)
        self.rename_button.clicked.connect(self._rename)
        self.compare_button.clicked.connect(self._compare)

    def show_versions(self, rows: tuple[VersionRow, ...], compared: str, enabled: bool) -> None:
        self.setVisible(bool(rows))
        self._enabled = enabled
        current = next((row for row in rows if row.current), None)
        self.summary.show_text(f"{len(rows)} · {f'in use: {current.name}' if current else 'none in use'}")
        if rows != self._rows:
            self._rows = rows
            chosen = set(self._numbers())
            self.table.clear()
            for row in rows:
                item = QTreeWidgetItem([f"● {row.name}" if row.current else row.name, row.score])
                item.setData(0, Qt.ItemDataRole.UserRole, row.number)
                for column in range(2):
                    item.setToolTip(column, row.tooltip)
                self.table.addTopLevelItem(item)
                item.setSelected(row.number in chosen)
        show_words(self.compared, compared)
        self._selected()

    def _numbers(self) -> list[int]:
        return sorted(int(item.data(0, Qt.ItemDataRole.UserRole)) for item in self.table.selectedItems())

    def _selected(self) -> None:
        """Say of each button why it cannot be pressed."""
        count = len(self._numbers())
        for each, needed, does in (
            (self.use_button, 1, "Make this version the model of the Segment dock"),
            (self.rename_button, 1, "Call this version something else"),
            (self.compare_button, 2, "Compare the scores of two versions on the slices that judged both"),
        ):
            missing = "Select two versions (Ctrl+click)." if needed == 2 else "Select one version."
            each.setEnabled(self._enabled and count == needed)
            each.setToolTip(does if count == needed else missing)

    def _use(self) -> None:
        numbers = self._numbers()
        if len(numbers) == 1 and self._enabled:
            self._do("use_version", numbers[0])

    def _rename(self) -> None:
        numbers: list[Any] = self._numbers()
        old = next((row.name for row in self._rows if row.number == numbers[0]), "") if len(numbers) == 1 else ""
        name, agreed = QInputDialog.getText(self, "Rename the version", "New name:", text=old)
        if agreed and name.strip() and old:
            self._do("rename_version", numbers[0], name.strip())

    def _compare(self) -> None:
        numbers = self._numbers()
        if len(numbers) == 2:
            self._do("compare_versions", *numbers)
