"""Values out of a DICOM dataset: decoding, display inversion and the modality transform."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.io._files import plain

Array = npt.NDArray[Any]

# Their values are physical quantities; an inverted display must not turn them round.
_QUANTITATIVE = ("CT", "PT", "NM")


def pixels_of(dataset: Any, name: str) -> Array:
    """Return (C, Z, Y, X) in the file's own frame order."""
    from pydicom.pixels.processing import apply_color_lut

    array = _decoded(dataset, name)
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        array = apply_color_lut(array, dataset)
        if array.dtype == np.uint16:
            array = (array >> 8).astype(np.uint8)
    colour = int(dataset.get("SamplesPerPixel", 1)) > 1 or photometric == "PALETTE COLOR"
    frames = int(dataset.get("NumberOfFrames") or 1)
    array = array.reshape(frames, int(dataset.Rows), int(dataset.Columns), -1 if colour else 1)
    if not colour:
        array = _rescaled(_upright(array, dataset, photometric), dataset)
    return np.ascontiguousarray(np.moveaxis(plain(array, name), -1, 0))


def _decoded(dataset: Any, name: str) -> Array:
    from pydicom.pixels.utils import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return np.asarray(pixel_array(dataset))
    except (RuntimeError, NotImplementedError) as error:
        if not syntax.is_compressed:
            raise
        raise InputError(
            f"'{name}' is compressed as {syntax.name}, which cannot be decoded here, or it is damaged. "
            "Export it uncompressed or as JPEG 2000."
        ) from error


def _upright(array: Array, dataset: Any, photometric: str) -> Array:
    if photometric != "MONOCHROME1" or str(dataset.get("Modality", "")) in _QUANTITATIVE:
        return array
    if int(dataset.get("PixelRepresentation", 0)):
        return ~array
    return np.asarray((1 << int(dataset.BitsStored)) - 1 - array.astype(np.int64)).astype(array.dtype)


def _rescaled(array: Array, dataset: Any) -> Array:
    """Apply the modality transform, frame by frame where they differ; whole numbers stay integers where they fit."""
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        return np.asarray(apply_modality_lut(array, dataset))
    pairs = [_rescale(dataset, frame) for frame in range(len(array))]
    if all(pair == (1.0, 0.0) for pair in pairs):
        return array
    if array.dtype.kind in "ui" and len(set(pairs)) == 1 and all(number.is_integer() for number in pairs[0]):
        values = array.astype(np.int64) * int(pairs[0][0]) + int(pairs[0][1])
        fits = np.iinfo(np.int16)
        return values.astype(np.int16 if fits.min <= values.min() and values.max() <= fits.max else np.int32)
    slopes, intercepts = np.array(pairs, dtype=np.float32).T[:, :, None, None, None]
    return np.asarray(array.astype(np.float32) * slopes + intercepts)


def _rescale(dataset: Any, frame: int) -> tuple[float, float]:
    """Return a frame's slope and intercept, in enhanced files from the functional groups."""
    for source in (dataset, *functional_groups(dataset, frame, "PixelValueTransformationSequence")):
        if "RescaleSlope" in source:
            return float(source.RescaleSlope), float(source.get("RescaleIntercept") or 0)
    return 1.0, 0.0


def functional_groups(dataset: Any, frame: int, name: str) -> Iterator[Any]:
    """Yield the items ``name`` of a frame's functional groups, its own before the shared ones."""
    for holder in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        items = dataset.get(holder) or []
        index = frame if holder.startswith("Per") else 0
        if index < len(items):
            yield from items[index].get(name) or []
