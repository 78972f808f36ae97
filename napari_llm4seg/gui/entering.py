"""Put a layer into the viewer in parts, so that the window never stands still for the whole of it.

A new Labels layer costs napari about 0.1 s: a third for its visual and controls, a third for what draws a polygon and
the brush's stroke, which nobody needs before drawing, and a sixth for selecting it.
"""

from __future__ import annotations

from collections.abc import Callable
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


def entering(viewer: Any, layer: Layer) -> list[Callable[[], None]]:
    """Return the parts in which ``layer`` comes into the viewer and is selected; call them in order, a turn for each.

    After the first one the layer is there and is drawn.
    """
    tools = [tool for tool in getattr(layer, "_overlays", {}).values() if tool.visible]

    def come() -> None:
        for tool in tools:
            tool.visible = False
        add_unselected(viewer, layer)

    def select() -> None:
        viewer.layers.selection.active = layer

    def show(tool: Any) -> Callable[[], None]:
        return lambda: setattr(tool, "visible", True)

    return [come, select, *(show(tool) for tool in tools)]
