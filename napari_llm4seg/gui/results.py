"""Where a run's slices go: a new layer, or ours from before as long as nobody has edited it.

What this plugin wrote is kept as one digest per slice in the layer's metadata. A slice whose content digests to
something else was edited by the person, however (brush, undo, another plugin), and is never written over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer

from napari_llm4seg.gui.controllers.ports import ResultSpec, SlicePart
from napari_llm4seg.gui.layers import KEY, class_style, grid_shape, layer_id, own_metadata, placement

Array = npt.NDArray[Any]

_EMPTY = ""
# A reslice for axes other than the run's, or in 3-D, reads the whole volume: not more often than this.
_WHOLE_REFRESH_SECONDS = 1.0


def digest(slice_: Array) -> str:
    """Return what tells whether a slice of labels changed; an empty slice gives an empty string."""
    if not slice_.any():
        return _EMPTY
    return blake2b(np.ascontiguousarray(slice_).data, digest_size=12).hexdigest()


def stack(layer: Layer) -> Array:
    """Return the layer's array as (Z, Y, X), a view into it."""
    data: Array = layer.data
    return data if data.ndim == 3 else data[None]


def written(layer: Labels) -> dict[int, str]:
    """Return the digests of the slices this plugin wrote; changes to it are kept in the layer."""
    kept: dict[int, str] = own_metadata(layer).setdefault("written", {})
    return kept


def edited(layer: Labels, slices: Sequence[int] | None = None) -> bool:
    """Return whether any of ``slices`` (default: all) holds something that this plugin did not write."""
    data, known = stack(layer), written(layer)
    return any(digest(data[z]) != known.get(z, _EMPTY) for z in (range(len(data)) if slices is None else slices))


def free_name(viewer: Any, wanted: str) -> str:
    """Return ``wanted``, or with " [2]", " [3]" ... where a layer of that name exists."""
    taken = {layer.name for layer in viewer.layers}
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted} [{number}]", number + 1
    return name


@dataclass
class _Before:
    """What the run changed in a layer it did not make: the array it replaced, or single slices."""

    array: Array | None = None
    slices: dict[int, Array] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    provenance: Any = None


