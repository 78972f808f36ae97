"""The attention tab: head, way, layer, and every head as a picture to pick."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QGridLayout, QHBoxLayout, QLabel, QRadioButton, QVBoxLayout, QWidget

from napari_llm4seg.gui.views.abstract.inspect import AttentionState
from napari_llm4seg.gui.views.picture_grid import PictureGrid
from napari_llm4seg.gui.views.reading import ReadingLine
from napari_llm4seg.gui.views.widgets import ChoiceBox, show_words, wrapped

_WAYS = (
    ("from", "from here", "What the clicked token looks at: where it takes information from"),
    ("to", "to here", "What looks at the clicked token: where its information goes"),
)


class AttentionTab(QWidget):
    """Emits ``chosen(what, value)``; it starts nothing."""

    chosen = Signal(str, object)
    started = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(4, 6, 4, 4)
        rows.setSpacing(4)
        rows.addWidget(ReadingLine("attention"))
        self.problem = wrapped()
        rows.addWidget(self.problem)
        self.controls = QWidget()
        grid = QGridLayout(self.controls)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(6)
        grid.setColumnStretch(1, 1)
        self.head_box, self.layer_box = ChoiceBox("Head"), ChoiceBox("Layer")
        self.way_buttons: dict[str, QRadioButton] = {}
        self._group = QButtonGroup(self)
        ways = QHBoxLayout()
        for key, text, tooltip in _WAYS:
            radio = QRadioButton(text)
            radio.setToolTip(tooltip)
            self._group.addButton(radio)
            self.way_buttons[key] = radio
            ways.addWidget(radio)
            radio.clicked.connect(lambda *_, key=key: self.chosen.emit("way", key))
        ways.addStretch()
        self.layer_title = QLabel("Layer")
        for at, (title, widget) in enumerate(((QLabel("Head"), self.head_box), (self.layer_title, self.layer_box))):
            title.setBuddy(widget)
            grid.addWidget(title, 2 * at, 0)
            grid.addWidget(widget, 2 * at, 1)
        grid.addWidget(QLabel("Way"), 1, 0)
        grid.addLayout(ways, 1, 1)
        rows.addWidget(self.controls)
        self.title = wrapped()
        rows.addWidget(self.title)
        self.notes = wrapped()
        rows.addWidget(self.notes)
        self.heads_line = ReadingLine("heads")
        rows.addWidget(self.heads_line)
        self.heads = PictureGrid("Every head's attention")
        rows.addWidget(self.heads)
        rows.addStretch()
        self._shown: AttentionState | None = None
        self.head_box.chosen.connect(lambda key: self.chosen.emit("head", key))
        self.layer_box.chosen.connect(lambda key: self.chosen.emit("layer", key))
        self.heads.picked.connect(self._picked)

    def _picked(self, key: str) -> None:
        """Take the picked head; picked again, the mean of all comes back."""
        self.chosen.emit("head", "mean" if self._shown is not None and self._shown.head == key else key)

    def show_state(self, state: Any) -> None:
        if state == self._shown:
            return
        self._shown = state
        show_words(self.problem, state.problem)
        self.controls.setVisible(bool(state.heads))
        self.head_box.show_choices(state.heads, state.head, "no head")
        self.layer_title.setVisible(bool(state.layers))
        self.layer_box.setVisible(bool(state.layers))
        self.layer_box.show_choices(state.layers, state.layer, "")
        self.way_buttons[state.way].setChecked(True)
        show_words(self.title, state.title)
        show_words(self.notes, "\n".join(state.notes))
        self.heads_line.setVisible(bool(state.thumbnails))
        self.heads.show_pictures(state.thumbnails, state.head)
