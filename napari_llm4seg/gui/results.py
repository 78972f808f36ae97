"""Where a run's slices go: a new layer, or ours from before as long as nobody has edited it.

What this plugin wrote is kept as one digest per slice in the layer's metadata. A slice whose content digests to
something else was edited by the person, however (brush, undo, another plugin), and is never written over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer

from napari_llm4seg.digests import mask_digest
from napari_llm4seg.gui.controllers.ports import ResultSpec, SlicePart
from napari_llm4seg.gui.entering import add_unselected, leave_tools_for_later
from napari_llm4seg.gui.grid import SliceGrid, grid_shape
from napari_llm4seg.gui.layers import KEY, class_style, file_metadata, layer_id, own_metadata, placement
from napari_llm4seg.scratch import room

Array = npt.NDArray[Any]

_EMPTY = ""
# A reslice for axes other than the run's, or in 3-D, reads the whole volume: not more often than this.
_WHOLE_REFRESH_SECONDS = 1.0


def slices_of(layer: Layer) -> SliceGrid:
    """Return how the slices of a result are counted: along the axis of the run that made it."""
    return SliceGrid(tuple(layer.data.shape), int(own_metadata(layer).get("axis", 0)))


def written(layer: Labels) -> dict[int, str]:
    """Return the digests of the slices this plugin wrote; changes to it are kept in the layer."""
    kept: dict[int, str] = own_metadata(layer).setdefault("written", {})
    return kept


def edited(layer: Labels, slices: Sequence[int] | None = None) -> bool:
    """Return whether any of ``slices`` (default: all) holds something that this plugin did not write."""
    grid, known = slices_of(layer), written(layer)
    return any(
        mask_digest(layer.data[grid.index(z)]) != known.get(z, _EMPTY)
        for z in (range(len(grid)) if slices is None else slices)
    )


def free_name(viewer: Any, wanted: str) -> str:
    """Return ``wanted``, or with " [2]", " [3]" ... where a layer of that name exists."""
    taken = {layer.name for layer in viewer.layers}
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted} [{number}]", number + 1
    return name


@dataclass
class _Channel:
    """Probabilities of one class: the array is there from the start, its layer as soon as it was made."""

    name: str
    array: Array
    layer: Image | None = None
    created: bool = True
    # What undo puts back.
    old_slices: dict[int, Array] = field(default_factory=dict)


class Result:
    """``ResultHandle`` on napari layers; make it with ``begin``."""

    def __init__(self, viewer: Any, labels: Labels, created: bool, spec: ResultSpec) -> None:
        self._viewer, self._labels, self._created, self._spec = viewer, labels, created, spec
        # Until the labels are in the viewer: what is still to be done.
        self._entering = [self._enter, self._select] if created else []
        self._entered = not created
        self._grid = slices_of(labels)
        self._old_digests = dict(written(labels))
        self._old_provenance = own_metadata(labels).get("provenance")
        self._old_slices: dict[int, Array] = {}
        self._channels = [self._channel(name) for name in spec.channels]
        self._done: list[int] = []
        self._next_refresh = 0.0
        self._step = not created and spec.slices is not None
        self.kept: list[int] = []
        if not created and spec.slices is None:
            # Makes napari forget its undo steps: they would put single slices of an older run back.
            labels.data = labels.data

    @property
    def id(self) -> str:
        return layer_id(self._labels)

    @property
    def name(self) -> str:
        return str(self._labels.name)

    def alive(self) -> bool:
        return not self._entered or self._labels in self._viewer.layers

    def write(self, part: SlicePart) -> None:
        """Put one slice where it belongs, unless the person has painted there since the run began."""
        if not self.alive():
            return
        if edited(self._labels, [part.z]):
            self.kept.append(part.z)
            return
        target = self._labels.data[self._grid.index(part.z)]
        if not self._created:
            self._old_slices[part.z] = target.copy()
        if self._step:
            self._set_as_step(part.z, part.labels)
        else:
            target[...] = part.labels
        written(self._labels)[part.z] = mask_digest(target)
        if part.evidence is not None:
            own_metadata(self._labels).setdefault("evidence", {})[part.z] = part.evidence
        self._done.append(part.z)
        self._show(self._labels, part.z)
        if part.probabilities is not None:
            self._write_probabilities(part.z, part.probabilities)

    def _write_probabilities(self, z: int, probabilities: Array) -> None:
        for channel, values in zip(self._channels, probabilities, strict=True):
            target = channel.array[self._grid.index(z)]
            if not channel.created:
                channel.old_slices[z] = target.copy()
            target[...] = values
            if channel.layer is not None and channel.layer in self._viewer.layers:
                self._show(channel.layer, z)

    @property
    def ready(self) -> bool:
        return self._entered and all(channel.layer is not None for channel in self._channels)

    def prepare(self) -> bool:
        """Do the next thing that is missing, what slices are written to first; return whether more are."""
        missing = [channel for channel in self._channels if channel.layer is None]
        if not self.alive():
            return False
        if self._entered and missing:
            self._make(missing.pop(0))
        elif self._entering:
            self._entering.pop(0)()
        return bool(self._entering or missing)

    def _enter(self) -> None:
        leave_tools_for_later(self._labels)
        add_unselected(self._viewer, self._labels)
        self._entered = True

    def _select(self) -> None:
        self._viewer.layers.selection.active = self._labels

    def _make(self, channel: _Channel) -> None:
        layer = Image(
            channel.array,
            name=free_name(self._viewer, f"{own_metadata(self._labels)['scan_name']} · prob · {channel.name}"),
            colormap="inferno",
            blending="additive",
            contrast_limits=(0.0, 1.0),
            metadata={KEY: {"role": "probability", "of": self.id, "class": channel.name}},
            **placement(self._labels),
        )
        add_unselected(self._viewer, layer, self._viewer.layers.index(self._labels))
        channel.layer = layer

    def _channel(self, name: str) -> _Channel:
        """Return where the probabilities of class ``name`` go: the layer from before, or one still to be made."""
        for layer in self._viewer.layers:
            about = own_metadata(layer)
            if about.get("role") == "probability" and about.get("of") == self.id and about.get("class") == name:
                return _Channel(name, layer.data, layer, False)
        return _Channel(name, room(self._labels.data.shape, np.float32))

    def _show(self, layer: Layer, z: int) -> None:
        """Redraw ``layer`` if slice ``z`` is on the screen; other slices are read when they get there."""
        dims = self._viewer.dims
        index = self._grid.index(z)
        fixed = {axis: at for axis, at in enumerate(index) if not isinstance(at, slice)}
        before = dims.ndim - layer.ndim
        if any(axis + before in dims.displayed for axis in fixed):  # cut another way, or in 3-D
            if time.monotonic() < self._next_refresh:
                return
            self._next_refresh = time.monotonic() + _WHOLE_REFRESH_SECONDS
        elif fixed:
            here = layer.world_to_data(np.asarray(dims.point, dtype=float))
            if any(round(float(here[axis])) != at for axis, at in fixed.items()):
                return
        layer.refresh(thumbnail=False, highlight=False, extent=False)

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Note what made the slices and draw everything once more."""
        if not self.alive():
            return
        about = own_metadata(self._labels)
        about["provenance"] = {**provenance, "slices_written": sorted(self._done)}
        for layer in (self._labels, *(channel.layer for channel in self._channels)):
            if layer is not None and layer in self._viewer.layers:
                layer.refresh(highlight=False, extent=False)

    def undo(self) -> bool:
        """Take the run back; False, and nothing changes, where the labels were edited since."""
        layer = self._labels
        if not self.alive() or edited(layer, None if self._created else self._done):
            return not self.alive()
        if self._created and self._entered:
            self._viewer.layers.remove(layer)
            self._select_scan()
        for z, old in self._old_slices.items():
            if self._step:
                self._set_as_step(z, old)
            else:
                layer.data[self._grid.index(z)] = old
        if not self._created:
            about = own_metadata(layer)
            about["written"] = dict(self._old_digests)
            about["provenance"] = self._old_provenance
            layer.refresh()
        for channel in self._channels:
            self._restore(channel)
        return True

    def _select_scan(self) -> None:
        """Leave the person on the scan rather than on nothing."""
        wanted = own_metadata(self._labels).get("scan")
        for layer in self._viewer.layers:
            if layer_id(layer) == wanted:
                self._viewer.layers.selection.active = layer

    def _restore(self, channel: _Channel) -> None:
        image = channel.layer
        if image is None or image not in self._viewer.layers:
            return
        if channel.created:
            self._viewer.layers.remove(image)
            return
        for z, old in channel.old_slices.items():
            image.data[self._grid.index(z)] = old
        image.refresh()

    def _set_as_step(self, z: int, values: Array) -> None:
        """Set slice ``z`` as one step of napari's own undo history."""
        layer = self._labels
        rows, columns = np.nonzero(layer.data[self._grid.index(z)] != values)
        if rows.size:
            new = np.asarray(values)[rows, columns].astype(layer.data.dtype)
            layer.data_setitem(self._grid.where(z, rows, columns), new)


