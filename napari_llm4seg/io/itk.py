"""NRRD and MetaImage through SimpleITK, with 3D Slicer's segment names and colours.

Sources: Teem's NRRD definition; 3D Slicer's developer guide, "Segmentation labelmap file format (.seg.nrrd)".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError, one_line
from napari_llm4seg.io._classes import Named, as_metadata, code_of, named_classes
from napari_llm4seg.io._files import PathLike, check_promise, existing, plain, reading, stem_of
from napari_llm4seg.io._time import TimeStack
from napari_llm4seg.volume import Kind, Unit, Volume

Array = npt.NDArray[Any]

_MOST_CHANNELS = 4
# SimpleITK says where in its own sources it stood.
_IN_ITS_SOURCES = re.compile(
    r"Exception thrown in SimpleITK \w+: *|\S+/SimpleITK-build/\S+ *|\w*ITK ERROR: *|\w+\(0x\w+\): *"
    r"|Reason: No such file or directory"
)
_MM = {"mm": 1.0, "cm": 10.0, "m": 1e3, "um": 1e-3, "µm": 1e-3, "microns": 1e-3, "nm": 1e-6}


def read(path: PathLike) -> Volume | TimeStack:
    """Read a ``.nrrd``, ``.nhdr``, ``.seg.nrrd``, ``.mha`` or ``.mhd`` file.

    Components of a voxel become channels, more than four of them, or a fourth axis, time points. The grid is ITK's,
    (left, posterior, superior) in mm, direction and all; NRRD files in other units are turned into mm, and those
    without any placement have the unit "pixel". 3D Slicer's segmentations become labels, with names and colours in
    ``metadata["classes"]``; segments in several layers are laid over each other.

    Raises
    ------
    InputError
        If the file is missing, damaged, cut off, or its values are complex.
    """
    path = existing(path)
    with reading(path, "an NRRD or MetaImage file"):
        image = _image(path)
        fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
        affine, unit = _grid(image, path, fields)
        data = _five_axes(image, path.name)
        segments = _segments(fields)
    metadata: dict[str, Any] = {"source_path": str(path), "messages": []}
    kind: Kind = "intensity"
    if segments and data.dtype.kind in "ui" and data.shape[1] == 1:
        kind = "label"
        data, classes = _one_layer(data[:, 0], segments, metadata["messages"])
        data = data[:, None]
        metadata["classes"] = as_metadata(classes)
    if data.shape[1] == 1:
        return Volume(data[:, 0], affine, kind, unit, stem_of(path), metadata)
    return TimeStack(data, affine, unit, stem_of(path), kind, None, metadata)


def _image(path: Path) -> Any:
    import SimpleITK as sitk

    warn = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        # Left to itself ITK tries every format it has, and one of them ends the process on some damaged files.
        reader.SetImageIO("NrrdImageIO" if _is_nrrd(path) else "MetaImageIO")
        reader.ReadImageInformation()
        if _is_nrrd(path):
            _check_size(path, reader)
        return reader.Execute()
    except RuntimeError as error:
        raise ValueError(one_line(ValueError(_IN_ITS_SOURCES.sub("", str(error))), 120)) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warn)


def _is_nrrd(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"NRRD"


def _grid(image: Any, path: Path, fields: Mapping[str, str]) -> tuple[npt.NDArray[np.float64], Unit]:
    axes = image.GetDimension()
    if not 2 <= axes <= 4:
        raise InputError(f"'{path.name}' has {axes} axes; a scan has two or three, and one for time.")
    kept = min(axes, 3)
    spacing = np.array(image.GetSpacing())
    matrix, origin = np.eye(3), np.zeros(3)
    matrix[:kept, :kept] = (np.array(image.GetDirection()).reshape(axes, axes) * spacing)[:kept, :kept]
    origin[:kept] = image.GetOrigin()[:kept]
    unit: Unit = "mm"
    if _is_nrrd(path):
        factor = _nrrd_factor(_nrrd_header(path)[0])
        matrix, origin = matrix * factor, origin * factor
        if "NRRD_space" not in fields and (spacing == 1).all():
            unit = "pixel"
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix[::-1, ::-1], origin[::-1]
    return affine, unit


def _nrrd_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of an NRRD header, names in small letters, and the number of its bytes."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(65536), b""):
            if not line.strip():
                break
            name, colon, value = line.decode("utf-8", "replace").partition(":")
            if colon and not value.startswith("="):
                fields[name.strip().lower()] = value.strip()
        return fields, file.tell()


def _check_size(path: Path, reader: Any) -> None:
    """Refuse a cut-off NRRD file by its size: ITK would first make room for all that the header promises."""
    import SimpleITK as sitk

    fields, start = _nrrd_header(path)
    if "data file" in fields or "datafile" in fields:
        return
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())  # such as "vector of 8-bit unsigned integer"
    bits = int((re.findall(r"(\d+)-bit", kind) or ["0"])[0])
    needed = math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * bits // 8
    check_promise(path, needed, start, fields.get("encoding", ""))


def _nrrd_factor(fields: Mapping[str, str]) -> float:
    """Return how many mm the header's unit of space is; ITK passes over it."""
    units = re.findall(r'"([^"]*)"', fields.get("space units") or fields.get("units") or "")
    known = {_MM[unit] for unit in units if unit in _MM}
    return known.pop() if len(known) == 1 else 1.0


def _five_axes(image: Any, name: str) -> Array:
    """Return (C, T, Z, Y, X)."""
    import SimpleITK as sitk

    array = plain(sitk.GetArrayFromImage(image), name)
    components = image.GetNumberOfComponentsPerPixel()
    array = np.moveaxis(array, -1, 0) if components > 1 else array[None]
    if image.GetDimension() == 2:
        array = array[:, None]
    if image.GetDimension() < 4:
        array = array[:, None]
    if components > _MOST_CHANNELS and array.shape[1] == 1:
        array = np.moveaxis(array, 0, 1)
    return np.ascontiguousarray(array)


def _segments(fields: Mapping[str, str]) -> list[tuple[int, Named]]:
    """Return (layer, class) of every segment that 3D Slicer's header fields name."""
    found = []
    number = 0
    while f"Segment{number}_ID" in fields:
        about = {key: fields.get(f"Segment{number}_{key}", "") for key in ("Name", "Color", "LabelValue", "Layer")}
        value = int(about["LabelValue"] or number + 1)
        colour = [float(part) for part in about["Color"].split()]
        code = code_of(*colour) if len(colour) == 3 else ""
        (named,) = named_classes([(value, about["Name"] or f"label {value}", code)] if code else (), [value])
        found.append((int(about["Layer"] or 0), named._replace(name=about["Name"] or named.name)))
        number += 1
    return found


def _one_layer(data: Array, segments: list[tuple[int, Named]], messages: list[str]) -> tuple[Array, list[Named]]:
    """Return labels (1, Z, Y, X) and their classes; values that mean another class in each layer are numbered anew."""
    classes = [named for _, named in segments]
    if data.shape[0] == 1:
        return data, classes
    merged = np.zeros_like(data[:1], dtype=np.uint8 if len(segments) < 256 else np.uint16)
    hidden = 0
    renamed = []
    for number, (layer, named) in enumerate(segments, start=1):
        mask = data[min(layer, len(data) - 1)] == named.value
        hidden += int(np.count_nonzero(merged[0][mask]))
        merged[0][mask] = number
        renamed.append(named._replace(value=number))
    messages.append(
        f"The segments lie in {data.shape[0]} layers and were numbered anew"
        + (f"; {hidden} voxels belong to several, and the last one is kept." if hidden else ".")
    )
    return merged, renamed
