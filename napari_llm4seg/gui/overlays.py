"""Where the maps of an inspection lie in the viewer, and the layers that show them, changed in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import AVAILABLE_COLORMAPS, Colormap

from napari_llm4seg.gui.controllers.inspect_ports import (
    ATTENTION,
    COLOURS,
    DIFFERENCE,
    FEATURES,
    OVERLAY,
    Drawn,
    axes_of,
)
from napari_llm4seg.gui.entering import add_unselected, leave_tools_for_later
from napari_llm4seg.gui.grid import SliceGrid, grid_shape
from napari_llm4seg.gui.layers import INSPECTION, KEY, class_style, find_layer, layer_id

Array = npt.NDArray[Any]
Matrix = npt.NDArray[np.float64]

# What stands behind the scan's name in the layer list.
_NAMES = {
    ATTENTION: "attention",
    FEATURES: "features",
    COLOURS: "features in colours",
    DIFFERENCE: "what if",
    OVERLAY: "token",
}
# Nothing, dimmed, a stripe, the frame of a token: red-orange is in neither the scan nor the map's colours.
_MARKS = Colormap(
    [[0, 0, 0, 0], [0, 0, 0, 0.3], [1, 1, 1, 0.3], [0.835, 0.369, 0.0, 1]],
    controls=[0, 0.25, 0.5, 0.75, 1],
    interpolation="zero",
    name="llm4seg token",
)
_OPACITY = 0.6
# viridis that lets the scan through where little is looked at
_SHARES = Colormap(
    np.concatenate((AVAILABLE_COLORMAPS["viridis"].colors[:, :3], np.linspace(0, 1, 256)[:, None] ** 0.5), axis=1),
    name="llm4seg attention",
)


def data_to_world(layer: Layer) -> Matrix:
    """Return the (ndim + 1, ndim + 1) matrix from the layer's indices onto the world."""
    n = layer.ndim
    corner = np.asarray(layer.data_to_world(np.zeros(n)), dtype=float)
    matrix = np.eye(n + 1)
    matrix[:n, :n] = np.stack([np.asarray(layer.data_to_world(step), dtype=float) - corner for step in np.eye(n)], 1)
    matrix[:n, n] = corner
    return matrix


def laid_on(layer: Layer, drawn: Drawn) -> tuple[Array, Matrix]:
    """Return the map's data in the order of the scan layer's axes, and the (ndim + 1, ndim + 1) map of their indices.

    The map's own axes may be turned and flipped against the scan's. Its data are brought into the scan's order, so that
    the two layers are cut alike.
    """
    colour = (3,) if drawn.slot == COLOURS else ()
    values = drawn.values.reshape(*(1,) * (3 + len(colour) - drawn.values.ndim), *drawn.values.shape)
    matrix = np.empty((3, 4))
    matrix[list(axes_of(drawn.target.axis))] = drawn.matrix[:3]
    source = [int(np.abs(row[:3]).argmax()) for row in matrix]
    values = values.transpose(*source, *colour)
    scale = np.asarray([matrix[axis, source[axis]] for axis in range(3)])
    shift = matrix[:, 3].copy()
    for axis in np.flatnonzero(scale < 0):
        values = np.flip(values, int(axis))
        shift[axis] += scale[axis] * (values.shape[axis] - 1)
    n = layer.ndim
    inside = np.eye(n + 1)
    if n == 2:
        values = values[0]
        inside[:2, :2], inside[:2, 2] = np.diag(np.abs(scale[1:])), shift[1:]
    else:
        lead = n - 3
        values = values[(None,) * lead]
        inside[lead:n, lead:n], inside[lead:n, n] = np.diag(np.abs(scale)), shift
        inside[:lead, n] = SliceGrid(grid_shape(layer)).frame(drawn.target.frame)
    return np.ascontiguousarray(values), inside


def affine_of(viewer: Any, layer: Layer, inside: Matrix) -> Matrix:
    """Return the affine of a map whose indices lie in those of the scan ``layer`` as ``inside`` says.

    In 3-D it is where the map is in the world. Of a scan that lies askew napari draws a slice as if it did not: with
    the part of the affine along the axes on the screen, and of its inverse along the sliders. A map that begins at
    another index than the scan would be drawn beside it; its origin is moved so that both parts agree with the scan's.
    """
    world, n, dims = data_to_world(layer), layer.ndim, viewer.dims
    affine = world @ inside
    shown = [axis - dims.ndim + n for axis in dims.displayed]
    if len(shown) == 2 and min(shown) >= 0:
        hidden = [axis for axis in range(n) if axis not in shown]
        back, origin = np.linalg.inv(world[:n, :n]), affine[:n, n].copy()
        there = back @ origin
        origin[shown] = world[shown, n] + world[np.ix_(shown, shown)] @ inside[shown, n]
        if hidden:
            rest = there[hidden] - back[np.ix_(hidden, shown)] @ origin[shown]
            origin[hidden] = np.linalg.solve(back[np.ix_(hidden, hidden)], rest)
        affine[:n, n] = origin
    return affine


