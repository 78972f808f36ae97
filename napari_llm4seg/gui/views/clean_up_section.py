"""The Clean up section of the Segment dock, drawn with Qt."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QButtonGroup,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_llm4seg.gui.views.abstract.clean_up import CleanUpActions, CleanUpState
from napari_llm4seg.gui.views.abstract.common import Message
from napari_llm4seg.gui.views.widgets import Bar, ChoiceBox, MessageLine, Section, button, reveal, show_button


class CleanUpSection(Section):
    """``CleanUpView``."""

    def __init__(self) -> None:
        super().__init__("Clean up")
        self._actions: CleanUpActions | None = None
        self._started: QPushButton | None = None
        self._said: Message | None = None
        self.class_box = ChoiceBox("Class to clean up")
        self.slice_radio, self.volume_radio = QRadioButton("this slice"), QRadioButton("whole volume")
        self._where = QButtonGroup(self)
        self.largest_button = button("Keep largest", "")
        self.holes_button = button("Fill holes", "")
        self.islands_button = button("Remove islands <", "")
        self.smooth_button = button("Smooth by", "")
        self.between_button = button("Fill between slices", "")
        self.cancel_button = button("Cancel", "")
        self.smallest = _spin("Smallest island that stays", 0.0)
        self.radius = _spin("Radius of the smoothing", 1e-6)
        self.bar = Bar("Progress of cleaning up")
        self.message = MessageLine(lambda: self._do("dismiss_message"))
        self._lay_out()
        self.class_box.chosen.connect(lambda key: self._do("choose_class", key))
        self.slice_radio.clicked.connect(lambda: self._do("choose_where", "slice"))
        self.volume_radio.clicked.connect(lambda: self._do("choose_where", "volume"))
        self.smallest.valueChanged.connect(lambda value: self._do("set_smallest", value))
        self.radius.valueChanged.connect(lambda value: self._do("set_radius", value))
        for pressed, name in (
            (self.largest_button, "keep_largest"),
            (self.holes_button, "fill_holes"),
            (self.islands_button, "remove_islands"),
            (self.smooth_button, "smooth"),
            (self.between_button, "fill_between"),
            (self.cancel_button, "cancel"),
        ):
            pressed.clicked.connect(lambda *_, name=name: self._do(name))

    def _lay_out(self) -> None:
        rows = QVBoxLayout(self.body)
        rows.setContentsMargins(14, 0, 0, 0)
        rows.setSpacing(4)
        grid = QGridLayout()
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)
        label = QLabel("Class")
        label.setBuddy(self.class_box)
        of_class = QHBoxLayout()
        of_class.addWidget(label)
        of_class.addWidget(self.class_box, 1)
        self.where_row = QWidget()
        where = QHBoxLayout(self.where_row)
        where.setContentsMargins(0, 0, 0, 0)
        for radio in (self.slice_radio, self.volume_radio):
            self._where.addButton(radio)
            where.addWidget(radio)
        where.addStretch(1)
        grid.addWidget(self.largest_button, 0, 0)
        grid.addWidget(self.holes_button, 0, 1)
        grid.addWidget(self.islands_button, 1, 0)
        grid.addWidget(self.smallest, 1, 1)
        grid.addWidget(self.smooth_button, 2, 0)
        grid.addWidget(self.radius, 2, 1)
        grid.addWidget(self.between_button, 3, 0, 1, 2)
        rows.addLayout(of_class)
        rows.addWidget(self.where_row)
        rows.addLayout(grid)
        for widget in (self.bar, self.cancel_button, self.message):
            rows.addWidget(widget)

    def attach(self, actions: CleanUpActions) -> None:
        self._actions = actions

    def show_state(self, state: CleanUpState) -> None:
        self.setVisible(state.shown)
        self.class_box.show_choices(state.classes, state.chosen, "no class")
        self.where_row.setVisible(not state.flat)
        (self.slice_radio if state.where == "slice" else self.volume_radio).setChecked(True)
        for spin, value, unit, decimals in (
            (self.smallest, state.smallest, state.smallest_unit, state.smallest_decimals),
            (self.radius, state.radius, state.radius_unit, state.radius_decimals),
        ):
            with QSignalBlocker(spin):
                spin.setDecimals(decimals)
                spin.setValue(value)
                spin.setSuffix(f" {unit}")
        steps = (
            (self.largest_button, state.keep_largest),
            (self.holes_button, state.fill_holes),
            (self.islands_button, state.remove_islands),
            (self.smooth_button, state.smooth),
            (self.between_button, state.fill_between),
            (self.cancel_button, state.cancel),
        )
        if state.busy and self._started is None:
            self._started = next((step for step, _ in steps if step.hasFocus()), None)
        for step, shown in steps:
            show_button(step, shown)
        if not state.busy and self._started is not None:
            # a button that cannot be pressed loses the keyboard; it gets it back with the next step in mind
            self._started.setFocus()
            self._started = None
        self.between_button.setVisible(not state.flat)
        self.cancel_button.setVisible(state.busy)
        self.class_box.setEnabled(bool(state.classes) and not state.busy)
        self.bar.show_progress(state.progress)
        self.message.show_message(state.message)
        if state.message is not None and state.message != self._said:
            reveal(self.message)
        self._said = state.message

    def _do(self, name: str, *values: Any) -> None:
        if self._actions is not None:
            getattr(self._actions, name)(*values)


def _spin(name: str, low: float) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setAccessibleName(name)
    spin.setToolTip(name)
    spin.setDecimals(6)  # before the range, which is rounded to them
    spin.setRange(low, 1e7)
    # a cell and a liver are cleaned up alike: steps are a tenth of the number
    spin.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
    spin.setKeyboardTracking(False)
    spin.setMinimumWidth(60)
    return spin
