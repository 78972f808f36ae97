"""DICOM-SEG read as labels with names and colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.io._classes import Named, as_metadata, named_classes
from napari_llm4seg.io._dicom_codes import VALUE_PREFIX
from napari_llm4seg.io._dicom_headers import plane_of
from napari_llm4seg.io._dicom_pixels import functional_groups
from napari_llm4seg.io._files import PathLike, existing, reading
from napari_llm4seg.io._geometry import Slice, plane_affine
from napari_llm4seg.volume import Unit, Volume

Array = npt.NDArray[Any]

# How far from an even place, in shares of the distance between slices, a slice may lie.
_UNEVEN = 0.05


def read(path: PathLike) -> Volume:
    """Read a DICOM segmentation as labels with names and colours.

    Slices that the file leaves out because they hold nothing are filled with 0 between the first and the last. Label
    values are the segments' numbers, or what ``write`` noted. Fractional segments count from one half on; where
    segments overlap, the later one is kept and ``metadata["messages"]`` says so.

    Raises
    ------
    InputError
        If the file is missing, damaged, or holds no segment or frame.
    """
    import pydicom

    path = existing(path)
    with reading(path, "a DICOM segmentation"):
        dataset = pydicom.dcmread(path)
        classes = _segments(dataset)
        count = int(dataset.get("NumberOfFrames") or 1)
        if not classes or "PixelData" not in dataset:
            raise InputError(f"'{path.name}' is a segmentation without segments or pixels. Export it again.")
        places, depth, affine, unit, messages = _grid(dataset, count)
        labels = np.zeros((1, depth, int(dataset.Rows), int(dataset.Columns)), _dtype(classes))
        overlaps = False
        for frame in range(count):
            overlaps |= _put(dataset, frame, labels[0, places[frame]], classes)
    if overlaps:
        messages.append("Segments overlap; where they do, the later one was kept.")
    metadata = {"source_path": str(path), "messages": messages, "classes": as_metadata(classes.values())}
    return Volume(labels, affine, kind="label", unit=unit, name=path.stem, metadata=metadata)


def _dtype(classes: Mapping[int, Named]) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if max(each.value for each in classes.values()) < 256 else np.uint16


def _segments(dataset: Any) -> dict[int, Named]:
    """Return segment number -> label value, name and colour."""
    import highdicom

    found = {int(item.SegmentNumber): item for item in dataset.get("SegmentSequence") or []}
    found.pop(0, None)  # the background of a label map
    noted = {}
    for number, item in found.items():
        text = str(item.get("SegmentDescription", "")).removeprefix(VALUE_PREFIX)
        noted[number] = int(text) if text.isdecimal() and 0 < int(text) < 65536 else number
    if len(set(noted.values())) < len(found):
        noted = {number: number for number in found}
    classes = {}
    for number, item in found.items():
        (named,) = named_classes([], [noted[number]])
        colour = item.get("RecommendedDisplayCIELabValue")
        rgb = highdicom.color.CIELabColor.from_dicom_value(colour).to_rgb() if colour else named.rgb
        classes[number] = Named(named.value, str(item.get("SegmentLabel", "") or named.name), rgb)
    return classes


def _grid(dataset: Any, count: int) -> tuple[list[int], int, npt.NDArray[np.float64], Unit, list[str]]:
    """Return each frame's slice, the number of slices, their affine and unit, and what must be said."""
    planes = [plane for frame in range(count) if (plane := plane_of(dataset, frame)) is not None]
    if len(planes) < count:
        numbers = _segment_numbers(dataset, count)
        places = [numbers[:frame].count(numbers[frame]) for frame in range(count)]
        return places, max(places) + 1, np.eye(4), "pixel", []
    normal = planes[0].normal
    depths = np.round([float(plane.origin @ normal) for plane in planes], 4)
    unique, first, inverse = np.unique(depths, return_index=True, return_inverse=True)
    step = _step(dataset, planes[0], unique)
    indices = np.round((unique - unique[0]) / step).astype(int)
    messages = []
    if np.abs((unique - unique[0]) / step - indices).max() > _UNEVEN or len(set(indices)) < len(unique):
        indices = np.arange(len(unique))
        messages.append("The slices are unevenly spaced. Measures along the stack use the mean distance.")
    affine = plane_affine(planes[first[0]], step)
    if len(unique) > 1:  # a tilted gantry moves the slices sideways too
        whole = planes[first[-1]].origin - planes[first[0]].origin
        affine[:3, 0] = (whole / indices[-1])[::-1]
    return [int(indices[i]) for i in inverse.ravel()], int(indices[-1]) + 1, affine, "mm", messages


def _step(dataset: Any, plane: Slice, depths: npt.NDArray[np.float64]) -> float:
    """Return the distance between slices in mm: as the file says, or the smallest there is between its frames."""
    for item in functional_groups(dataset, 0, "PixelMeasuresSequence"):
        if float(item.get("SpacingBetweenSlices") or 0) > 0:
            return float(item.SpacingBetweenSlices)
    return float(np.diff(depths).min()) if len(depths) > 1 else plane.thickness or 1.0


def _segment_numbers(dataset: Any, count: int) -> list[int]:
    numbers = []
    for frame in range(count):
        items = list(functional_groups(dataset, frame, "SegmentIdentificationSequence"))
        numbers.append(int(items[0].ReferencedSegmentNumber) if items else 0)
    return numbers


def _put(dataset: Any, frame: int, target: Array, classes: Mapping[int, Named]) -> bool:
    """Write a frame's labels into its slice; return whether that covers another segment."""
    pixels = _pixels(dataset, frame)
    items = list(functional_groups(dataset, frame, "SegmentIdentificationSequence"))
    if dataset.get("SegmentationType") == "LABELMAP" or not items:
        for number, each in classes.items():
            target[pixels == number] = each.value
        return False
    each = classes[int(items[0].ReferencedSegmentNumber)]
    full = int(dataset.get("MaximumFractionalValue") or 1) if dataset.get("SegmentationType") == "FRACTIONAL" else 1
    mask = pixels * 2.0 >= full
    covers = bool((target[mask] != 0).any())
    target[mask] = each.value
    return covers


def _pixels(dataset: Any, frame: int) -> Array:
    """Return a frame (Y, X); binary ones are packed in bits, across the borders of frames."""
    from pydicom.pixels.utils import pixel_array

    shape = int(dataset.Rows), int(dataset.Columns)
    if int(dataset.BitsAllocated) != 1 or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return np.asarray(pixel_array(dataset, index=frame))
    first, size = frame * shape[0] * shape[1], shape[0] * shape[1]
    packed = np.frombuffer(dataset.PixelData, np.uint8)[first // 8 : -(-(first + size) // 8)]
    return np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + size].reshape(shape)