class Overlays:
    """An inspection's layers in one viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._layers: dict[str, Layer] = {}
        self._limits: dict[str, tuple[float, float]] = {}
        self._inside: dict[str, tuple[str, Matrix]] = {}

    def layer(self, slot: str) -> Layer | None:
        """Return the slot's layer while it is in the viewer."""
        layer = self._layers.get(slot)
        return layer if layer is not None and layer in self._viewer.layers else None

    def draw(self, drawn: Drawn) -> None:
        """Draw a map: in its layer if there is one, in a new one on top if not; the selection stays."""
        scan = find_layer(self._viewer, drawn.target.scan_id, "The scan's layer is gone; choose another one.")
        data, inside = laid_on(scan, drawn)
        affine = affine_of(self._viewer, scan, inside)
        name = f"{scan.name} · {_NAMES[drawn.slot]}"
        layer = self.layer(drawn.slot)
        if layer is not None and layer.ndim != scan.ndim:
            self._viewer.layers.remove(layer)
            layer = None
        if layer is None:
            self._add(drawn, data, affine, scan, name)
        else:
            self._change(layer, drawn, data, affine, name)
        self._keep_limits(drawn)
        self._inside[drawn.slot] = (drawn.target.scan_id, inside)

    def turn(self) -> None:
        """Lay the maps anew, after the viewer's axes were exchanged."""
        for slot, (scan_id, inside) in self._inside.items():
            layer = self.layer(slot)
            scan = next((each for each in self._viewer.layers if layer_id(each) == scan_id), None)
            if layer is not None and scan is not None:
                affine = affine_of(self._viewer, scan, inside)
                if not np.allclose(np.asarray(layer.affine.affine_matrix), affine):
                    layer.affine = affine

    def _add(self, drawn: Drawn, data: Array, affine: Array, scan: Layer, name: str) -> None:
        place: dict[str, Any] = {"affine": affine, "units": scan.units, "axis_labels": scan.axis_labels, "name": name}
        layer: Layer
        if drawn.slot == DIFFERENCE:
            layer = Labels(data, **class_style(tuple(drawn.about["classes"])), **place)
        elif drawn.slot == COLOURS:
            layer = Image(data, rgb=True, opacity=_OPACITY, **place)
        elif drawn.slot == OVERLAY:
            layer = Image(data, colormap=_MARKS, contrast_limits=(0, 3), blending="translucent", **place)
        else:
            colours, opacity = (_SHARES, 0.8) if drawn.slot == ATTENTION else ("viridis", _OPACITY)
            layer = Image(data, colormap=colours, contrast_limits=drawn.limits, opacity=opacity, **place)
            layer.blending = "translucent"
            layer.interpolation3d = "nearest"
        layer.metadata[KEY] = _kept(drawn)
        leave_tools_for_later(layer)
        add_unselected(self._viewer, layer)
        self._layers[drawn.slot] = layer

    def _change(self, layer: Layer, drawn: Drawn, data: Array, affine: Array, name: str) -> None:
        mine = self._limits.get(drawn.slot)
        by_hand = mine is not None and tuple(layer.contrast_limits) != mine
        if not np.array_equal(np.asarray(layer.affine.affine_matrix), affine):
            layer.affine = affine
        layer.data = data
        if layer.name != name:
            layer.name = name
        layer.metadata[KEY] = _kept(drawn)
        if mine is not None and not by_hand:
            layer.contrast_limits_range = drawn.limits
            layer.contrast_limits = drawn.limits
        if not layer.visible:
            layer.visible = True

    def _keep_limits(self, drawn: Drawn) -> None:
        """Remember the limits that were set here, to know when a person has set others."""
        layer = self._layers[drawn.slot]
        if drawn.slot in (ATTENTION, FEATURES) and tuple(layer.contrast_limits) == drawn.limits:
            self._limits[drawn.slot] = drawn.limits

    def show_only(self, slots: tuple[str, ...]) -> None:
        for slot in self._layers:
            layer = self.layer(slot)
            if layer is not None and layer.visible != (slot in slots):
                layer.visible = slot in slots


def _kept(drawn: Drawn) -> dict[str, Any]:
    return {"role": INSPECTION, "scan": drawn.target.scan_id, "title": drawn.title, **drawn.about}
