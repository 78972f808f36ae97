"""The viewer's labels layers as controllers see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels, Layer

from napari_llm4seg.errors import InputError
from napari_llm4seg.gui import steps
from napari_llm4seg.gui.controllers.ports import ExportSource, MaskInfo
from napari_llm4seg.gui.grid import SliceGrid, frame_kind, n_frames, on_show
from napari_llm4seg.gui.layers import (
    classes_of,
    find_layer,
    in_mm,
    is_mask,
    layer_id,
    n_slices,
    own_metadata,
    plane_on_show,
    slice_on_show,
    volume_from_layer,
    words_of,
)
from napari_llm4seg.gui.watch import LayerWatch
from napari_llm4seg.gui.writing import export_source
from napari_llm4seg.volume import Volume

Box = tuple[slice, slice, slice]

# What napari emits when a labels layer's voxels change: the brush and its like, and a new array.
_EDITS = ("paint", "data", "labels_update")
# Undo and redo only redraw; what moved is told by the lengths of napari's two histories.
_HISTORIES = ("_undo_history", "_redo_history")


class NapariMasks:
    """``MaskPort`` on a napari ``ViewerModel``; needs no window.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._watch = LayerWatch(
            viewer, self._follow, Labels, {**dict.fromkeys(_EDITS, self._edited), "set_data": self._redrawn}
        )
        self._on_edit: Callable[[str], None] | None = None
        self._steps: dict[str, list[int]] = {}

    def masks(self) -> list[MaskInfo]:
        scans = self._scans()
        return [_info(layer, scans) for layer in self._viewer.layers if is_mask(layer)]

    def _scans(self) -> dict[str, Layer]:
        return {layer_id(layer): layer for layer in self._viewer.layers if not isinstance(layer, Labels)}

    def selected_mask(self) -> str | None:
        active = self._viewer.layers.selection.active
        return layer_id(active) if active is not None and is_mask(active) else None

    def current_slice(self, layer_id: str) -> int:
        return slice_on_show(self._viewer, self._layer(layer_id))

    def frame_on_show(self, layer_id: str) -> tuple[int, str]:
        layer = self._layer(layer_id)
        frame, count = on_show(self._viewer, layer)[0], n_frames(layer)
        return frame, f"{frame_kind(layer)} {frame + 1} of {count}" if count > 1 else ""

    def volume(self, layer_id: str) -> Volume:
        layer = self._layer(layer_id)
        volume = volume_from_layer(layer, on_show(self._viewer, layer)[0])
        if isinstance(layer, Labels) and classes_of(layer):
            return volume.with_data(volume.data, metadata={**volume.metadata, "classes": classes_of(layer)})
        return volume

    def export_source(self, mask_id: str) -> ExportSource:
        """Return the labels (a copy, unless they are lazy), the scan, and whether the labels were edited.

        Of a mask of several time points or channels, those of the one on show.

        Raises
        ------
        InputError
            If the layer is gone or is no volume.
        """
        layer = self._layer(mask_id)
        scan = self._scans().get(str(own_metadata(layer).get("scan")))
        frame = on_show(self._viewer, layer)[0] if n_frames(layer) > 1 else None
        return export_source(layer, scan, frame)

    def plane_on_show(self, layer_id: str) -> tuple[int, int] | None:
        return plane_on_show(self._viewer, self._layer(layer_id))

    def replace_labels(self, mask_id: str, labels: npt.NDArray[Any], box: Box | None = None, frame: int = 0) -> int:
        """Make the mask's voxels ``labels`` (Z, Y, X) in one undo step; return how many changed.

        Parameters
        ----------
        mask_id : str
        labels : array (Z, Y, X)
            Of the part ``box`` alone where that is given.
        box : tuple of slice along (z, y, x), optional
            The part of the mask to write to.
        frame : int
            Of a mask of several time points or channels.

        Raises
        ------
        InputError
            If the layer is gone or has another shape by now.
        """
        layer = self._layer(mask_id)
        lead = SliceGrid(layer.data.shape).frame(frame)
        stack = layer.data[lead] if layer.data.ndim > 2 else layer.data[None]
        part = stack if box is None else stack[box]
        if labels.shape != part.shape:
            raise InputError(f"'{layer.name}' has the shape {layer.data.shape} now; the change was for another one.")
        where = np.nonzero(np.asarray(part) != labels)
        if where[0].size:
            shift = [0, 0, 0] if box is None else [axis.start for axis in box]
            space = [axis + more for axis, more in zip(where, shift, strict=True)][3 - layer.data.ndim + len(lead) :]
            indices = (*(np.full_like(where[0], at) for at in lead), *space)
            layer.data_setitem(indices, labels[where].astype(layer.data.dtype))
        return int(where[0].size)

    def note_step(self, mask_id: str, words: str) -> None:
        """Keep with the layer that its newest undo step was this one, until that is taken back."""
        steps.note(self._layer(mask_id), words)

    def connect(self, on_change: Callable[[], None], on_edit: Callable[[str], None]) -> None:
        self._on_edit = on_edit
        self._watch.connect(on_change)

    def disconnect(self) -> None:
        self._on_edit = None
        self._watch.disconnect()

    def _follow(self, layer: Layer, there: bool) -> None:
        if isinstance(layer, Labels):
            self._steps[layer_id(layer)] = _steps(layer)
            if not there:
                del self._steps[layer_id(layer)]

    def _redrawn(self, event: Any) -> None:
        steps = _steps(event.source)
        if steps != self._steps.get(layer_id(event.source)):
            self._edited(event)

    def _edited(self, event: Any) -> None:
        self._steps[layer_id(event.source)] = _steps(event.source)
        steps.follow(event.source)
        if self._on_edit is not None:
            self._on_edit(layer_id(event.source))

    def _layer(self, wanted: str) -> Layer:
        return find_layer(self._viewer, wanted, "That layer is gone; choose another one.")


def _steps(layer: Labels) -> list[int]:
    return [len(getattr(layer, name, ())) for name in _HISTORIES]


def _info(layer: Labels, scans: Mapping[str, Layer]) -> MaskInfo:
    scan = scans.get(str(own_metadata(layer).get("scan")))
    return MaskInfo(
        id=layer_id(layer),
        name=layer.name,
        words=words_of(layer),
        n_slices=n_slices(layer),
        classes=classes_of(layer),
        scan_id=layer_id(scan) if scan is not None else None,
        in_mm=in_mm(layer),
        from_dicom=any("dicom" in one.metadata for one in (scan, layer) if one is not None),
    )
