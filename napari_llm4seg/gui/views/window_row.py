"""The row under the scan that says which of its values are shown from black to white."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_llm4seg.gui.views.abstract.window import WindowActions, WindowState
from napari_llm4seg.gui.views.widgets import ChoiceBox


class WindowRow(QWidget):
    """``WindowView``: one combo box, and two numbers below it while an own window is made."""

    def __init__(self) -> None:
        super().__init__()
        self._actions: WindowActions | None = None
        self.box = ChoiceBox("Window")
        self.box.chosen.connect(self._chosen)
        label = QLabel("Window")
        label.setBuddy(self.box)
        top = QHBoxLayout()
        top.setSpacing(6)
        top.addWidget(label)
        top.addWidget(self.box, 1)
        self.editor = QWidget()
        self.centre = _spin("Centre", "Value shown mid-grey")
        self.width = _spin("Width", "From black to white")
        self.width.setMinimum(1e-3)
        self.use_button = QPushButton("Use")
        self.use_button.setToolTip("Show this window and remember it")
        self.use_button.clicked.connect(self._used)
        row = QHBoxLayout(self.editor)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for part, stretch in ((self.centre, 1), (QLabel("/"), 0), (self.width, 1), (self.use_button, 0)):
            row.addWidget(part, stretch)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(2)
        rows.addLayout(top)
        rows.addWidget(self.editor)
        self.show_state(WindowState())

    def attach(self, actions: WindowActions) -> None:
        self._actions = actions

    def show_state(self, state: WindowState) -> None:
        self.setVisible(bool(state.choices))
        self.box.show_choices(state.choices, state.current, "")
        opened = state.editing and self.editor.isHidden()
        self.editor.setVisible(state.editing)
        for spin, value in ((self.centre, state.centre), (self.width, state.width)):
            spin.setSuffix(f" {state.unit}" if state.unit else "")
            spin.setDecimals(0 if state.unit == "HU" else 3)  # CT numbers are whole
            if (opened or not state.editing) and spin.value() != value:  # what is being typed stays
                with QSignalBlocker(spin):
                    spin.setValue(value)
        if opened:
            self.centre.setFocus()
            self.centre.selectAll()

    def _chosen(self, key: str) -> None:
        if self._actions is not None:
            self._actions.choose_window(key)

    def _used(self) -> None:
        if self._actions is not None:
            self._actions.use_own(self.centre.value(), self.width.value())


def _spin(name: str, tooltip: str) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setAccessibleName(name)
    spin.setToolTip(f"{name}: {tooltip[0].lower()}{tooltip[1:]}")
    spin.setDecimals(3)
    spin.setRange(-1e9, 1e9)
    spin.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
    spin.setMinimumWidth(60)
    return spin
