"""The viewer as an inspection sees it: clicks on the scan, maps on it, the slice on show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Layer

from napari_llm4seg.gui.controllers.inspect_ports import Drawn, Listeners, Place, Target
from napari_llm4seg.gui.grid import SliceGrid, grid_shape, index_on_show, on_show, stack_of
from napari_llm4seg.gui.layers import find_layer, volume_from_layer
from napari_llm4seg.gui.overlays import Overlays, data_to_world
from napari_llm4seg.gui.regions import region_in, regions_of
from napari_llm4seg.gui.watch import LayerWatch
from napari_llm4seg.volume import Volume

# A hand moves a little while it clicks; in pixels of the canvas.
_STILL = 4.0
_BETWEEN = "  ·  "
_GONE = "The scan's layer is gone; choose another one."


class NapariInspect:
    """``InspectPort`` on a napari ``ViewerModel``; needs no window.

    Clicks are heard at the viewer, not at the scan's layer, so that they count whichever layer is selected; while one
    is painted on or edited, they are left to it.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._watch = LayerWatch(viewer)
        self.overlays = Overlays(viewer)
        self._listeners: Listeners | None = None
        self._said = ""

    def volume(self, scan_id: str, frame: int = 0) -> Volume:
        return volume_from_layer(self._layer(scan_id), frame)

    def on_show(self, scan_id: str, axis: int = 0) -> tuple[int, int]:
        return on_show(self._viewer, self._layer(scan_id), axis)

    def in_slices(self) -> bool:
        return bool(self._viewer.dims.ndisplay == 2)

    def scan_name(self, scan_id: str) -> str:
        return str(self._layer(scan_id).name)

    def stack_of(self, scan_id: str) -> str:
        return stack_of(self._layer(scan_id))

    def draw(self, drawn: Drawn) -> None:
        self.overlays.draw(drawn)

    def show_only(self, slots: tuple[str, ...]) -> None:
        self.overlays.show_only(slots)

    def regions(self, scan_id: str) -> list[tuple[str, str]]:
        return regions_of(self._viewer)

    def region(self, layer_id: str, target: Target, z: int, shape: tuple[int, int]) -> npt.NDArray[Any]:
        drawn = find_layer(self._viewer, layer_id, "The layer with the region is gone; choose another one.")
        return region_in(drawn, self._layer(target.scan_id), target, z, shape)

    def say(self, text: str) -> None:
        if text != self._said:
            plain = _joined(self._viewer.status, self._said, "")
            self._said = text
            self._viewer.status = _joined(plain, "", text)

    def _status_changed(self, event: Any = None) -> None:
        """Say it again behind what napari says of the selected layer, which it writes anew at every move."""
        if self._said:
            status = _joined(_joined(self._viewer.status, self._said, ""), "", self._said)
            if status != self._viewer.status:
                self._viewer.status = status

    # ------------------------------------------------------------------ hearing

    def connect(self, listeners: Listeners) -> None:
        self._listeners = listeners
        self._watch.connect(listeners.layers_changed)
        self._viewer.mouse_drag_callbacks.append(self._pressed)
        self._viewer.mouse_move_callbacks.append(self._moved)
        self._viewer.events.status.connect(self._status_changed)
        for name in ("point", "order", "ndisplay"):
            getattr(self._viewer.dims.events, name).connect(self._dims_changed)

    def disconnect(self) -> None:
        if self._listeners is None:
            return
        self._listeners = None
        self._watch.disconnect()
        self._viewer.mouse_drag_callbacks.remove(self._pressed)
        self._viewer.mouse_move_callbacks.remove(self._moved)
        self._viewer.events.status.disconnect(self._status_changed)
        for name in ("point", "order", "ndisplay"):
            getattr(self._viewer.dims.events, name).disconnect(self._dims_changed)
        self.say("")

    def _dims_changed(self, event: Any = None) -> None:
        if self._listeners is not None:
            if getattr(event, "type", "") in ("order", "ndisplay"):
                self.overlays.turn()
            self._listeners.moved()

    def _pressed(self, viewer: Any, event: Any) -> Iterator[None]:
        """Take a click that did not move; with Shift, follow the mouse. Everything else is napari's panning."""
        if self._listeners is None or getattr(event, "button", 1) != 1:
            return
        here = self._where(event)
        if here is None:
            return
        modifiers = [str(each) for each in event.modifiers]
        follow = modifiers == ["Shift"]
        if modifiers and not follow:
            return
        start = _canvas(event)
        if follow:
            event.handled = True
            self._listeners.clicked(*here)
        yield
        moved = False
        while event.type == "mouse_move":
            now = _canvas(event)
            moved = moved or start is None or now is None or float(np.hypot(*(now - start))) > _STILL
            if follow and self._listeners is not None:
                event.handled = True
                there = self._where(event)
                if there is not None:
                    self._listeners.clicked(*there)
            yield
        if not follow and not moved and self._listeners is not None:
            self._listeners.clicked(*here)

    def _moved(self, viewer: Any, event: Any) -> None:
        if self._listeners is not None:
            here = self._where(event)
            self._listeners.hovered(*(here if here is not None else (0, None)))

    def _where(self, event: Any) -> tuple[int, Place] | None:
        """Return frame and voxel under the mouse; None where it is not on the scan, or the scan is not listened to."""
        assert self._listeners is not None
        scan_id = self._listeners.target()
        active = self._viewer.layers.selection.active
        if scan_id is None or self._viewer.dims.ndisplay != 2:
            return None
        if active is not None and str(getattr(active, "mode", "pan_zoom")) != "pan_zoom":
            return None
        layer = next((each for each in self._viewer.layers if str(each.unique_id) == scan_id), None)
        if layer is None:
            return None
        shape = grid_shape(layer)
        at = self._index(layer, np.asarray(event.position, dtype=float))
        if ((at < -0.5) | (at > np.asarray(shape) - 0.5)).any():
            return None
        lead = SliceGrid(shape).lead
        index = [int(np.clip(np.round(value), 0, side - 1)) for value, side in zip(at, lead, strict=False)]
        frame = int(np.ravel_multi_index(index, lead)) if lead else 0
        z, y, x = (0.0,) * (3 - layer.ndim) + tuple(float(value) for value in at[len(lead) :])
        return frame, (z, y, x)

    def _index(self, layer: Layer, position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the layer's index under a place of the world, as it lies on the screen.

        Of a layer that lies askew napari draws a slice as if it did not, by the part of the affine that is displayed.
        """
        n, dims = layer.ndim, self._viewer.dims
        world = position[-n:]
        at = index_on_show(self._viewer, layer)
        axes = [axis - dims.ndim + n for axis in dims.displayed]
        matrix = data_to_world(layer)
        part = matrix[np.ix_(axes, axes)]
        at[axes] = np.linalg.solve(part, world[axes] - matrix[axes, n])
        return at

    def _layer(self, scan_id: str) -> Layer:
        return find_layer(self._viewer, scan_id, _GONE)


def _canvas(event: Any) -> Any:
    """Return where the mouse is on the canvas, in its pixels; None for events that do not know."""
    pos = getattr(event, "pos", None)
    return None if pos is None else np.asarray(pos, dtype=float)


def _joined(status: Any, taken: str, added: str) -> Any:
    """Return napari's status, a sentence or parts of one, without what was said behind it and with what is now."""
    part = status.get("coordinates", "") if isinstance(status, dict) else str(status)
    part = part.removesuffix(taken).removesuffix(_BETWEEN) if taken else part
    part = f"{part}{_BETWEEN}{added}" if part and added else part or added
    return {**status, "coordinates": part} if isinstance(status, dict) else part
