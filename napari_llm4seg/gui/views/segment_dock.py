"""The Segment dock, drawn with Qt. It knows nothing of napari, models or threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_llm4seg.gui.views.abstract.segment import SegmentActions, SegmentState
from napari_llm4seg.gui.views.batch_section import BatchSection
from napari_llm4seg.gui.views.class_list import ClassList
from napari_llm4seg.gui.views.clean_up_section import CleanUpSection
from napari_llm4seg.gui.views.export_section import ExportSection
from napari_llm4seg.gui.views.mask_row import MaskRow
from napari_llm4seg.gui.views.measure_section import MeasureSection
from napari_llm4seg.gui.views.options import OptionsBox
from napari_llm4seg.gui.views.series_dialog import choose_series
from napari_llm4seg.gui.views.tidy_line import TidyLine
from napari_llm4seg.gui.views.widgets import Bar, ChoiceBox, Line, MessageLine, Section, button, show_button
from napari_llm4seg.gui.views.window_row import WindowRow

# Wide enough for everything at 100 %; napari's own docks are about as wide.
_WIDTH = 320
# napari's style shows no keyboard focus; sky blue of the Okabe-Ito palette stands out in both themes.
_FOCUS = "QPushButton:focus, QComboBox:focus, QToolButton:focus, QAbstractSpinBox:focus, QCheckBox:focus" + (
    " { border: 1px solid #56B4E9; outline: none; }"
)
_SCANS = (
    "Scans (*.nii *.nii.gz *.hdr *.dcm *.dicom *.ima DICOMDIR *.nrrd *.nhdr *.mha *.mhd *.png *.jpg *.jpeg *.bmp "
    "*.tif *.tiff *.npy);;All files (*)"
)
_MODELS = "Checkpoints (*.safetensors *.json);;All files (*)"


class SegmentWidget(QWidget):
    """``SegmentView``: numbered steps from the scan to the button.

    Parameters
    ----------
    samples : tuple of (key, label)
        What "Open a sample" offers.
    """

    def __init__(self, samples: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__()
        self._actions: SegmentActions | None = None
        self._started: QPushButton | None = None
        self.setAcceptDrops(True)
        self.setAccessibleName("Segment")
        self.setStyleSheet(_FOCUS)
        body = QWidget()
        self._rows = QVBoxLayout(body)
        self._rows.setContentsMargins(6, 6, 6, 6)
        self._rows.setSpacing(4)
        self._build_welcome(samples)
        self._build_choices()
        self._build_buttons()
        self._build_mask_parts()
        self._rows.addStretch(1)
        # On a low screen, or at 200 % scaling, the dock scrolls instead of pressing the layer list together.
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(body)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def sizeHint(self) -> QSize:
        return QSize(_WIDTH, super().sizeHint().height())

    def attach(self, actions: SegmentActions) -> None:
        self._actions = actions

    # ------------------------------------------------------------------ building

    def _build_welcome(self, samples: tuple[tuple[str, str], ...]) -> None:
        self.welcome = QWidget()
        rows = QVBoxLayout(self.welcome)
        rows.setContentsMargins(0, 0, 0, 8)
        text = QLabel("Nothing is open yet. Drop a scan on the canvas, or:")
        text.setWordWrap(True)
        self.open_button = button("Open a scan…", "Choose an image, NIfTI, NRRD, MetaImage or DICOM file")
        self.open_button.clicked.connect(self._ask_scan)
        self.folder_button = button("Open a folder…", "Choose a folder with DICOM series, or an OME-Zarr (.zarr)")
        self.folder_button.clicked.connect(self._ask_folder)
        self.sample_button = button("Open a sample", "Scans to try the dock with")
        menu = QMenu(self.sample_button)
        for key, label in samples:
            menu.addAction(label).triggered.connect(lambda *_, key=key: self._do("open_sample", key))
        self.sample_button.setMenu(menu)
        row = QHBoxLayout()
        row.addWidget(self.open_button)
        row.addWidget(self.folder_button)
        rows.addWidget(text)
        rows.addLayout(row)
        rows.addWidget(self.sample_button)
        self._rows.addWidget(self.welcome)

    def _build_choices(self) -> None:
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(6)
        grid.setColumnStretch(1, 1)
        self.scan_box, self.scan_line = ChoiceBox("Scan"), Line()
        self.model_box = ChoiceBox("Model")
        self.model_lines = (Line(), Line(), Line())
        self.device_box = ChoiceBox("Device")
        self.add_button = QPushButton("+")
        self.add_button.setMaximumWidth(3 * self.fontMetrics().horizontalAdvance("+"))
        self.add_button.setAccessibleName("Add a model")
        self.add_button.setToolTip("Add a checkpoint from a file or folder; dropping one on this dock does the same")
        self.add_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        # The arrow of a menu button would hide the sign at this width.
        self.add_button.setStyleSheet("QPushButton::menu-indicator { image: none; width: 0px; }")
        menu = QMenu(self.add_button)
        menu.addAction("Checkpoint folder…").triggered.connect(self._ask_model_folder)
        menu.addAction("Checkpoint file…").triggered.connect(self._ask_model_file)
        self.add_button.setMenu(menu)
        self.window_row = WindowRow()
        rows: list[tuple[str, QWidget, tuple[QWidget, ...]]] = [
            ("1  Scan", self.scan_box, (self.scan_line, self.window_row)),
            ("2  Model", self.model_box, self.model_lines),
            ("3  Device", self.device_box, ()),
        ]
        at = 0
        for title, box, lines in rows:
            label = QLabel(title)
            label.setBuddy(box)
            grid.addWidget(label, at, 0)
            grid.addWidget(box, at, 1, 1, 1 if box is self.model_box else 2)
            if box is self.model_box:
                grid.addWidget(self.add_button, at, 2)
            for line in lines:
                at += 1
                grid.addWidget(line, at, 0, 1, 3)
            at += 1
        self._rows.addLayout(grid)
        self.options_section = Section("Options")
        self.options = OptionsBox()
        box_rows = QVBoxLayout(self.options_section.body)
        box_rows.setContentsMargins(14, 0, 0, 0)
        box_rows.addWidget(self.options)
        self._rows.addWidget(self.options_section)
        self.scan_box.chosen.connect(lambda key: self._do("choose_scan", key))
        self.model_box.chosen.connect(lambda key: self._do("choose_model", key))
        self.device_box.chosen.connect(lambda key: self._do("choose_device", key))
        self.options.changed.connect(lambda name, value: self._do("set_option", name, value))
        self.options.reset.connect(lambda: self._do("reset_options"))

    def _build_buttons(self) -> None:
        self.slice_button = button("Segment", "")
        self.slice_button.setDefault(True)
        font = self.slice_button.font()
        font.setBold(True)
        self.slice_button.setFont(font)
        self.slice_button.setStyleSheet("QPushButton { padding: 9px; font-weight: bold; }")
        self.all_button = button("Segment whole scan", "")
        self.cancel_button = button("Cancel", "")
        self.undo_button = button("Undo result", "")
        self.bar = Bar("Progress")
        self.message = MessageLine(lambda: self._do("dismiss_message"))
        row = QHBoxLayout()
        row.addWidget(self.cancel_button)
        row.addWidget(self.undo_button)
        self._rows.addWidget(self.slice_button)
        self._rows.addWidget(self.all_button)
        self._rows.addWidget(self.bar)
        self._rows.addLayout(row)
        self._rows.addWidget(self.message)
        self.tidy = TidyLine()
        self._rows.addWidget(self.tidy)
        self.slice_button.clicked.connect(lambda: self._do("segment_slice"))
        self.all_button.clicked.connect(lambda: self._do("segment_all"))
        self.cancel_button.clicked.connect(lambda: self._do("cancel"))
        self.undo_button.clicked.connect(lambda: self._do("undo"))

    def _build_mask_parts(self) -> None:
        """What can be done with a mask; every part has a controller of its own."""
        self.mask_row = MaskRow()
        self.class_list, self.measure, self.clean_up = ClassList(), MeasureSection(), CleanUpSection()
        for part in (self.mask_row, self.class_list, self.measure, self.clean_up):
            self._rows.addWidget(part)
        self.export, self.batch = ExportSection(), BatchSection()
        self._rows.addWidget(self.export)
        self._rows.addWidget(self.batch)

    # ------------------------------------------------------------------ drawing

    def show_state(self, state: SegmentState) -> None:
        """Draw ``state``; the keyboard's focus stays where a person can go on with it."""
        welcome_left = bool(state.scans) and self.welcome.isAncestorOf(self.focusWidget() or self)
        started = next((b for b in (self.slice_button, self.all_button) if b.hasFocus() and state.busy), None)
        self.welcome.setVisible(not state.scans)
        self.scan_box.show_choices(state.scans, state.scan, "no image layer")
        self.scan_line.show_text(state.scan_words)
        self.model_box.show_choices(state.models, state.model, "no model")
        self.model_box.setToolTip(state.model_tooltip)
        for index, line in enumerate(self.model_lines):
            text = state.model_lines[index] if index < len(state.model_lines) else ""
            line.show_text(text, state.model_tooltip)
        self.device_box.show_choices(state.devices, state.device, "auto")
        self.model_box.setEnabled(bool(state.models) and not state.busy)
        self.device_box.setEnabled(bool(state.devices) and not state.busy)
        self.add_button.setEnabled(not state.busy)
        self.options.show_options(state.options, not state.busy)
        if started is not None:
            show_button(self.cancel_button, state.cancel)
            self._started = started
            self.cancel_button.setFocus()
        ended = self._started is not None and not state.busy
        had_focus = self.cancel_button.hasFocus()
        show_button(self.slice_button, state.segment_slice)
        show_button(self.all_button, state.segment_all)
        if ended and self._started is not None:
            if had_focus:
                self._started.setFocus()
            self._started = None
        show_button(self.cancel_button, state.cancel)
        show_button(self.undo_button, state.undo)
        if welcome_left:
            self.slice_button.setFocus()
        self.bar.show_progress(state.progress)
        self.message.show_message(state.message)

    # ------------------------------------------------------------------ asking

    def _do(self, name: str, *values: Any) -> None:
        if self._actions is not None:
            getattr(self._actions, name)(*values)

    def _ask_scan(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a scan", "", _SCANS)
        if path:
            self._do("open_scan", Path(path))

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Open a folder with DICOM series, or an OME-Zarr")
        if path:
            self._do("open_scan", Path(path))

    def choose_series(self, name: str, lines: Sequence[str], first: int) -> list[int]:
        return choose_series(name, lines, first, self)

    def _ask_model_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Add a checkpoint folder")
        if path:
            self._do("add_model", Path(path))

    def _ask_model_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Add a checkpoint file", "", _MODELS)
        if path:
            self._do("add_model", checkpoint_of(Path(path)))

    def dragEnterEvent(self, event: Any) -> None:
        if event.mimeData().hasUrls() and any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        """Take a dropped checkpoint; what it is no good for is said by the one who reads it."""
        for url in event.mimeData().urls():
            if url.isLocalFile():
                event.acceptProposedAction()
                self._do("add_model", checkpoint_of(Path(url.toLocalFile())))
                return


def checkpoint_of(path: Path) -> Path:
    """Return the checkpoint a chosen file belongs to: the folder, for the files that lie in one."""
    return path.parent if path.name in ("config.json", "weights.safetensors") else path
