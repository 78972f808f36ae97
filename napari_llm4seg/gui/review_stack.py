"""A mask under review and its scan: which slices a stroke touched, what the model wrote, what a new one writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels, Layer

from napari_llm4seg.corrections import ModelMask
from napari_llm4seg.corrections.suggest import Evidence
from napari_llm4seg.digests import mask_digest
from napari_llm4seg.errors import Cancelled
from napari_llm4seg.gui import steps
from napari_llm4seg.gui.controllers.ports import ResultSpec
from napari_llm4seg.gui.controllers.review_ports import Classes, Surveyed
from napari_llm4seg.gui.grid import SliceGrid
from napari_llm4seg.gui.layers import (
    KEY,
    classes_of,
    layer_id,
    own_metadata,
    set_classes,
    volume_from_layer,
)
from napari_llm4seg.gui.results import free_name, written
from napari_llm4seg.planes import turned
from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]

# Under this name a mask that no model wrote keeps what its slices held when it was met.
_FOUND = "found"
# And under this one what a clean-up made of slices that nobody had edited.
_TIDIED = "tidied"


class NapariStack:
    """``Stack`` on a Labels and an Image layer; it holds both, so that nothing is lost when they leave the viewer."""

    def __init__(self, viewer: Any, labels: Labels, scan: Layer, axis: int) -> None:
        self._viewer, self._labels = viewer, labels
        self.id, self.name, self.scan_id, self.axis = layer_id(labels), str(labels.name), layer_id(scan), axis
        self.scan: Volume = volume_from_layer(scan)
        self._turned = turned(self.scan, axis)
        self._shape = tuple(labels.data.shape)
        self._grid = SliceGrid(self._shape, axis)
        self._lengths = _lengths(labels)
        self._undone = False

    def __len__(self) -> int:
        return len(self._grid)

    def problem(self) -> str:
        if not self.readable():
            return (
                f"'{self.name}' has the shape {tuple(self._labels.data.shape)} now and had {self._shape} before, as "
                "its scan has. What was corrected until then is kept."
            )
        return "" if self._labels in self._viewer.layers else f"'{self.name}' was closed. What was corrected is kept."

    def readable(self) -> bool:
        return tuple(self._labels.data.shape) == self._shape

    def labels(self, z: int) -> Array:
        return np.asarray(self._labels.data[self._grid.index(z)])

    def image(self, z: int) -> Array:
        return np.asarray(self._turned.slice_at(z))

    def model(self) -> str:
        return str(own_metadata(self._labels).get("digest", ""))

    def classes(self) -> Classes:
        return classes_of(self._labels)

    def wrote(self) -> Mapping[int, str]:
        about = own_metadata(self._labels)
        known = written(self._labels) if "written" in about else about.get(_FOUND, {})
        tidied = about.get(_TIDIED, {})
        # what was tidied counts until the model writes that slice anew
        return {**known, **{z: after for z, (before, after) in tidied.items() if known.get(z, "") == before}}

    def evidence(self) -> Mapping[int, Evidence]:
        return own_metadata(self._labels).get("evidence", {})

    def touched(self) -> tuple[int, ...] | None:
        before, self._lengths = self._lengths, _lengths(self._labels)
        undone = self._lengths[1] > before[1]
        newest = getattr(self._labels, "_redo_history" if undone else "_undo_history", ())
        self._undone = undone
        return _slices_of(newest[-1], self.axis, len(self._shape)) if newest else None

    def automatic(self) -> bool:
        newest: Any = getattr(self._labels, "_redo_history" if self._undone else "_undo_history", ())
        return bool(newest) and steps.is_noted(self._labels, newest[-1])

    def tidied(self, slices: Mapping[int, str]) -> None:
        about = self._labels.metadata.setdefault(KEY, {})
        known = about.get("written", about.get(_FOUND, {}))
        about.setdefault(_TIDIED, {}).update({z: (known.get(z, ""), digest) for z, digest in slices.items()})

    def survey(self, cancelled: Callable[[], bool]) -> Surveyed:
        known, digests = dict(self.wrote()), []
        rows, columns = self.labels(0).shape
        model = ModelMask((len(self), rows, columns))
        for z in range(len(self)):
            if cancelled():
                raise Cancelled("Stopped.")
            labels = self.labels(z)
            digests.append(mask_digest(labels))
            if digests[-1] and digests[-1] == known.get(z, ""):
                model.keep(z, labels)
        return Surveyed(tuple(digests), model)

    def surveyed(self, found: Surveyed) -> None:
        about = self._labels.metadata.setdefault(KEY, {})
        if "written" in about or _FOUND in about:
            return
        # what a person painted in it before this dock was open is theirs, all else came with it
        painted: set[int] | None = set()
        for item in getattr(self._labels, "_undo_history", ()):
            slices = _slices_of(item, self.axis, len(self._shape))
            painted = None if slices is None or painted is None else painted | set(slices)
        theirs = range(len(self)) if painted is None else painted
        about[_FOUND] = {z: digest for z, digest in enumerate(found.digests) if digest and z not in theirs}

    def put(self, slices: Mapping[int, Array]) -> int:
        layer, found = self._labels, []
        for z, labels in slices.items():
            rows, columns = np.nonzero(self.labels(z) != labels)
            where = self._grid.where(z, rows, columns)
            found.append((where, np.asarray(labels)[rows, columns].astype(layer.data.dtype)))
        if not found:
            return 0
        values = np.concatenate([new for _, new in found])
        if values.size:
            indices = tuple(np.concatenate(parts) for parts in zip(*(where for where, _ in found), strict=True))
            layer.data_setitem(indices, values)
        return int(values.size)

    def rewrite(self, slices: Mapping[int, Array], spec: ResultSpec, evidence: Mapping[int, Any]) -> NapariRewritten:
        layer, known = self._labels, dict(self.wrote())
        fresh = {z: np.asarray(new) for z, new in slices.items() if mask_digest(self.labels(z)) == known.get(z, "")}
        before = {}
        for z, new in fresh.items():
            rows, columns = np.nonzero(self.labels(z) != new)
            before[z] = rows, columns, self.labels(z)[rows, columns]
        undone = NapariRewritten(self, layer, before)
        about = layer.metadata.setdefault(KEY, {})
        digests = {z: mask_digest(new) for z, new in fresh.items()}
        # noted first: whoever hears of the change finds that it was the model's
        about["written"] = known | digests
        about |= {"role": "result", "scan": self.scan_id, "scan_name": self.scan.name, "axis": self.axis}
        about |= {"model": spec.model, "digest": spec.digest, "evidence": dict(evidence), "provenance": None}
        if not classes_of(layer):
            set_classes(layer, spec.classes)
        self.put(fresh)
        undone.wrote(digests)
        if "· seg ·" in self.name:
            self.name = layer.name = free_name(self._viewer, f"{self.scan.name} · seg · {spec.model}")
        return undone


class NapariRewritten:
    """``Rewritten``: of each slice it keeps the pixels that changed, and what there was."""

    def __init__(self, stack: NapariStack, layer: Labels, before: dict[int, tuple[Array, Array, Array]]) -> None:
        self._stack, self._layer, self._before = stack, layer, before
        self._name, self._about = str(layer.name), dict(own_metadata(layer))
        self._about["written"] = dict(self._about.get("written", {}))
        self._had_written = "written" in own_metadata(layer)
        self._after: dict[int, str] = {}

    @property
    def slices(self) -> list[int]:
        return sorted(self._before)

    def wrote(self, digests: Mapping[int, str]) -> None:
        """Take note of what the new model has written."""
        self._after = dict(digests)

    def undo(self) -> int:
        if not self._stack.readable():
            return 0
        whole: dict[int, Array] = {}
        for z, (rows, columns, values) in self._before.items():
            labels = self._stack.labels(z)
            if mask_digest(labels) == self._after.get(z):
                whole[z] = labels.copy()
                whole[z][rows, columns] = values
        self._stack.put(whole)
        about = self._layer.metadata.setdefault(KEY, {})
        kept = about.get("written", {})
        about.clear()
        about.update(self._about)
        # slices edited since stay what they are: nothing that the old model wrote
        about["written"] |= {z: digest for z, digest in kept.items() if z in self._before and z not in whole}
        if not self._had_written:
            about.pop("written")
        self._stack.name = self._layer.name = self._name
        return len(whole)


def _lengths(layer: Labels) -> tuple[int, int]:
    return len(getattr(layer, "_undo_history", ())), len(getattr(layer, "_redo_history", ()))


def _slices_of(item: Any, axis: int, ndim: int) -> tuple[int, ...] | None:
    """Return the slices along ``axis`` that one of napari's undo steps touches; None where its form is not known."""
    if ndim < 3:
        return (0,)
    found: set[int] = set()
    try:
        for atom in item:
            where = atom[0][axis]  # of a box, or an array of indices
            if isinstance(where, slice):
                found.update(range(where.start, where.stop))
            else:
                found.update(np.unique(np.asarray(where)).tolist())
    except (TypeError, IndexError):
        return None
    return tuple(sorted(found))
