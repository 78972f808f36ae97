"""Regions that a person drew, as pixels of a slice of the scan: from shapes, or from painted labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels, Layer, Shapes

from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.controllers.inspect_ports import Target, axes_of
from napari_llm4seg.gui.grid import SliceGrid, grid_shape
from napari_llm4seg.gui.layers import is_mask, layer_id

Array = npt.NDArray[Any]

# Corners that an ellipse is drawn with.
_CORNERS = 72


def regions_of(viewer: Any) -> list[tuple[str, str]]:
    """Return (identifier, name) of the layers that can hold a region, the newest first."""
    layers = [each for each in viewer.layers if isinstance(each, Shapes) or is_mask(each)]
    return [(layer_id(each), str(each.name)) for each in reversed(layers)]


def region_in(drawn: Layer, scan: Layer, target: Target, z: int, shape: tuple[int, int]) -> Array:
    """Return which pixels (Y, X) of slice ``z`` of the turned scan lie in what was drawn.

    Raises
    ------
    InputError
        If there is nothing drawn on this slice.
    """
    inside = (
        _in_labels(drawn, scan, target, z, shape)
        if isinstance(drawn, Labels)
        else _in_shapes(drawn, scan, target, z, shape)
    )
    if not inside.any():
        raise InputError(f"'{drawn.name}' has no area on this slice of '{scan.name}'; draw a shape or paint there.")
    return inside


def _scan_index(scan: Layer, target: Target, places: Array) -> Array:
    """Return places (n, 3) of the turned scan as indices (n, ndim) of the scan's layer."""
    stored = np.empty_like(places)
    stored[:, list(axes_of(target.axis))] = places
    if scan.ndim == 2:
        return stored[:, 1:]
    lead = SliceGrid(grid_shape(scan)).frame(target.frame)
    return np.concatenate((np.tile(np.asarray(lead, float), (len(places), 1)).reshape(len(places), -1), stored), axis=1)


def _in_labels(drawn: Labels, scan: Layer, target: Target, z: int, shape: tuple[int, int]) -> Array:
    rows, columns = np.indices(shape, dtype=float)
    places = np.stack((np.full(rows.size, float(z)), rows.ravel(), columns.ravel()), axis=1)
    world = np.asarray([scan.data_to_world(index) for index in _corners(_scan_index(scan, target, places))])
    # affine, so a few corners say where all pixels are
    index = _spread(_scan_index(scan, target, places), world)
    index = _to_layer(drawn, index)
    whole = np.rint(index).astype(int)
    data = drawn.data
    within = ((whole >= 0) & (whole < np.asarray(data.shape))).all(axis=1)
    found = np.zeros(len(whole), dtype=bool)
    found[within] = np.asarray(data[tuple(whole[within].T)]) != 0
    return found.reshape(shape)


def _corners(index: Array) -> Array:
    """Return the origin and one step along each axis of the indices."""
    n = index.shape[1]
    return np.concatenate((np.zeros((1, n)), np.eye(n)))


def _spread(index: Array, world: Array) -> Array:
    """Return the world of indices (n, ndim) from that of ``_corners``."""
    return world[0] + index @ (world[1:] - world[0])


def _to_layer(drawn: Layer, world: Array) -> Array:
    """Return places of the world as indices of a layer, which may have fewer axes, or more, than the scan."""
    n = drawn.ndim
    if world.shape[1] < n:
        world = np.concatenate((np.zeros((len(world), n - world.shape[1])), world), axis=1)
    world = world[:, -n:]
    corners = np.asarray([drawn.world_to_data(place) for place in _corners(world)])
    return _spread(world, corners)


def _in_shapes(drawn: Layer, scan: Layer, target: Target, z: int, shape: tuple[int, int]) -> Array:
    from skimage import measure

    points_in_poly: Any = measure.points_in_poly

    rows, columns = np.indices(shape)
    pixels = np.stack((rows.ravel(), columns.ravel()), axis=1)
    inside = np.zeros(len(pixels), dtype=bool)
    for corners, kind in zip(drawn.data, drawn.shape_type, strict=True):
        if kind not in ("rectangle", "ellipse", "polygon"):
            continue
        outline = _turned_outline(drawn, scan, target, _outline(np.asarray(corners, float), kind))
        if drawn.ndim < scan.ndim or scan.ndim == 2 or abs(float(outline[:, 0].mean()) - z) <= 0.5:
            inside |= np.asarray(points_in_poly(pixels, outline[:, 1:]))
    return inside.reshape(shape)


def _outline(corners: Array, kind: str) -> Array:
    """Return a shape's outline; of an ellipse from the four corners of its box."""
    if kind != "ellipse":
        return corners
    middle = corners.mean(axis=0)
    across, down = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    return np.asarray(middle + np.cos(angles)[:, None] * across + np.sin(angles)[:, None] * down)


def _turned_outline(drawn: Layer, scan: Layer, target: Target, outline: Array) -> Array:
    """Return the outline in voxels (z, y, x) of the turned scan; axes that the shape lacks are those of the origin."""
    world = np.asarray([drawn.data_to_world(corner) for corner in outline])
    n = scan.ndim
    if world.shape[1] < n:
        origin = np.asarray(scan.data_to_world(np.zeros(n)), float)
        world = np.concatenate((np.tile(origin[: n - world.shape[1]], (len(world), 1)), world), axis=1)
    index = np.asarray([scan.world_to_data(place) for place in world[:, -n:]])
    stored = np.concatenate((np.zeros((len(index), 1)), index), axis=1) if n == 2 else index[:, -3:]
    return stored[:, list(axes_of(target.axis))]