class Result:
    """``ResultHandle`` on napari layers; make it with ``begin``."""

    def __init__(self, viewer: Any, labels: Labels, created: bool, spec: ResultSpec) -> None:
        self._viewer, self._labels, self._created, self._spec = viewer, labels, created, spec
        self._probabilities: list[tuple[Image, bool, _Before]] = []
        self._before = _Before(digests=dict(written(labels)), provenance=own_metadata(labels).get("provenance"))
        self._done: list[int] = []
        self._next_refresh = 0.0
        self._step = not created and spec.slices is not None
        self.kept: list[int] = []
        if not created and spec.slices is None:
            # The old array stays as it is for undo; the layer gets a copy, so slices not reached keep their mask.
            self._before.array = labels.data
            labels.data = labels.data.copy()

    @property
    def id(self) -> str:
        return layer_id(self._labels)

    @property
    def name(self) -> str:
        return str(self._labels.name)

    def alive(self) -> bool:
        return self._labels in self._viewer.layers

    def write(self, part: SlicePart) -> None:
        """Put one slice where it belongs, unless the person has painted there since the run began."""
        if not self.alive():
            return
        if edited(self._labels, [part.z]):
            self.kept.append(part.z)
            return
        target = stack(self._labels)[part.z]
        if self._step:
            self._before.slices[part.z] = target.copy()
            _set_as_step(self._labels, part.z, part.labels)
        else:
            target[...] = part.labels
        written(self._labels)[part.z] = digest(target)
        self._done.append(part.z)
        self._show(self._labels, part.z)
        if part.probabilities is not None and self._spec.channels:
            self._write_probabilities(part)

    def _write_probabilities(self, part: SlicePart) -> None:
        assert part.probabilities is not None
        if not self._probabilities:
            self._probabilities = [self._probability_layer(name) for name in self._spec.channels]
        for (layer, created, before), values in zip(self._probabilities, part.probabilities, strict=True):
            if layer not in self._viewer.layers:
                continue
            target = stack(layer)[part.z]
            if not created and before.array is None:
                before.slices[part.z] = target.copy()
            target[...] = values
            self._show(layer, part.z)

    def _probability_layer(self, channel: str) -> tuple[Image, bool, _Before]:
        mine = own_metadata(self._labels)
        for layer in self._viewer.layers:
            about = own_metadata(layer)
            if about.get("role") == "probability" and about.get("of") == self.id and about.get("class") == channel:
                before = _Before()
                if self._spec.slices is None:
                    before.array = layer.data
                    layer.data = layer.data.copy()
                return layer, False, before
        layer = Image(
            np.zeros(self._labels.data.shape, dtype=np.float32),
            name=free_name(self._viewer, f"{mine['scan_name']} · prob · {channel}"),
            colormap="inferno",
            blending="additive",
            contrast_limits=(0.0, 1.0),
            metadata={KEY: {"role": "probability", "of": self.id, "class": channel}},
            **placement(self._labels),
        )
        active = self._viewer.layers.selection.active
        self._viewer.layers.insert(self._viewer.layers.index(self._labels), layer)
        self._viewer.layers.selection.active = active
        return layer, True, _Before()

    def _show(self, layer: Layer, z: int) -> None:
        """Redraw ``layer`` if slice ``z`` is on the screen; other slices are read when they get there."""
        dims = self._viewer.dims
        axis = dims.ndim - 3
        sliced = layer.ndim == 2 or (dims.ndisplay == 2 and axis not in dims.displayed)
        if not sliced:
            if time.monotonic() < self._next_refresh:
                return
            self._next_refresh = time.monotonic() + _WHOLE_REFRESH_SECONDS
        elif layer.ndim == 3:
            here = round(float(layer.world_to_data(np.asarray(dims.point, dtype=float))[0]))
            if here != z:
                return
        layer.refresh(thumbnail=False, highlight=False, extent=False)

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Note what made the slices and draw everything once more."""
        if not self.alive():
            return
        about = own_metadata(self._labels)
        about["provenance"] = {**provenance, "slices_written": sorted(self._done)}
        for layer in (self._labels, *(layer for layer, _, _ in self._probabilities)):
            if layer in self._viewer.layers:
                layer.refresh(highlight=False, extent=False)

    def undo(self) -> bool:
        """Take the run back; False, and nothing changes, where the labels were edited since."""
        layer = self._labels
        if not self.alive() or edited(layer, None if self._created else self._done):
            return not self.alive()
        if self._created:
            self._viewer.layers.remove(layer)
        elif self._before.array is not None:
            layer.data = self._before.array
        else:
            for z, old in self._before.slices.items():
                _set_as_step(layer, z, old)
        if not self._created:
            about = own_metadata(layer)
            about["written"] = dict(self._before.digests)
            about["provenance"] = self._before.provenance
            layer.refresh()
        for image, created, before in self._probabilities:
            if image in self._viewer.layers:
                self._restore_image(image, created, before)
        return True

    def _restore_image(self, image: Image, created: bool, before: _Before) -> None:
        if created:
            self._viewer.layers.remove(image)
            return
        if before.array is not None:
            image.data = before.array
        for z, old in before.slices.items():
            stack(image)[z] = old
        image.refresh()


def _set_as_step(layer: Labels, z: int, values: Array) -> None:
    """Set slice ``z`` as one step of napari's own undo history."""
    rows, columns = np.nonzero(stack(layer)[z] != values)
    if rows.size == 0:
        return
    where = (rows, columns) if layer.data.ndim == 2 else (np.full_like(rows, z), rows, columns)
    layer.data_setitem(where, np.asarray(values)[rows, columns].astype(layer.data.dtype))


def begin(viewer: Any, scan: Layer, spec: ResultSpec) -> Result:
    """Return where the slices of a run on ``scan`` go.

    A layer made by the same model for the same scan is used again if the slices to be written (all of them, for a
    whole scan) are as this plugin left them; otherwise a new one is made, numbered from " [2]".
    """
    shape = grid_shape(scan)
    slices = spec.slices if len(shape) == 3 else (0,)
    for layer in viewer.layers:
        about = own_metadata(layer)
        if (
            isinstance(layer, Labels)
            and about.get("role") == "result"
            and about.get("scan") == layer_id(scan)
            and about.get("digest") == spec.digest
            and isinstance(layer.data, np.ndarray)
            and layer.data.shape == shape
            and not edited(layer, slices)
        ):
            return Result(viewer, layer, False, _with_slices(spec, slices))
    return Result(viewer, _new_labels(viewer, scan, spec, shape), True, _with_slices(spec, slices))


def _with_slices(spec: ResultSpec, slices: tuple[int, ...] | None) -> ResultSpec:
    return ResultSpec(spec.model, spec.digest, spec.classes, slices, spec.channels)


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
    }
    layer = Labels(
        np.zeros(shape, dtype=np.uint8 if largest < 256 else np.uint16),
        name=free_name(viewer, f"{scan.name} · seg · {spec.model}"),
        metadata={KEY: about},
        **class_style(spec.classes),
        **placement(scan),
    )
    layer.selected_label = spec.classes[0][0]
    viewer.add_layer(layer)
    return layer
