"""Put a layer into the viewer in parts, so that the window never stands still for the whole of it.

A new Labels layer costs napari about 0.1 s: a third for its visual and controls, a third for what draws a polygon and
the brush's stroke, a sixth for selecting it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from napari.layers import Layer


def add_unselected(viewer: Any, layer: Layer, index: int | None = None) -> None:
    """Put ``layer`` into the viewer, on top or at ``index``, and leave the selection as it is.

    napari selects what comes. Selecting back afterwards would be seen: the layer controls are exchanged twice.
    """
    # plugins get a viewer whose parts hide what is private
    layers: Any = getattr(viewer.layers, "__wrapped__", viewer.layers)
    selected, quiet = layers.selection.active, hasattr(layers, "_activate_on_insert")
    if quiet:
        layers._activate_on_insert = False
    try:
        layers.insert(len(layers) if index is None else index, layer)
    finally:
        if quiet:
            layers._activate_on_insert = True
    if layers.selection.active is not selected:
        layers.selection.active = selected


def leave_tools_for_later(layer: Layer) -> None:
    """Let napari make what draws a polygon and the brush's stroke when that tool of ``layer`` is first taken up.

    Call it before the layer enters the viewer.
    """
    for tool in getattr(layer, "_overlays", {}).values():
        if tool.visible and hasattr(tool.events, "enabled") and not tool.enabled:
            tool.visible = False
            tool.events.enabled.connect(partial(_show, tool))


def _show(tool: Any, enabled: bool) -> None:
    if enabled:
        tool.visible = True
