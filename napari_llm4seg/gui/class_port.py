"""The classes of the viewer's labels layers as controllers see them: named, coloured, chosen for painting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels

from napari_llm4seg.gui.layers import classes_of, find_layer, set_classes
from napari_llm4seg.gui.watch import LayerWatch

Classes = tuple[tuple[int, str, str], ...]


class NapariClasses:
    """``ClassPort`` on a napari ``ViewerModel``; needs no window.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._watch = LayerWatch(viewer, kind=Labels, events={"selected_label": self._selected})
        self._on_select: Callable[[], None] | None = None

    def classes(self, mask_id: str) -> Classes:
        return classes_of(self._layer(mask_id))

    def set_classes(self, mask_id: str, classes: Classes) -> None:
        set_classes(self._layer(mask_id), classes)

    def colour(self, mask_id: str, value: int) -> str:
        drawn = self._layer(mask_id).get_color(value)
        parts = (0.0, 0.0, 0.0) if drawn is None else np.asarray(drawn, dtype=float)[:3]
        return "#{:02X}{:02X}{:02X}".format(*(round(255 * float(part)) for part in parts))

    def largest(self, mask_id: str) -> int:
        return int(np.iinfo(self._layer(mask_id).data.dtype).max)

    def selected(self, mask_id: str) -> int:
        return int(self._layer(mask_id).selected_label)

    def select(self, mask_id: str, value: int) -> None:
        layer = self._layer(mask_id)
        layer.selected_label = value
        self._viewer.layers.selection.active = layer

    def connect(self, on_select: Callable[[], None]) -> None:
        self._on_select = on_select
        self._watch.connect(lambda: None)

    def disconnect(self) -> None:
        self._on_select = None
        self._watch.disconnect()

    def _selected(self, event: Any = None) -> None:
        if self._on_select is not None:
            self._on_select()

    def _layer(self, wanted: str) -> Labels:
        return find_layer(self._viewer, wanted, "That layer is gone; choose another one.")
