"""The training part of the dock: what trains, the button, the curve, before and after, the versions."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_llm4seg.gui.views.abstract.retrain import RetrainActions, RetrainState, VerdictState
from napari_llm4seg.gui.views.curve import CurvePlot
from napari_llm4seg.gui.views.new_model_options import NewModelOptions
from napari_llm4seg.gui.views.tidy_line import TidyLine
from napari_llm4seg.gui.views.version_list import VersionList
from napari_llm4seg.gui.views.widgets import Bar, Line, MessageLine, button, show_button, show_words, wrapped

_PARTS = (
    ("adapters+decoder", "adapters + decoder", "The encoder stays as it is: fast, and it forgets little"),
    ("adapters", "adapters", "Only what leads into the language-model layer and out of it: fastest, learns least"),
    ("all", "all", "The encoder learns too: slower, for images unlike those the model was trained on"),
)


class RetrainSection(QWidget):
    """``RetrainView``."""

    def __init__(self) -> None:
        super().__init__()
        self._actions: RetrainActions | None = None
        self._state = RetrainState()
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 6, 0, 0)
        self._rows.setSpacing(6)
        self._build_parts()
        self._build_run()
        self._build_verdict()
        self.message = MessageLine(lambda: self._do("dismiss_message"))
        self._rows.addWidget(self.message)
        self.tidy = TidyLine()
        self._rows.addWidget(self.tidy)
        self.versions = VersionList(self._do)
        self._rows.addWidget(self.versions)

    def attach(self, actions: RetrainActions) -> None:
        self._actions = actions

    def _build_parts(self) -> None:
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setColumnStretch(3, 1)
        grid.addWidget(QLabel("Train"), 0, 0)
        self.parts: dict[str, QRadioButton] = {}
        self._group = QButtonGroup(self)
        for at, (key, text, tooltip) in enumerate(_PARTS):
            radio = QRadioButton(text)
            radio.setToolTip(tooltip)
            radio.setAccessibleDescription(tooltip)
            radio.clicked.connect(lambda *_, key=key: self._do("choose_parts", key))
            self.parts[key] = radio
            self._group.addButton(radio)
            if at == 0:
                grid.addWidget(radio, 0, 1, 1, 2)
            else:
                grid.addWidget(radio, 1, at)
        self._rows.addLayout(grid)

    def _build_run(self) -> None:
        self.train_button, self.new_button = button("Retrain", ""), button("New model…", "")
        self.train_button.setStyleSheet("QPushButton { padding: 9px; font-weight: bold; }")
        self.stop_button, self.cancel_button = button("Stop now, keep best", ""), button("Cancel", "")
        self.new_options = NewModelOptions(self._do)
        self.bar = Bar("Progress of the training", keep_place=False)
        self.curve = CurvePlot()
        self.trains = Line()
        self._rows.addWidget(self.trains)
        self._rows.addWidget(self.train_button)
        self._rows.addWidget(self.new_button)
        self._rows.addWidget(self.new_options)
        self._rows.addWidget(self.curve)
        self._rows.addWidget(self.bar)
        row = QHBoxLayout()
        row.addWidget(self.stop_button, 2)
        row.addWidget(self.cancel_button, 1)
        self._rows.addLayout(row)
        self.train_button.clicked.connect(lambda: self._do("retrain"))
        self.new_button.clicked.connect(self._ask_new)
        self.stop_button.clicked.connect(lambda: self._do("stop"))
        self.cancel_button.clicked.connect(lambda: self._do("cancel"))

    def _build_verdict(self) -> None:
        self.verdict = QWidget()
        rows = QVBoxLayout(self.verdict)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(2)
        # how many slices, Dice, HD95, what else is to be known of them, and those held back beside a cross-check
        self.figures = tuple(Line() for _ in range(6))
        for line in self.figures:
            rows.addWidget(line)
        self.trust = wrapped()
        self.changes = Line()
        rows.addWidget(self.trust)
        rows.addWidget(self.changes)
        self.check_button = button("Check on all slices", "")
        rows.addWidget(self.check_button)
        self.check_button.clicked.connect(lambda: self._do("cross_check"))
        self.keep_button, self.back_button = button("Keep", ""), button("Roll back", "")
        row = QHBoxLayout()
        row.addWidget(self.keep_button)
        row.addWidget(self.back_button)
        rows.addLayout(row)
        self._rows.addWidget(self.verdict)
        self.keep_button.clicked.connect(lambda: self._do("keep"))
        self.back_button.clicked.connect(lambda: self._do("roll_back"))

    # ------------------------------------------------------------------ drawing

    def show_state(self, state: RetrainState) -> None:
        self._state = state
        for key, radio in self.parts.items():
            radio.setChecked(key == state.parts)
            radio.setEnabled(state.parts_enabled)
        self.trains.show_text(state.trains)
        show_button(self.train_button, state.train)
        show_button(self.new_button, state.new)
        self.new_options.show_options(state.made)
        show_button(self.stop_button, state.stop)
        show_button(self.cancel_button, state.cancel)
        self.bar.show_progress(state.progress)
        self.curve.show_curve(state.curve)
        self.verdict.setVisible(state.verdict is not None)
        if state.verdict is not None:
            self._show_verdict(state.verdict)
        self.message.show_message(state.message)
        self.versions.show_versions(state.versions, state.compared, not state.busy)

    def _show_verdict(self, verdict: VerdictState) -> None:
        for at, line in enumerate(self.figures):
            line.show_text(verdict.lines[at] if at < len(verdict.lines) else "")
        show_words(self.trust, f"⚠ {verdict.words}" if verdict.worse else verdict.words)
        self.changes.show_text(verdict.changes)
        show_button(self.check_button, verdict.check)
        show_button(self.keep_button, verdict.keep)
        show_button(self.back_button, verdict.roll_back)

    # ------------------------------------------------------------------ asking

    def _do(self, name: str, *values: Any) -> None:
        if self._actions is not None:
            getattr(self._actions, name)(*values)

    def _ask_new(self) -> None:
        made = f"\nMade of: {self._state.made.summary}" if self._state.made.summary else ""
        text = f"A model for {self._state.new_classes}, from what was corrected here alone.{made}\nIts name:"
        name, agreed = QInputDialog.getText(self, "New model", text, text=self._state.new_name)
        if agreed:
            self._do("new_model", name)
