"""The collapsed options of the Segment dock: how the model is run over the scan."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFormLayout, QPushButton, QWidget

from napari_llm4seg.gui.views.abstract.segment import OptionsState

_MODES = (
    ("whole", "whole slice", "Each slice is resized to the model's size: fast, as the starters were trained"),
    ("tiles", "tiles", "Overlapping patches at the scan's own resolution: slower, for large scans and fine detail"),
)
_PLANES = (
    ("stored", "as stored", "The scan's own slices, as they were taken"),
    ("axial", "axial", "Slices from head to foot; of an oblique scan, those nearest to it"),
    ("coronal", "coronal", "Slices from front to back; of an oblique scan, those nearest to it"),
    ("sagittal", "sagittal", "Slices from side to side; of an oblique scan, those nearest to it"),
)


class OptionsBox(QWidget):
    """Emits ``changed(name, value)`` for a field of ``PredictConfig`` or "probability", and ``reset()``."""

    changed = Signal(str, object)
    reset = Signal()

    def __init__(self) -> None:
        super().__init__()
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self.probability = QCheckBox("Probability layer")
        self.probability.setToolTip("Add one image layer per class with the model's probabilities, 0 to 1")
        self.flips = QCheckBox("Mirrored averaging")
        self.flips.setToolTip("Average with the left-right mirrored slice: a little steadier, twice the time")
        self.mode = _choice("Run on", _MODES)
        self.axis = _choice("Slices along", _PLANES)
        self.overlap = _spin("Tile overlap", 0, 90, 5, 0, "Overlap of neighbouring tiles, percent of a tile")
        self.threshold = _spin("Threshold", 0.01, 0.99, 0.05, 2, "Probability from which a pixel belongs to the class")
        self.min_area = _spin(
            "Smallest island", 0, 50, 0.05, 2, "Drop islands below this percentage of the slice or volume"
        )
        self.overlap.setSuffix(" %")
        self.min_area.setSuffix(" %")
        self.reset_button = QPushButton("As the model suggests")
        self.reset_button.setToolTip("Forget the changes made here")
        form.addRow(self.probability)
        form.addRow(self.flips)
        form.addRow("Slices along", self.axis)
        form.addRow("Run on", self.mode)
        form.addRow("Tile overlap", self.overlap)
        form.addRow("Threshold", self.threshold)
        form.addRow("Smallest island", self.min_area)
        form.addRow(self.reset_button)
        self.probability.toggled.connect(lambda on: self.changed.emit("probability", bool(on)))
        self.flips.toggled.connect(lambda on: self.changed.emit("flips", bool(on)))
        self.mode.activated.connect(lambda index: self.changed.emit("mode", _MODES[index][0]))
        self.axis.activated.connect(lambda index: self.changed.emit("axis", _PLANES[index][0]))
        self.overlap.valueChanged.connect(lambda value: self.changed.emit("overlap", value / 100))
        self.threshold.valueChanged.connect(lambda value: self.changed.emit("threshold", value))
        self.min_area.valueChanged.connect(lambda value: self.changed.emit("min_area", value / 100))
        self.reset_button.clicked.connect(self.reset.emit)

    def show_options(self, state: OptionsState, enabled: bool) -> None:
        """Draw ``state`` without emitting anything."""
        for box, on in ((self.probability, state.probability), (self.flips, state.flips)):
            with QSignalBlocker(box):
                box.setChecked(on)
        for combo, entries, key, reason in (
            (self.mode, _MODES, state.mode, state.mode_reason),
            (self.axis, _PLANES, state.axis, state.axis_reason),
        ):
            index = combo.findData(key)
            combo.setCurrentIndex(index)
            combo.setEnabled(not reason)
            combo.setToolTip(reason or entries[index][2])
        values = (
            (self.overlap, state.overlap * 100, state.overlap_reason),
            (self.threshold, state.threshold, state.threshold_reason),
            (self.min_area, state.min_area * 100, ""),
        )
        for spin, value, reason in values:
            with QSignalBlocker(spin):
                if abs(spin.value() - value) > 1e-9:
                    spin.setValue(value)
            spin.setEnabled(not reason)
            spin.setToolTip(reason or spin.statusTip())
        self.reset_button.setEnabled(state.changed)
        self.setEnabled(enabled)


def _choice(name: str, entries: tuple[tuple[str, str, str], ...]) -> QComboBox:
    combo = QComboBox()
    combo.setAccessibleName(name)
    for index, (key, label, tooltip) in enumerate(entries):
        combo.addItem(label, key)
        combo.setItemData(index, tooltip, 3)  # Qt.ToolTipRole
    return combo


def _spin(name: str, low: float, high: float, step: float, decimals: int, tooltip: str) -> QDoubleSpinBox:
    spin = QDoubleSpinBox()
    spin.setAccessibleName(name)
    spin.setDecimals(decimals)
    spin.setRange(low, high)
    spin.setSingleStep(step)
    spin.setStatusTip(tooltip)
    spin.setToolTip(tooltip)
    # One change per number typed, not one per key.
    spin.setKeyboardTracking(False)
    return spin
