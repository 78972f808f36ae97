"""The legend under the choice of the mask: a swatch, a name and a value per class."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_llm4seg.gui.views.abstract.classes import ClassesActions, ClassesState, ClassRow
from napari_llm4seg.gui.views.widgets import MessageLine, button

_NAME, _VALUE = 0, 1
_MOST_ROWS = 6
_VALUE_ROLE = Qt.ItemDataRole.UserRole


def swatch(colour: str, side: int) -> QIcon:
    """Return a square of ``colour`` with a border that shows it on dark and on light."""
    pixmap = QPixmap(side, side)
    pixmap.fill(QColor(colour))
    painter = QPainter(pixmap)
    painter.setPen(QColor("#808080"))
    painter.drawRect(0, 0, side - 1, side - 1)
    painter.end()
    # the same when its row is selected or disabled: the colour is what is said
    icon = QIcon()
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected, QIcon.Mode.Disabled, QIcon.Mode.Active):
        icon.addPixmap(pixmap, mode)
    return icon


def aligned(side: Any) -> int:
    """Return ``side`` and the middle of the height as the number that items of every Qt binding take."""
    both = side | Qt.AlignmentFlag.AlignVCenter
    return int(getattr(both, "value", both))


class ClassList(QWidget):
    """``ClassesView``: a click paints with a class, a double click renames it."""

    def __init__(self) -> None:
        super().__init__()
        self._actions: ClassesActions | None = None
        self._state = ClassesState()
        self._new_name = (0, "")
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(lambda: self._do("rename_class", *self._new_name))
        self.tree = QTreeWidget()
        self.tree.setAccessibleName("Classes of the mask")
        self.tree.setColumnCount(2)
        self.tree.setHeaderHidden(True)
        self.tree.setRootIsDecorated(False)
        self.tree.setUniformRowHeights(True)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.tree.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.tree.header().setStretchLastSection(False)
        self.tree.header().setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        self.tree.header().setSectionResizeMode(_VALUE, QHeaderView.ResizeMode.ResizeToContents)
        self.tree.setToolTip("Click: paint with this class. Double click or F2: rename it.")
        self.tree.itemDoubleClicked.connect(self._edit)
        self.tree.itemChanged.connect(self._renamed)
        self.tree.currentItemChanged.connect(self._selected)
        self.tree.itemClicked.connect(self._selected)
        self.colour_button = button("Colour…", "Choose the colour of the selected class")
        self.colour_button.clicked.connect(self._ask_colour)
        self.add_button = button("Add class", "Add a class to this mask and paint with it")
        self.add_button.clicked.connect(lambda: self._do("add_class"))
        self.message = MessageLine(lambda: self._do("dismiss_message"))
        row = QHBoxLayout()
        row.addWidget(self.colour_button)
        row.addWidget(self.add_button)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        rows.addWidget(self.tree)
        rows.addLayout(row)
        rows.addWidget(self.message)

    def attach(self, actions: ClassesActions) -> None:
        self._actions = actions

    def show_state(self, state: ClassesState) -> None:
        with QSignalBlocker(self.tree):
            if state.classes != self._state.classes or self.tree.topLevelItemCount() != len(state.classes):
                self._fill(state.classes)
            self._state = state
            for index, item in enumerate(state.classes):
                if item.value == state.selected and self.tree.currentIndex().row() != index:
                    self.tree.setCurrentItem(self.tree.topLevelItem(index))
        self.message.show_message(state.message)
        self.setVisible(state.shown)

    def _fill(self, classes: tuple[ClassRow, ...]) -> None:
        side = self.fontMetrics().height()
        self.tree.setIconSize(QSize(side, side))
        self.tree.clear()
        for row in classes:
            item = QTreeWidgetItem([row.name, str(row.value)])
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            item.setIcon(_NAME, swatch(row.colour, side))
            item.setData(_NAME, _VALUE_ROLE, row.value)
            item.setTextAlignment(_VALUE, aligned(Qt.AlignmentFlag.AlignRight))
            item.setToolTip(_NAME, f"{row.name}: label {row.value}, {row.colour}")
            item.setToolTip(_VALUE, "The label's value in files")
            self.tree.addTopLevelItem(item)
        height = self.tree.sizeHintForRow(0) if classes else side
        shown = min(max(len(classes), 1), _MOST_ROWS)
        self.tree.setFixedHeight(shown * height + 2 * self.tree.frameWidth() + 2)

    # ------------------------------------------------------------------ asking

    def keyPressEvent(self, event: Any) -> None:
        item = self.tree.currentItem()
        if event.key() == Qt.Key.Key_F2 and item is not None:
            self.tree.editItem(item, _NAME)
        else:
            super().keyPressEvent(event)

    def _edit(self, item: QTreeWidgetItem, column: int) -> None:
        self.tree.editItem(item, _NAME)

    def _renamed(self, item: QTreeWidgetItem, column: int) -> None:
        value, name = int(item.data(_NAME, _VALUE_ROLE)), item.text(_NAME)
        old = next((row.name for row in self._state.classes if row.value == value), "")
        if column == _NAME and name != old:
            # What is refused is put back by what is shown next; not before Qt is through with its editor.
            self._state = ClassesState()
            self._new_name = value, name
            self._later.start()

    def _selected(self, item: QTreeWidgetItem | None, _: object = None) -> None:
        if item is not None:
            self._do("select_class", int(item.data(_NAME, _VALUE_ROLE)))

    def _ask_colour(self) -> None:
        row = next((row for row in self._state.classes if row.value == self._state.selected), None)
        if row is None:
            return
        colour = QColorDialog.getColor(QColor(row.colour), self, f"Colour of {row.name}")
        if colour.isValid():
            self._do("recolour_class", row.value, colour.name().upper())

    def _do(self, name: str, *values: Any) -> None:
        if self._actions is not None:
            getattr(self._actions, name)(*values)