def begin(viewer: Any, scan: Layer, spec: ResultSpec) -> Result:
    """Return where the slices of a run on ``scan`` go; a new layer comes into the viewer with the calls of ``prepare``.

    A layer made by the same model for the same scan is used again if the slices to be written (all of them, for a
    whole scan) are as this plugin left them; otherwise a new one is made, numbered from " [2]".
    """
    shape = grid_shape(scan)
    slices = spec.slices if len(SliceGrid(shape, spec.axis)) > 1 else (0,)
    for layer in viewer.layers:
        about = own_metadata(layer)
        if (
            isinstance(layer, Labels)
            and about.get("role") == "result"
            and about.get("scan") == layer_id(scan)
            and about.get("digest") == spec.digest
            and about.get("axis", 0) == spec.axis
            and isinstance(layer.data, np.ndarray)
            and layer.data.shape == shape
            and not edited(layer, slices)
        ):
            return Result(viewer, layer, False, replace(spec, slices=slices))
    return Result(viewer, _new_labels(viewer, scan, spec, shape), True, replace(spec, slices=slices))


def _new_labels(viewer: Any, scan: Layer, spec: ResultSpec, shape: tuple[int, ...]) -> Labels:
    largest = max(value for value, _, _ in spec.classes)
    about = {
        "role": "result",
        "scan": layer_id(scan),
        "scan_name": scan.name,
        "model": spec.model,
        "digest": spec.digest,
        "classes": spec.classes,
        "written": {},
        "axis": spec.axis,
    }
    kept = file_metadata(scan)
    layer = Labels(
        room(shape, np.uint8 if largest < 256 else np.uint16),
        name=free_name(viewer, f"{scan.name} · seg · {spec.model}"),
        metadata={**kept, KEY: {**kept.get(KEY, {}), **about}},
        **class_style(spec.classes),
        **placement(scan),
    )
    layer.selected_label = spec.classes[0][0]
    return layer
