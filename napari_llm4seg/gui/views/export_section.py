"""The Export section: a format, a button, and where the file went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout

from napari_llm4seg.gui.views.abstract.export import ExportActions, ExportState
from napari_llm4seg.gui.views.widgets import Bar, ChoiceBox, MessageLine, Section, button, show_button


class ExportSection(Section):
    """``ExportView`` in a section that is closed at first."""

    def __init__(self) -> None:
        super().__init__("Export")
        self._actions: ExportActions | None = None
        self._suggested = ""
        self._folder = ""
        rows = QVBoxLayout(self.body)
        rows.setContentsMargins(14, 0, 0, 0)
        rows.setSpacing(4)
        self.format_box = ChoiceBox("Format")
        self.save_button = button("Save…", "")
        row = QHBoxLayout()
        row.addWidget(self.format_box, 2)
        row.addWidget(self.save_button, 1)
        rows.addLayout(row)
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.line.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        rows.addWidget(self.line)
        self.bar = Bar("Progress of the export", keep_place=False)
        rows.addWidget(self.bar)
        self.message = MessageLine(lambda: self._do("dismiss_message"))
        rows.addWidget(self.message)
        self.format_box.chosen.connect(lambda key: self._do("choose_format", key))
        self.save_button.clicked.connect(self._ask)

    def attach(self, actions: ExportActions) -> None:
        self._actions = actions

    def show_state(self, state: ExportState) -> None:
        self.setVisible(bool(state.formats))
        self.format_box.show_choices(state.formats, state.format, "no mask")
        self.line.setText(state.line)
        self._suggested = state.suggested
        show_button(self.save_button, state.save)
        self.bar.show_progress(state.progress)
        self.message.show_message(state.message)

    def _ask(self) -> None:
        start = str(Path(self._folder) / self._suggested) if self._folder else self._suggested
        path, _ = QFileDialog.getSaveFileName(self, "Export the mask", start)
        if path:
            self._folder = str(Path(path).parent)
            self._do("save", Path(path))

    def _do(self, name: str, *values: Any) -> None:
        if self._actions is not None:
            getattr(self._actions, name)(*values)
