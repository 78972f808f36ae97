"""Small pictures in rows, one of them picked: painted by hand, reached by mouse and keyboard."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPalette, QPen
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_llm4seg.gui.views.abstract.inspect import Picture

_GAP = 6
_PICKED = QColor("#56B4E9")


class PictureGrid(QWidget):
    """Pictures of one size with their titles below; emits ``picked(key)``.

    Parameters
    ----------
    name : str
        For screen readers.
    least : int
        Smallest width of a picture; as many as fit stand in a row.
    columns : int, optional
        Pictures in a row whatever the width.
    """

    picked = Signal(str)

    def __init__(self, name: str, least: int = 50, columns: int = 0) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self._least, self._columns_asked = least, columns
        self._pictures: tuple[Picture, ...] = ()
        self._images: list[QImage] = []
        self._current = ""

    def show_pictures(self, pictures: tuple[Picture, ...], current: str) -> None:
        """Draw ``pictures``, the one whose key is ``current`` framed."""
        if pictures is not self._pictures:
            resized = len(pictures) != len(self._pictures)
            self._pictures = pictures
            self._images = [_image(picture) for picture in pictures]
            if resized:
                self.updateGeometry()
        self._current = current
        self.setVisible(bool(pictures))
        self.update()

    # ------------------------------------------------------------------ layout

    def _columns(self, width: int) -> int:
        if self._columns_asked:
            return self._columns_asked
        fitting = max(1, (width + _GAP) // (self._least + _GAP))
        return max(1, min(fitting, len(self._pictures)))

    def _cell(self, width: int) -> tuple[float, float, float]:
        """Return width of a picture, its height, and the height of a row with its title."""
        side = (width - _GAP * (self._columns(width) - 1)) / self._columns(width)
        if not self._columns_asked:
            side = min(side, 2.0 * self._least)
        rows, columns = self._pictures[0].pixels.shape[:2] if self._pictures else (1, 1)
        high = min(side * rows / columns, 1.5 * side)
        return side, high, high + self.fontMetrics().height() + _GAP

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        columns = self._columns(width)
        return round(-(-len(self._pictures) // columns) * self._cell(width)[2]) if self._pictures else 0

    def sizeHint(self) -> QSize:
        width = self.width() if self.width() > self._least else 300
        return QSize(self._least, self.heightForWidth(width))

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self.setFixedHeight(self.heightForWidth(self.width()))

    def box(self, number: int) -> QRectF:
        """Return where a picture is drawn."""
        side, high, row = self._cell(self.width())
        columns = self._columns(self.width())
        return QRectF((number % columns) * (side + _GAP), (number // columns) * row, side, high)

    def _at(self, x: float, y: float) -> int:
        for number in range(len(self._pictures)):
            box = self.box(number)
            if box.left() <= x <= box.right() and box.top() <= y <= box.bottom() + self.fontMetrics().height():
                return number
        return -1

    # ------------------------------------------------------------------ painting

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        line = self.fontMetrics().height()
        for number, (picture, image) in enumerate(zip(self._pictures, self._images, strict=True)):
            box = self.box(number)
            painter.drawImage(box, image)
            current = picture.key == self._current
            if current:
                painter.setPen(QPen(_PICKED, 3))
                painter.drawRect(box.adjusted(1.5, 1.5, -1.5, -1.5))
            painter.setPen(text)
            font = painter.font()
            font.setBold(current)
            painter.setFont(font)
            title = painter.fontMetrics().elidedText(picture.title, Qt.TextElideMode.ElideRight, int(box.width()))
            painter.drawText(QRectF(box.left(), box.bottom(), box.width(), line), Qt.AlignmentFlag.AlignCenter, title)
        if self.hasFocus():
            painter.setPen(_PICKED)
            painter.drawRect(QRectF(0.5, 0.5, self.width() - 1, self.height() - 1))

    # ------------------------------------------------------------------ mouse and keys

    def mousePressEvent(self, event: Any) -> None:
        number = self._at(*_xy(event))
        if event.button() == Qt.MouseButton.LeftButton and number >= 0:
            self.picked.emit(self._pictures[number].key)

    def mouseMoveEvent(self, event: Any) -> None:
        number = self._at(*_xy(event))
        there = event.globalPosition().toPoint() if hasattr(event, "globalPosition") else event.globalPos()
        QToolTip.showText(there, self._pictures[number].tooltip if number >= 0 else "", self)

    def keyPressEvent(self, event: Any) -> None:
        keys = [picture.key for picture in self._pictures]
        step = {
            Qt.Key.Key_Left: -1,
            Qt.Key.Key_Right: 1,
            Qt.Key.Key_Up: -self._columns(self.width()),
            Qt.Key.Key_Down: self._columns(self.width()),
        }.get(event.key())
        if step is None or not keys:
            super().keyPressEvent(event)
            return
        here = keys.index(self._current) if self._current in keys else -step if step > 0 else 0
        if 0 <= here + step < len(keys):
            self.picked.emit(keys[here + step])


def _image(picture: Picture) -> QImage:
    rows, columns = picture.pixels.shape[:2]
    return QImage(picture.pixels.tobytes(), columns, rows, 3 * columns, QImage.Format.Format_RGB888).copy()


def _xy(event: Any) -> tuple[float, float]:
    """Return where an event is in the widget, in either Qt."""
    pos = event.position() if hasattr(event, "position") else event.pos()
    return float(pos.x()), float(pos.y())
