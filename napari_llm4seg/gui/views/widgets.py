"""Small parts that the docks are made of: steps, a collapsible section, elided lines, a message line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState

_ICONS = {
    "error": QStyle.StandardPixmap.SP_MessageBoxCritical,
    "warning": QStyle.StandardPixmap.SP_MessageBoxWarning,
    "info": QStyle.StandardPixmap.SP_MessageBoxInformation,
}
# The style draws the label a few pixels inside the field.
_FIELD_MARGIN = 6
_SPOKEN = {"error": "Error", "warning": "Note", "info": "Information"}


class ChoiceBox(QComboBox):
    """A combo box of ``Choice``; emits ``chosen(key)`` only when a person chooses."""

    chosen = Signal(str)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        # Long names must not make the dock wider; the list itself shows them whole.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        # Scrolling the dock must not change a choice.
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._choices: tuple[Choice, ...] = ()
        self.activated.connect(lambda index: self.chosen.emit(str(self.itemData(index))))

    def show_choices(self, choices: tuple[Choice, ...], current: str | None, empty: str) -> None:
        """Show ``choices`` with ``current`` chosen; ``empty`` stands there when there are none."""
        if choices != self._choices or self.count() == 0:
            self._choices = choices
            self.blockSignals(True)
            self.clear()
            for index, choice in enumerate(choices or (Choice("", empty),)):
                self.addItem(choice.label, choice.key)
                self.setItemData(index, choice.tooltip or choice.label, Qt.ItemDataRole.ToolTipRole)
            self.blockSignals(False)
        self.setEnabled(bool(choices))
        index = self.findData(current) if current is not None else -1
        if index != self.currentIndex():
            self.setCurrentIndex(index if choices else 0)
        self.setToolTip(self.currentText())

    def paintEvent(self, event: object) -> None:
        """Draw as every combo box, but end a name that is too long in "…" instead of cutting it."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        style = self.style()
        room = style.subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        ).width()
        option.currentText = self.fontMetrics().elidedText(
            option.currentText, Qt.TextElideMode.ElideRight, max(0, room - _FIELD_MARGIN)
        )
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def wheelEvent(self, event: object) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()  # type: ignore[attr-defined]


class Line(QElidingLabel):
    """One line that ends in "…" when the dock is too narrow; the tooltip has the whole text."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def show_text(self, text: str, tooltip: str = "") -> None:
        if text != self.text():
            self.setText(text)
        self.setToolTip(tooltip or text)
        self.setVisible(bool(text))


class Section(QWidget):
    """A heading with an arrow that shows or hides what is below it; reachable by Tab, toggled by Space.

    ``summary`` is a line beside the heading, for what is worth knowing while the section is closed.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setArrowType(Qt.ArrowType.RightArrow)
        self.button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.button.setAccessibleName(title)
        self.summary = Line()
        self.summary.setVisible(False)
        self.body = QWidget()
        self.body.setVisible(False)
        heading = QHBoxLayout()
        heading.setSpacing(6)
        heading.addWidget(self.button)
        heading.addWidget(self.summary, 1)
        heading.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(heading)
        layout.addWidget(self.body)
        self.button.toggled.connect(self._toggle)

    def _toggle(self, shown: bool) -> None:
        self.body.setVisible(shown)
        self.button.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        if shown:
            reveal(self)


class MessageLine(QWidget):
    """An icon and a sentence; "more" opens the details, "×" takes the message away."""

    def __init__(self, on_close: Callable[[], None]) -> None:
        super().__init__()
        self._message: Message | None = None
        self.icon = QLabel()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.text.setMinimumWidth(1)
        self.more = QToolButton()
        self.more.setText("more")
        self.more.setCheckable(True)
        self.more.setAutoRaise(True)
        self.more.setAccessibleName("Details of the message")
        self.close_button = QToolButton()
        self.close_button.setText("×")
        self.close_button.setAutoRaise(True)
        self.close_button.setAccessibleName("Dismiss the message")
        self.close_button.setToolTip("Dismiss")
        self.details = QPlainTextEdit()
        self.details.setReadOnly(True)
        self.details.setVisible(False)
        self.details.setAccessibleName("Details")
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.icon, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout()
        column.setSpacing(0)
        column.addWidget(self.text)
        column.addWidget(self.more)
        row.addLayout(column, 1)
        row.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.details)
        self.more.toggled.connect(self.details.setVisible)
        self.close_button.clicked.connect(on_close)
        self.setVisible(False)

    def show_message(self, message: Message | None) -> None:
        if message == self._message:
            return
        self._message = message
        self.setVisible(message is not None)
        self.more.setChecked(False)
        if message is None:
            return
        side = self.fontMetrics().height()
        self.icon.setPixmap(self.style().standardIcon(_ICONS[message.kind]).pixmap(QSize(side, side)))
        self.icon.setAccessibleName(_SPOKEN[message.kind])
        # A line never breaks between a number and its unit.
        self.text.setText(re.sub(r"(\d) (s|min|mm|mL|%)(?!\w)", "\\1\u00a0\\2", message.text))
        self.text.setAccessibleName(f"{_SPOKEN[message.kind]}: {message.text}")
        self.more.setVisible(bool(message.details))
        self.details.setPlainText(message.details)


def dock_around(widget: Any) -> QDockWidget | None:
    """Return the dock that a widget is in, None while it is in none."""
    while widget is not None and not isinstance(widget, QDockWidget):
        widget = widget.parent()
    return widget


def reveal(widget: QWidget) -> None:
    """Scroll the dock, once it has laid itself out, so far that ``widget`` is seen."""
    area = widget.parentWidget()
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parentWidget()
    if area is not None:
        later = QTimer(widget)
        later.setSingleShot(True)
        later.timeout.connect(lambda: area.ensureWidgetVisible(widget, 0, 4))
        later.timeout.connect(later.deleteLater)
        later.start(0)


class Bar(QProgressBar):
    """A progress bar.

    Its place is kept while it is hidden, where what lies below must not jump away under the mouse.
    """

    def __init__(self, name: str, keep_place: bool = True) -> None:
        super().__init__()
        self.setAccessibleName(name)
        policy = self.sizePolicy()
        policy.setRetainSizeWhenHidden(keep_place)
        self.setSizePolicy(policy)
        self.setVisible(False)

    def show_progress(self, progress: ProgressState | None) -> None:
        self.setVisible(progress is not None)
        if progress is not None:
            self.setRange(0, progress.total)
            self.setValue(progress.done)
            self.setFormat(progress.text)


def button(text: str, tooltip: str) -> QPushButton:
    """Return a button that the keyboard reaches and that shares the width with its neighbours."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return made


def show_button(shown: QPushButton, state: ButtonState) -> None:
    """Draw a button's state; an empty text leaves the one it has."""
    if state.text:
        shown.setText(state.text)
    shown.setAccessibleName(shown.text())
    shown.setAccessibleDescription(state.tooltip)
    shown.setEnabled(state.enabled)
    shown.setToolTip(state.tooltip)
    shown.setVisible(state.visible)


def wrapped() -> QLabel:
    """Return a label that breaks its lines rather than making the dock wider."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    label.setMinimumWidth(1)
    return label


def show_words(label: QLabel, text: str) -> None:
    """Show ``text``, or nothing at all where there is none."""
    if text != label.text():
        label.setText(text)
    label.setVisible(bool(text))
