"""Which of the DICOM series in a folder shall be opened?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
)


class SeriesDialog(QDialog):
    """A list to tick; the one with most slices is ticked at first.

    Parameters
    ----------
    name : str
        Of the folder or file.
    lines : sequence of str
        The series in words, as ``SeriesInfo`` says them.
    first : int
        Index that is ticked.
    """

    def __init__(self, name: str, lines: Sequence[str], first: int = 0, parent: Any = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Open DICOM series")
        text = QLabel(f"'{name}' holds {len(lines)} series. Tick those to open; each becomes a layer.")
        text.setWordWrap(True)
        self.list = QListWidget()
        self.list.setAccessibleName("Series")
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # long lines end in "…"
        for index, line in enumerate(lines):
            item = QListWidgetItem(line)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Checked if index == first else Qt.CheckState.Unchecked)
            item.setToolTip(line)
            self.list.addItem(item)
        self.list.setCurrentRow(first)
        self.list.itemChanged.connect(self._changed)
        self.list.itemDoubleClicked.connect(self._open_one)
        self.all_button = QPushButton("Tick all")
        self.all_button.clicked.connect(self._tick_all)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel)
        self.buttons.addButton(self.all_button, QDialogButtonBox.ButtonRole.ActionRole)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        rows = QVBoxLayout(self)
        for part in (text, self.list, self.buttons):
            rows.addWidget(part)
        self.resize(520, 320)
        self._changed()

    def ticked(self) -> list[int]:
        """Return the indices of the ticked lines, in order."""
        states = [self.list.item(row).checkState() for row in range(self.list.count())]
        return [row for row, state in enumerate(states) if state == Qt.CheckState.Checked]

    def _tick_all(self) -> None:
        whole = len(self.ticked()) == self.list.count()
        for row in range(self.list.count()):
            self.list.item(row).setCheckState(Qt.CheckState.Unchecked if whole else Qt.CheckState.Checked)

    def _open_one(self, chosen: QListWidgetItem) -> None:
        for row in range(self.list.count()):
            item = self.list.item(row)
            item.setCheckState(Qt.CheckState.Checked if item is chosen else Qt.CheckState.Unchecked)
        self.accept()

    def _changed(self, *_: Any) -> None:
        some = bool(self.ticked())
        button = self.buttons.button(QDialogButtonBox.StandardButton.Open)
        button.setEnabled(some)
        button.setToolTip("Open the ticked series" if some else "Tick at least one series")
        self.all_button.setText("Tick none" if len(self.ticked()) == self.list.count() else "Tick all")


def choose_series(name: str, lines: Sequence[str], first: int = 0, parent: Any = None) -> list[int]:
    """Ask, and return the indices of what was ticked; none if the dialog was left."""
    dialog = SeriesDialog(name, lines, first, parent or QApplication.activeWindow())
    try:
        answer = dialog.exec_()
        return dialog.ticked() if answer else []
    finally:
        dialog.deleteLater()
