"""NIfTI through nibabel, with its affine turned into the package's world and back without rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import replacing
from napari_llm4seg.io._classes import as_metadata, classes_of
from napari_llm4seg.io._files import PathLike, check_promise, existing, plain, reading, stem_of, storable, suffix_of
from napari_llm4seg.io._label_table import CODE, from_extensions, to_xml
from napari_llm4seg.io._time import TimeStack
from napari_llm4seg.volume import Kind, Unit, Volume

Array = npt.NDArray[Any]
Matrix = npt.NDArray[np.float64]

# NIfTI's world is (right, anterior, superior), ours (superior, posterior, left); its voxel index is (x, y, z), ours
# (z, y, x). Both are signed permutations, so that turning an affine there and back changes no bit.
_WORLD: Matrix = np.array([[0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
_INDEX: Matrix = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)

_MOST_CHANNELS = 4
_LABEL_INTENT = 1002
_NO_UNIT = b"napari-llm4seg: pixel units"
_QFORM_FIELDS = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


def from_ras(affine: Matrix) -> Matrix:
    """Turn NIfTI's affine, (x, y, z) to RAS, into ours, (z, y, x) to (superior, posterior, left)."""
    return _WORLD @ affine @ _INDEX


def to_ras(affine: Matrix) -> Matrix:
    """Turn our affine into NIfTI's; the inverse of ``from_ras``, exact in both directions."""
    return _WORLD.T @ affine @ _INDEX


def _nibabel() -> Any:
    """Import nibabel when it is needed; it is typed only in part, so its objects pass as Any."""
    import nibabel

    return nibabel


def read(path: PathLike, *, some_channels: bool = True) -> Volume | TimeStack:
    """Read a NIfTI-1 or NIfTI-2 file.

    Two axes give one slice. A fourth axis is time; with at most four entries it is taken for channels if
    ``some_channels``, and a fifth always is. Values keep their type; where the header scales them they become float32
    (float64 if they were wider than 16 bit). Files without a unit are taken as mm, as everybody does. A file whose
    intent is "label" gives labels.

    Raises
    ------
    InputError
        If the file is missing, damaged or cut off, or holds RGB structures or complex values.
    """
    path = existing(path)
    nib = _nibabel()
    with reading(path, "a NIfTI file"):
        image = nib.load(path, mmap=False)
        if not isinstance(image, nib.nifti1.Nifti1Pair):
            raise InputError(f"'{path.name}' is of another format ({type(image).__name__}). Convert it to .nii.gz.")
        header = image.header
        data = _five_axes(_values(image, path.name), path.name, some_channels)
        affine, unit = _affine(header, np.asarray(image.affine, dtype=np.float64))
        classes, said = from_extensions(header.extensions)
        label = data.dtype.kind in "ui" and (bool(classes) or int(header["intent_code"]) == _LABEL_INTENT)
        metadata: dict[str, Any] = {"source_path": str(path), "nifti": _grid_fields(header, affine)}
        if label and classes:
            metadata["classes"] = as_metadata(classes)
        if said:
            metadata["messages"] = [said]
        seconds = _seconds(header)
    kind: Kind = "label" if label else "intensity"
    if data.shape[1] == 1:
        return Volume(data[:, 0], affine, kind, unit, stem_of(path), metadata)
    return TimeStack(data, affine, unit, stem_of(path), kind, seconds, metadata)


def _seconds(header: Any) -> float | None:
    """Return the time between the volumes of a series, where the header says it."""
    factor = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(header.get_xyzt_units()[1])
    step = float(header["pixdim"][4])
    return step * factor if factor is not None and np.isfinite(step) and step > 0 else None


def _values(image: Any, name: str) -> Array:
    proxy = image.dataobj
    stored = image.get_data_dtype()
    path = Path(image.get_filename())
    if suffix_of(path) in (".nii", ".nii.gz"):
        start = int(proxy.offset) if suffix_of(path) == ".nii" else 0
        encoding = "raw" if suffix_of(path) == ".nii" else "gzip"
        check_promise(path, math.prod(proxy.shape) * stored.itemsize, start, encoding)
    if stored.names is not None:
        raise InputError(f"'{name}' stores RGB structures. Save its colours as a fourth axis, or as TIFF or PNG.")
    if (proxy.slope, proxy.inter) != (1.0, 0.0) and stored.itemsize <= 2:
        scaled = np.multiply(proxy.get_unscaled(), proxy.slope, dtype=np.float32)
        return np.asarray(scaled + np.float32(proxy.inter))
    return plain(np.asarray(proxy), name)


