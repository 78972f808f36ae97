"""The collapsed options of *New model…*: what the network is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QGridLayout, QLabel

from napari_llm4seg.gui.views.abstract.retrain import NewModelState
from napari_llm4seg.gui.views.widgets import ChoiceBox, Section


class NewModelOptions(Section):
    """Shows a ``NewModelState``.

    Parameters
    ----------
    do : callable(name, *values)
        Calls a method of ``RetrainActions``.
    """

    def __init__(self, do: Callable[..., Any]) -> None:
        super().__init__("Options")
        self.button.setAccessibleName("Options of a new model")
        self.button.setToolTip("What a new model is made of; it is trained on the corrected slices alone")
        self.size_box, self.backbone_box = ChoiceBox("Size of a new model"), ChoiceBox("Backbone of a new model")
        self.layer_box = ChoiceBox("Frozen layer of a new model")
        grid = QGridLayout(self.body)
        grid.setContentsMargins(14, 0, 0, 0)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        rows = (
            ("Size", self.size_box, "preset"),
            ("Backbone", self.backbone_box, "backbone"),
            ("Frozen layer", self.layer_box, "layer"),
        )
        for at, (title, box, name) in enumerate(rows):
            label = QLabel(title)
            label.setBuddy(box)
            grid.addWidget(label, at, 0)
            grid.addWidget(box, at, 1)
            box.chosen.connect(lambda key, name=name: do("choose_new", name, key))
        self._summary = ""
        self.button.toggled.connect(self._summarise)
        self.button.toggled.connect(lambda shown: do("look_for_layers") if shown else None)

    def show_options(self, state: NewModelState) -> None:
        for box, choices, key in (
            (self.size_box, state.sizes, state.size),
            (self.backbone_box, state.backbones, state.backbone),
            (self.layer_box, state.layers, state.layer),
        ):
            box.show_choices(choices, key, "")
            box.setEnabled(state.enabled)
            about = next((choice.tooltip for choice in choices if choice.key == key), "")
            box.setToolTip(about)
            box.setAccessibleDescription(about)
        self._summary = state.summary
        self._summarise(self.button.isChecked())

    def _summarise(self, shown: bool) -> None:
        """Say beside the heading what is chosen, unless the choices themselves are seen."""
        self.summary.show_text("" if shown else self._summary)
