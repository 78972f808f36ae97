"""The strip along the stack: one column for each slice, or for a few in long stacks; a click jumps there."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPalette, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_llm4seg.gui.views.abstract.correct import SliceMark, StripState

# Edited and confirmed differ by height, by form (a block, a block with a cap) and by colour (Okabe-Ito).
_EDITED, _CONFIRMED, _SUGGESTED = QColor("#E69F00"), QColor("#009E73"), QColor("#56B4E9")
_HEIGHT, _MARKS = 46, 9
_LEAST_COLUMN = 2.0
_WORDS: dict[SliceMark, str] = {"untouched": "untouched", "edited": "edited", "confirmed": "confirmed"}
_RANK: dict[SliceMark, int] = {"untouched": 0, "edited": 1, "confirmed": 2}


class SliceStrip(QWidget):
    """Draws a ``StripState``; emits ``chosen(z)`` when a person wants to see a slice.

    Arrow keys step, Page keys jump to the next corrected slice, Home and End go to the ends.
    """

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._state = StripState()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setAccessibleName("Slices")

    def sizeHint(self) -> QSize:
        return QSize(240, _HEIGHT)

    def minimumSizeHint(self) -> QSize:
        return QSize(60, _HEIGHT)

    def show_state(self, state: StripState) -> None:
        if state == self._state:
            return
        self._state = state
        self.setAccessibleName(state.title)
        self.setAccessibleDescription(self.words(state.here) if state.here >= 0 else "")
        self.update()

    # ------------------------------------------------------------------ places

    def _columns(self) -> int:
        """Return how many columns are drawn: as many as slices, or fewer where those would be too thin."""
        count = len(self._state.marks)
        return max(1, min(count, int(self.width() / _LEAST_COLUMN)))

    def slices_of(self, column: int) -> range:
        """Return the slices that a column stands for."""
        count, columns = len(self._state.marks), self._columns()
        return range(column * count // columns, max(column * count // columns + 1, (column + 1) * count // columns))

    def _column_of(self, z: int) -> int:
        count, columns = len(self._state.marks), self._columns()
        column = min(columns - 1, z * columns // count)
        while column + 1 < columns and z not in self.slices_of(column):
            column += 1
        return column

    def slice_at(self, x: float) -> int:
        """Return the slice under a place on the strip: of several in a column the one that was worked on."""
        if not self._state.marks:
            return -1
        column = min(self._columns() - 1, max(0, int(x / max(1, self.width()) * self._columns())))
        slices = self.slices_of(column)
        if self._state.suggested in slices:
            return self._state.suggested
        return max(slices, key=lambda z: (_RANK[self._state.marks[z]], -z))

    def words(self, z: int) -> str:
        """Return a slice and its state in words."""
        name = self._state.names[z] if self._state.names else f"Slice {z}"
        text = f"{name}: {_WORDS[self._state.marks[z]]}"
        if z == self._state.suggested:
            text += ", suggested next"
        return text + (", on the screen" if z == self._state.here else "")

    # ------------------------------------------------------------------ drawing

    def paintEvent(self, event: Any) -> None:
        marks = self._state.marks
        if not marks:
            return
        painter = QPainter(self)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        faint = QColor(text)
        faint.setAlpha(90)
        columns = self._columns()
        step = self.width() / columns
        gap = 1.0 if step >= 5 else 0.0
        base, full = self.height() - _MARKS, self.height() - 2 * _MARKS
        for column in range(columns):
            mark = max((marks[z] for z in self.slices_of(column)), key=lambda each: _RANK[each])
            left = column * step
            if mark == "untouched":
                painter.fillRect(QRectF(left, base - 3, step - gap, 3), faint)
                continue
            high = full if mark == "confirmed" else full * 0.55
            colour = _CONFIRMED if mark == "confirmed" else _EDITED
            painter.fillRect(QRectF(left, base - high, step - gap, high), colour)
            if mark == "confirmed":
                painter.fillRect(QRectF(left, base - high, step - gap, 3), text)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._state.suggested >= 0:
            self._arrow(painter, self._middle(self._state.suggested, step), _SUGGESTED, top=True)
        if self._state.here >= 0:
            middle = self._middle(self._state.here, step)
            painter.fillRect(QRectF(middle - 0.5, _MARKS, 1, base - _MARKS), text)
            self._arrow(painter, middle, text, top=False)
        if self.hasFocus():
            painter.setPen(_SUGGESTED)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(QRectF(0.5, 0.5, self.width() - 1, self.height() - 1))

    def _middle(self, z: int, step: float) -> float:
        return min(self.width() - 4.0, max(4.0, (self._column_of(z) + 0.5) * step))

    def _arrow(self, painter: QPainter, x: float, colour: QColor, *, top: bool) -> None:
        """Draw a triangle that points at a column, from above or from below."""
        tip, foot = (_MARKS - 1.0, 0.0) if top else (self.height() - _MARKS + 1.0, float(self.height()))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        painter.drawPolygon(QPolygonF([QPointF(x - 4.5, foot), QPointF(x + 4.5, foot), QPointF(x, tip)]))

    # ------------------------------------------------------------------ mouse and keys

    def mousePressEvent(self, event: Any) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._state.marks:
            self.chosen.emit(self.slice_at(_x(event)))

    def mouseMoveEvent(self, event: Any) -> None:
        if not self._state.marks:
            return
        z = self.slice_at(_x(event))
        if event.buttons() & Qt.MouseButton.LeftButton and not self._state.names:  # images are files to be opened
            self.chosen.emit(z)
        there = event.globalPosition().toPoint() if hasattr(event, "globalPosition") else event.globalPos()
        QToolTip.showText(there, self.words(z), self)

    def keyPressEvent(self, event: Any) -> None:
        count, here = len(self._state.marks), max(0, self._state.here)
        worked = [z for z, mark in enumerate(self._state.marks) if mark != "untouched"]
        target = {
            Qt.Key.Key_Left: here - 1,
            Qt.Key.Key_Right: here + 1,
            Qt.Key.Key_Home: 0,
            Qt.Key.Key_End: count - 1,
            Qt.Key.Key_PageUp: max((z for z in worked if z < here), default=here),
            Qt.Key.Key_PageDown: min((z for z in worked if z > here), default=here),
        }.get(event.key())
        if target is None or not count:
            super().keyPressEvent(event)
        elif 0 <= target < count and target != self._state.here:
            self.chosen.emit(target)


def _x(event: Any) -> float:
    """Return where an event is along the strip, in either Qt."""
    return float(event.position().x() if hasattr(event, "position") else event.pos().x())
