"""How to read a view: one line above it, and the page that says more."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtGui import QPalette, QTextCursor
from qtpy.QtWidgets import QDialog, QLabel, QSizePolicy, QTextBrowser, QVBoxLayout, QWidget

from napari_llm4seg.activations.reading import VIEWS, page


class ReadingLine(QLabel):
    """A view's line, ending in a link that opens the page at the view's section.

    Parameters
    ----------
    view : str
        A key of ``napari_llm4seg.activations.reading.VIEWS``.
    """

    def __init__(self, view: str) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.setMinimumWidth(1)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.view = ""
        self.show_view(view)
        self.linkActivated.connect(lambda anchor: open_page(self, self.view))

    def show_view(self, view: str) -> None:
        """Speak of another view."""
        if view != self.view:
            self.view = view
            self._write()

    def changeEvent(self, event: Any) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._write()

    def _write(self) -> None:
        """Write the line, its link in a blue that stands out against the theme."""
        dark = self.palette().color(QPalette.ColorRole.WindowText).lightness() > 127
        said, colour = VIEWS[self.view].line, "#56B4E9" if dark else "#0072B2"
        anchor = VIEWS[self.view].anchor
        text = f'{said} <a href="{anchor}" style="color: {colour}">How&nbsp;to&nbsp;read&nbsp;it</a>'
        if text != self.text():
            self.setText(text)
        self.setAccessibleName(said)


class Page(QDialog):
    """The page on reading maps, open at one of its sections."""

    def __init__(self, parent: QWidget, view: str) -> None:
        super().__init__(parent)
        self.setWindowTitle("How to read these maps")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.text = QTextBrowser()
        self.text.setOpenExternalLinks(True)
        self.text.setMarkdown(page().read_text(encoding="utf-8"))
        rows = QVBoxLayout(self)
        rows.addWidget(self.text)
        self._view = view

    def sizeHint(self) -> QSize:
        return QSize(560, 600)

    def show_section(self, view: str) -> None:
        """Scroll so that the view's heading stands on top."""
        heading = VIEWS[view].section
        block = self.text.document().begin()
        while block.isValid():
            if block.text().strip() == heading and block.blockFormat().headingLevel() > 0:
                break
            block = block.next()
        if block.isValid():
            self.text.setTextCursor(QTextCursor(block))
            bar = self.text.verticalScrollBar()
            bar.setValue(bar.value() + self.text.cursorRect().top() - 4)

    def showEvent(self, event: Any) -> None:
        """Scroll only now: before, the lines are not laid out at the width that they have."""
        super().showEvent(event)
        self.show_section(self._view)


def open_page(parent: QWidget, view: str) -> Page:
    """Open the page beside the window."""
    opened = Page(parent.window(), view)
    opened.show()
    return opened
