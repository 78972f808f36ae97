"""The row that names the mask which is measured, cleaned up and exported."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_llm4seg.gui.views.abstract.masks import MaskActions, MaskState
from napari_llm4seg.gui.views.widgets import ChoiceBox


class MaskRow(QWidget):
    """``MaskView``: one combo box."""

    def __init__(self) -> None:
        super().__init__()
        self._actions: MaskActions | None = None
        self.box = ChoiceBox("Mask")
        self.box.chosen.connect(self._chosen)
        label = QLabel("Mask")
        label.setBuddy(self.box)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 6, 0, 0)
        row.setSpacing(6)
        row.addWidget(label)
        row.addWidget(self.box, 1)

    def attach(self, actions: MaskActions) -> None:
        self._actions = actions

    def show_state(self, state: MaskState) -> None:
        self.setVisible(bool(state.masks))
        self.box.show_choices(state.masks, state.mask, "no mask")

    def _chosen(self, key: str) -> None:
        if self._actions is not None:
            self._actions.choose_mask(key)
