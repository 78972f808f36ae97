"""The viewer as controllers see it: image layers, the slice on show and where results go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari.layers import Image, Layer

from napari_llm4seg.gui.controllers.ports import ResultSpec, ScanInfo
from napari_llm4seg.gui.grid import frame_kind, frames_in_words, n_frames, n_slices, on_show, stack_of
from napari_llm4seg.gui.layer_tuples import layers_of
from napari_llm4seg.gui.layers import (
    find_layer,
    is_scan,
    layer_id,
    look_of,
    modality_of,
    notes_of,
    problem_of,
    volume_from_layer,
    words_of,
)
from napari_llm4seg.gui.results import Result, begin
from napari_llm4seg.gui.watch import LayerWatch
from napari_llm4seg.io import TimeStack
from napari_llm4seg.volume import Volume


class NapariPort:
    """``ViewerPort`` on a napari ``ViewerModel``; needs no window.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._watch = LayerWatch(viewer)

    def scans(self) -> list[ScanInfo]:
        return [_info(layer) for layer in self._viewer.layers if is_scan(layer)]

    def selected_scan(self) -> str | None:
        active = self._viewer.layers.selection.active
        return layer_id(active) if active is not None and is_scan(active) else None

    def on_show(self, scan_id: str, axis: int = 0) -> tuple[int, int]:
        return on_show(self._viewer, self._layer(scan_id), axis)

    def volume(self, scan_id: str, frame: int = 0) -> Volume:
        return volume_from_layer(self._layer(scan_id), frame)

    def begin_result(self, scan_id: str, spec: ResultSpec) -> Result:
        return begin(self._viewer, self._layer(scan_id), spec)

    def add_volumes(self, volumes: Sequence[Volume | TimeStack]) -> None:
        """Add the volumes as layers, the first image selected."""
        added = [self._viewer.add_layer(Layer.create(*item)) for item in layers_of(volumes)]
        images = [layer for layer in added if isinstance(layer, Image)]
        if images:
            self._viewer.layers.selection.active = images[0]

    def show_case(self, volumes: Sequence[Volume]) -> None:
        """Add a scan and its mask and look at them alone: other layers are hidden, the view fits."""
        for layer in self._viewer.layers:
            layer.visible = False
        before = set(self._viewer.layers)
        self.add_volumes(volumes)
        for layer in self._viewer.layers:
            layer.visible = layer not in before
        self._viewer.reset_view()

    def connect(self, on_change: Callable[[], None]) -> None:
        self._watch.connect(on_change)

    def disconnect(self) -> None:
        self._watch.disconnect()

    def _layer(self, scan_id: str) -> Layer:
        return find_layer(self._viewer, scan_id, "The scan's layer is gone; choose another one.")


def _info(layer: Layer) -> ScanInfo:
    return ScanInfo(
        id=layer_id(layer),
        name=layer.name,
        words=words_of(layer),
        n_slices=n_slices(layer),
        modality=modality_of(layer),
        problem=problem_of(layer),
        look=look_of(layer),
        frames=n_frames(layer),
        frame_words=frames_in_words(layer),
        frame_kind=frame_kind(layer),
        stack_of=stack_of(layer),
        notes=notes_of(layer),
    )
