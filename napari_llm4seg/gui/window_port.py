"""What an image layer shows from black to white."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image

from napari_llm4seg.gui.controllers.ports import WindowInfo
from napari_llm4seg.gui.grid import SliceGrid
from napari_llm4seg.gui.layers import find_layer, is_scan, layer_id, modality_of, own_metadata
from napari_llm4seg.gui.watch import LayerWatch
from napari_llm4seg.windows import is_ct, percentile_limits

# Values that percentiles are taken of; more change nothing that can be seen.
_SAMPLE = 1 << 20


class NapariWindows:
    """``WindowPort`` on a napari ``ViewerModel``; needs no window.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._watch = LayerWatch(viewer, kind=Image, events={"contrast_limits": self._changed})
        self._on_change: Callable[[], None] | None = None
        # By scan: whether it is CT, and what was shown when it was seen first.
        self._first: dict[str, tuple[bool, tuple[float, ...]]] = {}

    def window(self, scan_id: str) -> WindowInfo | None:
        layer: Any = next((each for each in self._viewer.layers if layer_id(each) == scan_id), None)
        if layer is None or not _has_window(layer):
            return None
        low, high = (float(limit) for limit in layer.contrast_limits)
        widest = tuple(float(limit) for limit in layer.contrast_limits_range)
        if scan_id not in self._first:  # what is shown later says nothing of what there is
            ct = bool(own_metadata(layer).get("ct")) or is_ct(modality_of(layer), low)
            self._first[scan_id] = ct, (low, high) if _unknown(layer, widest) else widest
        ct, whole = self._first[scan_id]
        return WindowInfo(ct, (low, high), (low, high) in (whole, widest))

    def show_window(self, scan_id: str, limits: tuple[float, float]) -> None:
        self._layer(scan_id).contrast_limits = limits

    def show_full(self, scan_id: str) -> tuple[float, float]:
        layer = self._layer(scan_id)
        layer.reset_contrast_limits_range()
        layer.reset_contrast_limits()
        return _limits(layer)

    def show_percentiles(self, scan_id: str) -> tuple[float, float]:
        layer = self._layer(scan_id)
        limits = percentile_limits(_sample(layer))
        if limits is not None:
            layer.contrast_limits = limits
        return _limits(layer)

    def connect(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._watch.connect(on_change)

    def disconnect(self) -> None:
        self._watch.disconnect()
        self._on_change = None

    def _changed(self, event: Any = None) -> None:
        if self._on_change is not None:
            self._on_change()

    def _layer(self, scan_id: str) -> Any:
        return find_layer(self._viewer, scan_id, "The scan's layer is gone; choose another one.")


def _limits(layer: Any) -> tuple[float, float]:
    low, high = layer.contrast_limits
    return float(low), float(high)


def _has_window(layer: Any) -> bool:
    """Return whether it makes a difference which values are shown: not in colour, nor with 8 bits."""
    data = layer.data[0] if layer.multiscale else layer.data
    return is_scan(layer) and not layer.rgb and np.dtype(data.dtype).kind in "iuf" and np.dtype(data.dtype).itemsize > 1


def _unknown(layer: Any, widest: tuple[float, ...]) -> bool:
    """Return whether napari knows no more of the values than their dtype, as of scans that are not in memory."""
    data = layer.data[0] if layer.multiscale else layer.data
    dtype = np.dtype(data.dtype)
    return dtype.kind in "iu" and widest == (np.iinfo(dtype).min, np.iinfo(dtype).max)


def _sample(layer: Any) -> Any:
    """Return values from all over the layer, or from its middle slice where it is not in memory."""
    data = layer.data[-1] if layer.multiscale else layer.data
    if not isinstance(data, np.ndarray):
        grid = SliceGrid(tuple(data.shape))
        return np.asarray(data[grid.index(len(grid) // 2)])
    step = max(1, round((data.size / _SAMPLE) ** (1 / data.ndim)))
    return data[(slice(None, None, step),) * data.ndim]
