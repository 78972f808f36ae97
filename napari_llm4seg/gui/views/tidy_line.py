"""The line on the pieces of a new result, drawn with Qt."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QToolButton, QWidget

from napari_llm4seg.gui.views.abstract.tidy import TidyActions, TidyState
from napari_llm4seg.gui.views.widgets import button, reveal, show_button, wrapped


class TidyLine(QWidget):
    """``TidyView``: words, what they offer, and a way to be rid of them."""

    def __init__(self) -> None:
        super().__init__()
        self._actions: TidyActions | None = None
        self.text = wrapped()
        self.keep_button = button("Keep largest piece", "")
        self.close_button = QToolButton()
        self.close_button.setText("×")
        self.close_button.setAutoRaise(True)
        self.close_button.setAccessibleName("Dismiss what is said of the pieces")
        self.close_button.setToolTip("Dismiss")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(0, 1)
        grid.addWidget(self.text, 0, 0)
        grid.addWidget(self.close_button, 0, 1, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.keep_button, 1, 0, 1, 2)
        self.keep_button.clicked.connect(lambda: self._actions and self._actions.keep_largest())
        self.close_button.clicked.connect(lambda: self._actions and self._actions.dismiss())
        self.setVisible(False)

    def attach(self, actions: TidyActions) -> None:
        self._actions = actions

    def show_state(self, state: TidyState) -> None:
        text = state.words.replace(" %", "\u00a0%")
        news = bool(text) and text != self.text.text()
        self.text.setText(text)
        show_button(self.keep_button, state.keep)
        self.setVisible(bool(state.words))
        if news:
            reveal(self)
