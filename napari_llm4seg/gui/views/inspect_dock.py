"""The Inspect dock, drawn with Qt. It knows nothing of napari, models or threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QFileDialog, QFrame, QHBoxLayout, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_llm4seg.gui.views.abstract.inspect import InspectActions, InspectState
from napari_llm4seg.gui.views.inspect_attention import AttentionTab
from napari_llm4seg.gui.views.inspect_features import FeaturesTab
from napari_llm4seg.gui.views.inspect_spectrum import SpectrumTab
from napari_llm4seg.gui.views.inspect_what_if import WhatIfTab
from napari_llm4seg.gui.views.widgets import Bar, Line, MessageLine, button, dock_around, show_button, wrapped

_WIDTH = 320
_FOCUS = "QPushButton:focus, QComboBox:focus, QToolButton:focus, QCheckBox:focus, QRadioButton:focus" + (
    " { border: 1px solid #56B4E9; outline: none; }"
)


class InspectWidget(QWidget):
    """``InspectView``: what was recorded and proven, views in tabs, the hovered value at the foot."""

    def __init__(self) -> None:
        super().__init__()
        self._actions: InspectActions | None = None
        self._dock: QDockWidget | None = None
        self.setAccessibleName("Inspect")
        self.setStyleSheet(_FOCUS)
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(6, 6, 6, 6)
        self._rows.setSpacing(4)
        self.about_line, self.proof_line, self.hint = Line(), Line(), wrapped()
        self._rows.addWidget(self.hint)
        self._rows.addWidget(self.about_line)
        self._rows.addWidget(self.proof_line)
        self._build_tabs()
        self.hover_line = Line()
        self._keep_height(self.hover_line)
        self._rows.addWidget(self.hover_line)
        self.bar, self.cancel_button = Bar("Progress"), button("Cancel", "")
        self.cancel_button.setSizePolicy(self.bar.sizePolicy())
        row = QHBoxLayout()
        row.addWidget(self.bar, 3)
        row.addWidget(self.cancel_button, 1)
        self._rows.addLayout(row)
        self.message = MessageLine(lambda: self._do("dismiss_message"))
        self._rows.addWidget(self.message)
        self.export_button = button("Export…", "")
        self._rows.addWidget(self.export_button)
        self.cancel_button.clicked.connect(lambda: self._do("cancel"))
        self.export_button.clicked.connect(self._ask_folder)

    def _build_tabs(self) -> None:
        self.attention, self.features = AttentionTab(), FeaturesTab()
        self.spectrum, self.what_if = SpectrumTab(), WhatIfTab()
        self.tabs = QTabWidget()
        self.tabs.setAccessibleName("Views")
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setExpanding(True)
        self._keys: list[str] = []
        for key, title, tab in self._tab_list():
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setFrameShape(QFrame.Shape.NoFrame)
            area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            area.setWidget(tab)
            self.tabs.addTab(area, title)
            self._keys.append(key)
            tab.chosen.connect(lambda what, value: self._do("choose", what, value))
            tab.started.connect(lambda what, value: self._do("act", what, value))
        self.tabs.currentChanged.connect(lambda index: self._do("show_tab", self._keys[index]))
        self._rows.addWidget(self.tabs, 1)

    def _tab_list(self) -> list[tuple[str, str, Any]]:
        return [
            ("attention", "Attention", self.attention),
            ("features", "Features", self.features),
            ("spectrum", "Spectrum", self.spectrum),
            ("what_if", "What if", self.what_if),
        ]

    def _keep_height(self, line: Line) -> None:
        """Keep the place of a line that comes and goes with the mouse."""
        policy = line.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        line.setSizePolicy(policy)

    def sizeHint(self) -> QSize:
        return QSize(_WIDTH, 640)

    def attach(self, actions: InspectActions) -> None:
        self._actions = actions

    # ------------------------------------------------------------------ drawing

    def show_state(self, state: InspectState) -> None:
        self.hint.setText(state.hint)
        self.hint.setVisible(bool(state.hint))
        self.about_line.show_text(state.about)
        self.proof_line.show_text(state.proof.text, state.proof.tooltip)
        index = self._keys.index(state.tab)
        if index != self.tabs.currentIndex():
            self.tabs.blockSignals(True)
            self.tabs.setCurrentIndex(index)
            self.tabs.blockSignals(False)
        self.bar.show_progress(state.progress)
        show_button(self.cancel_button, state.cancel)
        show_button(self.export_button, state.export)
        self.message.show_message(state.message)
        self.attention.show_state(state.attention)
        self.features.show_state(state.features)
        self.spectrum.show_state(state.spectrum)
        self.what_if.show_state(state.what_if)

    def show_hover(self, text: str) -> None:
        self.hover_line.show_text(text)

    def in_view(self) -> bool:
        # a window that was never shown, as in tests, has nothing in view and hides nothing
        if not self.window().isVisible():
            return True
        # Qt lays a dock behind another tab beside the window, visible as it says
        return self.isVisible() and not self.visibleRegion().isEmpty()

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        dock = dock_around(self)
        if dock is not None and dock is not self._dock:
            self._dock = dock
            dock.visibilityChanged.connect(self._tell_shown)
        self._tell_shown()

    def hideEvent(self, event: Any) -> None:
        super().hideEvent(event)
        self._tell_shown()

    def _tell_shown(self, _: bool = True) -> None:
        later = QTimer(self)
        later.setSingleShot(True)
        later.timeout.connect(lambda: self._do("shown_changed"))
        later.timeout.connect(later.deleteLater)
        later.start(0)

    def _ask_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a folder for maps, tables and figures")
        if folder:
            self._do("export_to", Path(folder))

    def _do(self, name: str, *values: Any) -> None:
        if self._actions is not None:
            getattr(self._actions, name)(*values)
