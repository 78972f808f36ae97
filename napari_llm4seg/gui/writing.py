"""A labels layer as a file: what the Export section and napari's own File > Save As have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.notifications import show_warning

from napari_llm4seg.gui import steps
from napari_llm4seg.gui.controllers.ports import ExportSource
from napari_llm4seg.gui.layers import classes_of, layer_id, own_metadata, volume_from_layer
from napari_llm4seg.gui.results import edited, slices_of


def export_source(layer: Labels, scan: Layer | None, frame: int | None = None) -> ExportSource:
    """Return the labels with classes and provenance, the scan, and whether a person edited them.

    The labels are a copy, which painting does not change any more, unless they lie on the disk. Of a layer with
    time points or channels, ``frame`` says which one is meant.

    Raises
    ------
    InputError
        If a layer is no volume.
    """
    about = own_metadata(layer)
    labels = volume_from_layer(layer, frame)
    metadata = dict(labels.metadata)
    if classes_of(layer):
        metadata["classes"] = classes_of(layer)
    provenance = _of_frame(about.get("provenance"), frame)
    if provenance:
        metadata["provenance"] = provenance
    if steps.steps(layer):
        metadata["clean_up"] = steps.steps(layer)
    data = labels.data
    if isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
        data = data.copy()
    return ExportSource(
        labels.with_data(data, metadata=metadata),
        volume_from_layer(scan, frame) if scan is not None else None,
        "written" in about and isinstance(data, np.ndarray) and edited(layer, _slices(layer, frame)),
    )


def _of_frame(provenance: Any, frame: int | None) -> Any:
    """Return what made one frame of a result; nothing where no run did."""
    if not provenance or "frames" not in provenance:
        return provenance
    source = provenance["frames"].get(str(frame))
    return {**{k: v for k, v in provenance.items() if k != "frames"}, "source": source} if source else None


def _slices(layer: Labels, frame: int | None) -> range | None:
    """Return the slices of ``frame``, counted through all frames."""
    each = slices_of(layer).per_frame
    return None if frame is None else range(frame * each, (frame + 1) * each)


def write_labels(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write one labels layer: napari's writer for every format of this package.

    The record of what made the labels is written too, as long as their scan is still open.

    Parameters
    ----------
    path : str
        Its suffix picks the format.
    data : array
    meta : mapping
        The layer's state, as napari hands it to writers.

    Returns
    -------
    list of str
        The files written.

    Raises
    ------
    InputError
        If the format cannot hold the labels, or the place cannot be written to: one line.
    """
    from napari_llm4seg.predict.export import export

    layer = Layer.create(data, dict(meta), "labels")
    source = export_source(layer, _open_scan(own_metadata(layer).get("scan")))
    found = export(Path(path), source.labels, source.scan, edited=source.edited)
    if found.messages:  # napari has no place for what a writer says but its notifications
        show_warning(" ".join(found.messages))
    return [str(written) for written in found.paths]


def _open_scan(wanted: Any) -> Layer | None:
    """Return the layer that the labels were made from, if a viewer shows it."""
    import napari

    viewer = napari.current_viewer()
    layers = viewer.layers if viewer is not None else ()
    return next((layer for layer in layers if layer_id(layer) == wanted), None)