def _five_axes(array: Array, name: str, some_channels: bool) -> Array:
    """Return (C, T, Z, Y, X) from (x, y, z, t, channel)."""
    shape = array.shape
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim < 2 or array.ndim > 5:
        raise InputError(
            f"'{name}' has the axes {shape}; a scan has two or three, and one each for time and channels. "
            "Save one volume."
        )
    if array.ndim == 4 and some_channels and array.shape[3] <= _MOST_CHANNELS:
        array = array[:, :, :, None]
    return np.asarray(array.reshape(*array.shape, *[1] * (5 - array.ndim)).T)


def _affine(header: Any, ras: Matrix) -> tuple[Matrix, Unit]:
    unit: Unit = "mm"
    factor = {"meter": 1000.0, "micron": 1e-3}.get(header.get_xyzt_units()[0], 1.0)
    if bytes(header["descrip"].item()).rstrip(b"\0") == _NO_UNIT:
        unit = "pixel"
    if factor != 1.0:
        ras = np.diag([factor, factor, factor, 1.0]) @ ras
    if not ras[:3, 2].any() and header.get_data_shape()[2:3] in ((), (1,)):
        # Pictures saved as NIfTI often give no thickness; the slice still needs a direction to lie in.
        ras = ras.copy()
        normal = np.cross(ras[:3, 0], ras[:3, 1])
        ras[:3, 2] = normal / max(float(np.linalg.norm(normal)), 1e-12)
    return from_ras(ras), unit


def _grid_fields(header: Any, affine: Matrix) -> dict[str, Any]:
    """Return what the header says about the grid, to be written back bit by bit if the grid stays the same."""
    return {
        "affine": affine,
        "sform_code": int(header["sform_code"]),
        "qform_code": int(header["qform_code"]),
        "xyzt_units": header.get_xyzt_units()[0],
        "sform": np.stack([np.array(header[f"srow_{axis}"], dtype=np.float32) for axis in "xyz"]),
        "pixdim": np.array(header["pixdim"][:4], dtype=np.float64),
        "qform": {field: float(header[field]) for field in _QFORM_FIELDS},
    }


def write(path: PathLike, volume: Volume) -> Path:
    """Write a NIfTI-1 file on the volume's grid, units mm.

    Where the volume was read from a NIfTI file and still lies on its grid, sform, qform and their codes are the
    source's. Channels become the fourth axis, booleans uint8, half floats float32. Labels take their classes' names and
    colours along, in the label table that Connectome Workbench and TotalSegmentator use.

    Raises
    ------
    InputError
        If the values are complex, or the place cannot be written to.
    """
    path = Path(path)
    nib = _nibabel()
    data = storable(plain(np.asarray(volume.data), path.name))
    array = data[0].T if volume.channels == 1 else data.T
    image = nib.nifti1.Nifti1Image(array, None, dtype=array.dtype)
    header = image.header
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1, 0)
    if volume.kind == "label":
        header.set_intent(_LABEL_INTENT)
        if classes := classes_of(volume):
            header.extensions.append(nib.nifti1.Nifti1Extension(CODE, to_xml(classes)))
    source = volume.metadata.get("nifti")
    if isinstance(source, Mapping) and np.array_equal(source["affine"], volume.affine):
        _restore_grid(header, source)
    else:
        ras = to_ras(volume.affine)
        header.set_sform(ras, code=1)
        header.set_qform(ras, code=1, strip_shears=True)
        header.set_xyzt_units("mm" if volume.unit == "mm" else "unknown")
    if volume.unit == "pixel":
        header["descrip"] = _NO_UNIT
    # An image made without affine takes its geometry from the header as it stands.
    written = nib.nifti1.Nifti1Image(array, None, header=header)
    with replacing(path) as temporary:
        nib.save(written, temporary)
    return path


def _restore_grid(header: Any, source: Mapping[str, Any]) -> None:
    header["sform_code"], header["qform_code"] = source["sform_code"], source["qform_code"]
    for row, axis in zip(source["sform"], "xyz", strict=True):
        header[f"srow_{axis}"] = row
    pixdim = np.array(header["pixdim"])
    pixdim[:4] = source["pixdim"]
    header["pixdim"] = pixdim
    for field, value in source["qform"].items():
        header[field] = value
    header.set_xyzt_units(source["xyzt_units"])
