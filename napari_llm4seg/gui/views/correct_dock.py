"""The Correct & Retrain dock, drawn with Qt. It knows nothing of napari, models or threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_llm4seg.gui.views.abstract.correct import CorrectActions, CorrectState, OfferState, ProjectState
from napari_llm4seg.gui.views.retrain_section import RetrainSection
from napari_llm4seg.gui.views.slice_strip import SliceStrip
from napari_llm4seg.gui.views.widgets import ChoiceBox, Line, MessageLine, button, show_button, show_words, wrapped

_WIDTH = 320
_FOCUS = "QPushButton:focus, QComboBox:focus, QToolButton:focus, QCheckBox:focus, QRadioButton:focus" + (
    " { border: 1px solid #56B4E9; outline: none; }"
)
_ZIP = "Exported projects (*.zip)"


class CorrectWidget(QWidget):
    """``CorrectView``: the mask, its slices, the next one, where corrections are kept; training comes below."""

    def __init__(self) -> None:
        super().__init__()
        self._actions: CorrectActions | None = None
        self.setAccessibleName("Correct & Retrain")
        self.setStyleSheet(_FOCUS)
        body = QWidget()
        self._rows = QVBoxLayout(body)
        self._rows.setContentsMargins(6, 6, 6, 6)
        self._rows.setSpacing(6)
        self._build_slices()
        self._build_offer()
        self._build_project()
        self.message = MessageLine(lambda: self._do("dismiss_message"))
        self._rows.addWidget(self.message)
        self._build_training()
        self._rows.addStretch()
        self.keys_line = wrapped()
        self._rows.addWidget(self.keys_line)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(body)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def sizeHint(self) -> QSize:
        return QSize(_WIDTH, 640)

    def attach(self, actions: CorrectActions) -> None:
        self._actions = actions

    # ------------------------------------------------------------------ building

    def _build_slices(self) -> None:
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(6)
        grid.setColumnStretch(1, 1)
        self.mask_box = ChoiceBox("Mask")
        self.strip = SliceStrip()
        self.counts_line, self.next_line = Line(), Line()
        self.next_title = QLabel("Next")
        for at, (title, widget) in enumerate((("Mask", self.mask_box), ("Slices", self.strip))):
            label = QLabel(title)
            label.setBuddy(widget)
            grid.addWidget(label, at, 0)
            grid.addWidget(widget, at, 1)
        self.strip_title: Any = grid.itemAtPosition(1, 0).widget()
        grid.addWidget(self.counts_line, 2, 1)
        grid.addWidget(self.next_title, 3, 0)
        grid.addWidget(self.next_line, 3, 1)
        self._rows.addLayout(grid)
        self.hint = wrapped()
        self._rows.addWidget(self.hint)
        self.go_button, self.confirm_button = button("Go there", ""), button("Confirm", "")
        row = QHBoxLayout()
        row.addWidget(self.go_button)
        row.addWidget(self.confirm_button)
        self._rows.addLayout(row)
        self.partial_box = QCheckBox("Only what I draw counts (partial)")
        self.partial_box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._rows.addWidget(self.partial_box)
        self.mask_box.chosen.connect(lambda key: self._do("choose_mask", key))
        self.strip.chosen.connect(lambda z: self._do("show_slice", z))
        self.go_button.clicked.connect(lambda: self._do("go_to_next"))
        self.confirm_button.clicked.connect(lambda: self._do("confirm"))
        self.partial_box.clicked.connect(lambda on: self._do("set_partial", bool(on)))

    def _build_offer(self) -> None:
        """What an earlier session left, and what to do with it."""
        self.offer = QWidget()
        rows = QVBoxLayout(self.offer)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(4)
        self.offer_text = wrapped()
        self.restore_button, self.anew_button = button("Restore", ""), button("Start anew", "")
        row = QHBoxLayout()
        row.addWidget(self.restore_button)
        row.addWidget(self.anew_button)
        rows.addWidget(self.offer_text)
        rows.addLayout(row)
        self._rows.addWidget(self.offer)
        self.restore_button.clicked.connect(lambda: self._do("restore"))
        self.anew_button.clicked.connect(lambda: self._do("start_anew"))

    def _build_project(self) -> None:
        self.project_line, self.saved_line = Line(), QLabel()
        self.project_button = QToolButton()
        self.project_button.setText("Project")
        self.project_button.setStyleSheet("QToolButton { padding-right: 14px; }")  # the arrow would lie on the word
        self.project_button.setAccessibleName("Project of corrections")
        self.project_button.setToolTip("Where corrections are kept")
        self.project_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.project_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        menu = QMenu(self.project_button)
        self.shared_action = menu.addAction("Images of a folder together")
        self.own_action = menu.addAction("One for each scan")
        for action in (self.shared_action, self.own_action):
            action.setCheckable(True)
        menu.addSeparator()
        new, opened = menu.addAction("New project…"), menu.addAction("Open project…")
        menu.addSeparator()
        self.export_action, self.import_action = menu.addAction("Export as zip…"), menu.addAction("Import a zip…")
        self.project_button.setMenu(menu)
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.project_button)
        row.addWidget(self.project_line, 1)
        row.addWidget(self.saved_line)
        self._rows.addLayout(row)
        self.trouble = wrapped()
        self._rows.addWidget(self.trouble)
        self.shared_action.triggered.connect(lambda *_: self._do("shared_project"))
        self.own_action.triggered.connect(lambda *_: self._do("own_project"))
        new.triggered.connect(lambda *_: self._ask_folder("new_project", "New project: choose an empty folder"))
        opened.triggered.connect(lambda *_: self._ask_folder("open_project", "Open a project's folder"))
        self.export_action.triggered.connect(lambda *_: self._ask_export())
        self.import_action.triggered.connect(lambda *_: self._ask_import())

    def _build_training(self) -> None:
        """What trains has a controller of its own."""
        self.training = RetrainSection()
        self._rows.addWidget(self.training)

    # ------------------------------------------------------------------ drawing

    def show_state(self, state: CorrectState) -> None:
        self.mask_box.show_choices(state.masks, state.mask, "no mask")
        shown = bool(state.strip.marks)
        several = len(state.strip.marks) > 1
        for widget in (self.strip, self.strip_title):
            widget.setVisible(shown)
        for part in (self.next_line, self.next_title):
            part.setVisible(several)
        self.strip_title.setText(state.strip.title)
        self.strip.show_state(state.strip)
        self.counts_line.show_text(state.counts)
        if several:
            self.next_line.show_text(state.next_words, state.next_tooltip)
        show_words(self.hint, state.hint)
        show_button(self.go_button, state.go)
        show_button(self.confirm_button, state.confirm)
        self.confirm_button.setVisible(state.drawn)
        self.go_button.setVisible(several)
        self.partial_box.setVisible(state.drawn)
        self.partial_box.setChecked(state.partial)
        self.partial_box.setToolTip(state.partial_tooltip)
        self._show_offer(state.offer)
        self._show_project(state.project)
        self.message.show_message(state.message)
        show_words(self.keys_line, " · ".join(f"{key} {what}" for key, what in state.keys))

    def _show_offer(self, offer: OfferState) -> None:
        self.offer.setVisible(bool(offer.text))
        self.offer_text.setText(offer.text)
        show_button(self.restore_button, offer.restore)
        show_button(self.anew_button, offer.anew)

    def _show_project(self, project: ProjectState) -> None:
        self.project_line.show_text(project.line, project.tooltip)
        self.saved_line.setText(project.saved)
        self.project_button.setEnabled(project.enabled)
        self.shared_action.setChecked(project.kind == "shared")
        self.own_action.setChecked(project.kind == "own")
        self.export_action.setEnabled(project.export.enabled)
        self.export_action.setToolTip(project.export.tooltip)
        self.import_action.setEnabled(project.export.enabled)
        show_words(self.trouble, project.trouble)

    # ------------------------------------------------------------------ asking

    def _do(self, name: str, *values: Any) -> None:
        if self._actions is not None:
            getattr(self._actions, name)(*values)

    def _ask_folder(self, name: str, title: str) -> None:
        path = QFileDialog.getExistingDirectory(self, title)
        if path:
            self._do(name, Path(path))

    def _ask_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the project", "corrections.zip", _ZIP)
        if path:
            self._do("export_project", Path(path))

    def _ask_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a project", "", _ZIP)
        if path:
            self._do("import_project", Path(path))
