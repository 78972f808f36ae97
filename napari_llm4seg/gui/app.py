"""The window as `make run` opens it: the Segment dock and a scan, ready for one click."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import QTimer

from napari_llm4seg.gui.dock import open_dock
from napari_llm4seg.gui.layer_tuples import layers_of
from napari_llm4seg.volume import Volume

DOCK = "Segment"
_LAID_OUT_MS = 200


def build_window(volumes: Sequence[Volume], *, show: bool = True) -> tuple[Any, Any]:
    """Return a new viewer with ``volumes`` as layers and its Segment dock; the first image is the selected layer.

    Parameters
    ----------
    volumes : sequence of Volume
        A scan, and masks that go with it; those are hidden at first.
    show : bool

    Returns
    -------
    napari.Viewer, SegmentDock
    """
    viewer = napari.Viewer(title="LLM4Seg", show=show)
    layers = [viewer.add_layer(Layer.create(*item)) for item in layers_of(volumes)]
    images = [layer for layer in layers if layer.visible]
    if images:
        viewer.layers.selection.active = images[0]
    return viewer, open_dock(viewer, DOCK)


def open_window(volumes: Sequence[Volume]) -> None:
    """Open the window and return when the person closes it."""
    viewer, _ = build_window(volumes)
    # The canvas gets its size only now that the window and the dock are laid out; fitted before, the scan is cut off.
    QTimer.singleShot(_LAID_OUT_MS, viewer.reset_view)
    napari.run()
