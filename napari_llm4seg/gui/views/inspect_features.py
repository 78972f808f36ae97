"""The features tab: what to show of the tokens, and the points side by side."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QGridLayout,
    QLabel,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_llm4seg.gui.views.abstract.inspect import FeaturesState
from napari_llm4seg.gui.views.picture_grid import PictureGrid
from napari_llm4seg.gui.views.reading import ReadingLine
from napari_llm4seg.gui.views.widgets import ChoiceBox, Section, button, show_words, wrapped


class FeaturesTab(QWidget):
    """Emits ``chosen(what, value)``, and ``started("words_folder", path)``."""

    chosen = Signal(str, object)
    started = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(4, 6, 4, 4)
        rows.setSpacing(4)
        self.reading = ReadingLine("features")
        rows.addWidget(self.reading)
        grid = QGridLayout()
        grid.setHorizontalSpacing(6)
        grid.setColumnStretch(1, 1)
        self.kind_box, self.number_box, self.number_title = ChoiceBox("Show"), QSpinBox(), QLabel()
        self.number_title.setBuddy(self.number_box)
        self.number_box.setKeyboardTracking(False)
        title = QLabel("Show")
        title.setBuddy(self.kind_box)
        grid.addWidget(title, 0, 0)
        grid.addWidget(self.kind_box, 0, 1)
        grid.addWidget(self.number_title, 1, 0)
        grid.addWidget(self.number_box, 1, 1)
        rows.addLayout(grid)
        self.pictures = PictureGrid("Points before and after", columns=2)
        rows.addWidget(self.pictures)
        self.notes = wrapped()
        rows.addWidget(self.notes)
        self._build_words(rows)
        rows.addStretch()
        self._shown: FeaturesState | None = None
        self.kind_box.chosen.connect(lambda key: self.chosen.emit("kind", key))
        self.number_box.valueChanged.connect(lambda value: self.chosen.emit("number", value))
        self.pictures.picked.connect(lambda key: self.chosen.emit("picked", key))

    def _build_words(self, rows: QVBoxLayout) -> None:
        self.words = Section("Words")
        body = QVBoxLayout(self.words.body)
        body.setContentsMargins(14, 0, 0, 0)
        body.addWidget(ReadingLine("words"))
        self.words_box = QCheckBox("name the clicked token's nearest words")
        self.words_box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.words_button = button(
            "Language model's folder…", "config.json, tokenizer.json and safetensors; local only"
        )
        self.warning, self.words_problem, self.words_list = wrapped(), wrapped(), wrapped()
        for widget in (self.words_box, self.warning, self.words_list, self.words_problem, self.words_button):
            body.addWidget(widget)
        rows.addWidget(self.words)
        self.words_box.clicked.connect(lambda on: self.chosen.emit("words", bool(on)))
        self.words_button.clicked.connect(self._ask_folder)

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose the language model's folder")
        if folder:
            self.started.emit("words_folder", folder)

    def show_state(self, state: Any) -> None:
        if state == self._shown:
            return
        self._shown = state
        self.reading.show_view(state.view)
        self.kind_box.show_choices(state.kinds, state.kind, "nothing recorded")
        self.number_title.setText(state.number_name)
        self.number_title.setVisible(bool(state.number_name))
        self.number_box.setVisible(bool(state.number_name))
        self.number_box.setAccessibleName(state.number_name)
        self.number_box.blockSignals(True)
        self.number_box.setRange(state.least, max(state.least, state.most))
        self.number_box.setValue(state.number)
        self.number_box.blockSignals(False)
        self.pictures.show_pictures(state.pictures, state.picked)
        show_words(self.notes, "\n".join(state.notes))
        words = state.words
        self.words_box.setChecked(words.on)
        self.words_button.setVisible(words.on)
        show_words(self.warning, words.warning)
        show_words(self.words_list, "\n".join(words.lines))
        show_words(self.words_problem, words.problem)
