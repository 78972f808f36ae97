"""Layers of single images in the viewer: one of them is looked at at a time, with its mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari.layers import Image, Labels, Layer

from napari_llm4seg.gui.grid import grid_shape
from napari_llm4seg.gui.layer_tuples import layers_of
from napari_llm4seg.gui.layers import find_layer, is_mask, is_scan, layer_id, own_metadata, source_of
from napari_llm4seg.volume import Volume

_GONE = "The image's layer is gone; choose another one."


class ImageLayers:
    """The single images of a napari ``ViewerModel``.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._tool: tuple[Any, float, int] | None = None

    def is_image(self, scan_id: str) -> bool:
        return any(layer_id(layer) == scan_id for layer in self._viewer.layers if _single(layer) and is_scan(layer))

    def of_file(self, path: Path) -> str | None:
        for layer in self._viewer.layers:
            source = source_of(layer) if _single(layer) and is_scan(layer) else ""
            if source and os.path.abspath(source) == str(path):
                return layer_id(layer)
        return None

    def add(self, volumes: Sequence[Volume]) -> str:
        self._note_tool()
        added = [self._viewer.add_layer(Layer.create(*item)) for item in layers_of(volumes)]
        return layer_id(next((layer for layer in added if isinstance(layer, Image)), added[0]))

    def show_alone(self, scan_id: str) -> None:
        scan = find_layer(self._viewer, scan_id, _GONE)
        self._note_tool()
        for layer in self._viewer.layers:
            if _single(layer):
                shown = layer is scan or (own_metadata(layer).get("scan") == scan_id and is_mask(layer))
                if layer.visible != shown:  # saying it again would draw it anew
                    layer.visible = shown
        self._viewer.layers.selection.select_only(scan)
        try:
            self._viewer.reset_view(layers=[scan])
        except TypeError:  # before napari 0.7 all layers count, hidden ones too
            self._viewer.reset_view()

    def _note_tool(self) -> None:
        """Remember how the mask before is drawn in: a layer that is hidden lets go of its tool."""
        active = self._viewer.layers.selection.active
        if active is not None and is_mask(active):
            self._tool = active.mode, active.brush_size, active.selected_label

    def take_tool(self, stack: Any) -> None:
        tool, self._tool = self._tool, None
        if tool is not None:
            layer = find_layer(self._viewer, stack.id, _GONE)
            self._viewer.layers.selection.select_only(layer)
            layer.mode, layer.brush_size, layer.selected_label = tool


def _single(layer: Layer) -> bool:
    """Return whether ``layer`` is an image, or a mask, of a single slice."""
    return isinstance(layer, (Image, Labels)) and len(grid_shape(layer)) == 2
