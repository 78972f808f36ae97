"""The viewer under review: which masks there are, which slice is shown, what a new model would change, keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels, Layer

from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.controllers.ports import MaskInfo
from napari_llm4seg.gui.controllers.review_ports import Classes
from napari_llm4seg.gui.entering import add_unselected, leave_tools_for_later
from napari_llm4seg.gui.grid import SliceGrid, grid_shape
from napari_llm4seg.gui.image_layers import ImageLayers
from napari_llm4seg.gui.layers import (
    CHANGE,
    KEY,
    class_style,
    find_layer,
    is_scan,
    layer_id,
    own_metadata,
    placement,
    set_classes,
    volume_from_layer,
)
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.gui.results import free_name, slices_of
from napari_llm4seg.gui.review_stack import NapariStack
from napari_llm4seg.scratch import room
from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]

_GONE = "The mask's layer is gone; choose another one."
_ADDED, _TAKEN = 1, 2
# Sky blue and vermilion of the Okabe-Ito palette, which no class of a mask has at its start.
_CHANGES = ((_ADDED, "added", "#56B4E9"), (_TAKEN, "taken away", "#D55E00"))


class NapariReview:
    """``ReviewPort`` on a napari ``ViewerModel``; needs no window.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._masks = NapariMasks(viewer)
        self._on_move: Callable[[], None] | None = None
        self._bound: list[str] = []
        self._change: Labels | None = None
        self._images = ImageLayers(viewer)
        self.is_image, self.image_of = self._images.is_image, self._images.of_file
        self.add_image, self.show_alone = self._images.add, self._images.show_alone
        self.take_tool = self._images.take_tool

    def masks(self) -> list[MaskInfo]:
        return self._masks.masks()

    def open(self, mask_id: str, scan_id: str | None) -> NapariStack:
        labels = find_layer(self._viewer, mask_id, _GONE)
        shape = tuple(labels.data.shape)
        scan = self._scan_of(labels, shape, scan_id)
        if SliceGrid(shape).frames > 1 or len(shape) > 3:
            raise InputError(f"'{labels.name}' has time points; split them first: right-click the layer, Split Stack.")
        if len(shape) == 2 and layer_id(scan) == scan_id:
            # many images are of one size: from now on this mask is known to be of this one
            labels.metadata.setdefault(KEY, {}).setdefault("scan", scan_id)
        return NapariStack(self._viewer, labels, scan, slices_of(labels).axis if len(shape) == 3 else 0)

    def _scan_of(self, labels: Labels, shape: tuple[int, ...], scan_id: str | None) -> Layer:
        """Return the image layer that ``labels`` lie on: the one it was made for, else one of the same size."""
        scans = [layer for layer in self._viewer.layers if is_scan(layer) and grid_shape(layer) == shape]
        for wanted in (own_metadata(labels).get("scan"), scan_id):
            for layer in scans:
                if layer_id(layer) == wanted:
                    return layer
        if scans:
            return scans[-1]
        size = " × ".join(str(n) for n in reversed(shape))
        raise InputError(f"No open scan has the size of '{labels.name}' ({size}); open the scan it belongs to.")

    def scan(self, scan_id: str) -> Volume:
        return volume_from_layer(find_layer(self._viewer, scan_id, "The scan's layer is gone; choose another one."))

    def make_mask(self, scan_id: str, classes: Classes, model: str = "") -> str:
        scan = find_layer(self._viewer, scan_id, "The scan's layer is gone; choose another one.")
        layer = Labels(
            room(grid_shape(scan), np.uint8 if max((value for value, _, _ in classes), default=0) < 255 else np.uint16),
            name=free_name(self._viewer, f"{scan.name} · mask"),
            metadata={KEY: {"scan": layer_id(scan), "scan_name": scan.name, **({"digest": model} if model else {})}},
            **(class_style(classes) if classes else {}),
            **placement(scan),
        )
        if classes:
            set_classes(layer, classes)
            layer.selected_label = classes[0][0]
        leave_tools_for_later(layer)
        self._viewer.add_layer(layer)
        return layer_id(layer)

    def here(self, stack: Any) -> int | None:
        plane = self._masks.plane_on_show(stack.id)
        return None if plane is None or plane[0] != stack.axis else plane[1]

    def show(self, stack: Any, z: int) -> None:
        layer = find_layer(self._viewer, stack.id, _GONE)
        if layer.ndim < 3:
            return
        dims = self._viewer.dims
        axis = dims.ndim - layer.ndim + stack.axis
        if axis in dims.displayed:  # cut another way, or in 3-D
            dims.ndisplay = 2
            dims.order = (axis, *(other for other in range(dims.ndim) if other != axis))
        here = np.asarray(layer.world_to_data(np.asarray(dims.point, dtype=float)), dtype=float)
        here[stack.axis] = z
        # set_point is in world coordinates, and the layer may lie anywhere in the world
        dims.set_point(axis, float(layer.data_to_world(here)[stack.axis]))

    def show_change(self, stack: Any, z: int, after: Array) -> tuple[int, int]:
        labels = find_layer(self._viewer, stack.id, _GONE)
        if self._change is None or self._change not in self._viewer.layers:
            self._change = self._new_change(labels)
        before, new = stack.labels(z), np.asarray(after)
        change = np.where((new != before) & (new != 0), _ADDED, np.where(new != before, _TAKEN, 0)).astype(np.uint8)
        grid = SliceGrid(tuple(self._change.data.shape), stack.axis)
        self._change.data[grid.index(z)] = change
        self._change.refresh(thumbnail=False, extent=False)
        return int(np.count_nonzero(change == _ADDED)), int(np.count_nonzero(change == _TAKEN))

    def _new_change(self, labels: Labels) -> Labels:
        layer = Labels(
            room(tuple(labels.data.shape), np.uint8),
            name=free_name(self._viewer, "what the new model changes"),
            metadata={KEY: {"role": CHANGE}},
            opacity=0.8,
            **class_style(_CHANGES),
            **placement(labels),
        )
        layer.editable = False
        leave_tools_for_later(layer)
        add_unselected(self._viewer, layer)
        return layer

    def drop_change(self) -> None:
        change, self._change = self._change, None
        if change is not None and change in self._viewer.layers:
            active = self._viewer.layers.selection.active
            self._viewer.layers.remove(change)
            if active is not None and active in self._viewer.layers:
                self._viewer.layers.selection.active = active

    def toggle(self, stack: Any) -> None:
        layer = find_layer(self._viewer, stack.id, _GONE)
        layer.visible = not layer.visible

    def bind(self, keys: Mapping[str, Callable[[], None]]) -> list[str]:
        taken = []
        for key, call in keys.items():
            try:
                self._viewer.bind_key(key, lambda viewer, call=call: call())
                self._bound.append(key)
            except ValueError:  # a person, or another plugin, has bound it
                taken.append(key)
        return taken

    def connect(
        self, on_layers: Callable[[], None], on_edit: Callable[[str], None], on_move: Callable[[], None]
    ) -> None:
        self._on_move = on_move
        self._masks.connect(on_layers, on_edit)
        for name in ("point", "order", "ndisplay"):
            getattr(self._viewer.dims.events, name).connect(self._moved)

    def disconnect(self) -> None:
        self._on_move = None
        self._masks.disconnect()
        for name in ("point", "order", "ndisplay"):
            getattr(self._viewer.dims.events, name).disconnect(self._moved)
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound.clear()

    def _moved(self, event: Any = None) -> None:
        if self._on_move is not None:
            self._on_move()
