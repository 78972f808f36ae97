"""Files in and out: the only place where axis order is converted.

Each format has one module, loaded when a file of that format comes: importing this package loads numpy alone.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_llm4seg.errors import InputError
from napari_llm4seg.io._files import PathLike, Progress, existing, is_zarr, sniff, suffix_of
from napari_llm4seg.io._series_info import SeriesInfo, largest
from napari_llm4seg.io._time import TimeStack, one_time
from napari_llm4seg.volume import Prediction, Volume

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "FORMATS",
    "WRITERS",
    "Progress",
    "SeriesInfo",
    "TimeStack",
    "companions",
    "is_readable_folder",
    "largest",
    "read",
    "read_stack",
    "series",
    "write",
]

# Suffix -> module of this package.
FORMATS: dict[str, str] = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".hdr": "nifti",
    ".dcm": "dicom",
    ".dicom": "dicom",
    ".ima": "dicom",
    ".png": "raster",
    ".jpg": "raster",
    ".jpeg": "raster",
    ".bmp": "raster",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".npy": "npy",
    ".nrrd": "itk",
    ".nhdr": "itk",
    ".mha": "itk",
    ".mhd": "itk",
}
# Suffix -> module of this package with a ``write``.
WRITERS: dict[str, str] = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "raster",
    ".npy": "npy",
    ".nrrd": "itk_write",
    ".mha": "itk_write",
    ".dcm": "dicom_seg_write",
    ".zarr": "ome_zarr_write",
    ".json": "coco",
}
# What a result needs of the scan it was made from, to lie on that grid as the scan's own file says it.
_GRID_KEYS = ("nifti", "dicom", "source_path")
_READABLE = (
    "NIfTI (.nii, .nii.gz), DICOM (.dcm or a folder), NRRD, MetaImage (.mha, .mhd), OME-Zarr (.zarr), TIFF, PNG, JPEG, "
    "BMP or .npy"
)
_WRITABLE = ".nii.gz, .nrrd, .mha, .dcm (DICOM-SEG), .zarr, .tif, .npy; .png or .json (COCO) for a single slice"


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


def read(path: PathLike, *, series: str | int | None = None, time: int | None = None) -> Volume:
    """Read one scan.

    The suffix picks the format; a name without a known suffix is opened by what its first bytes say, as DICOM exports
    often have none. A folder is OME-Zarr if zarr's metadata lie in it, else DICOM.

    Parameters
    ----------
    path : str or path
        NIfTI, DICOM (file or folder), NRRD, MetaImage, OME-Zarr, TIFF, PNG, JPEG, BMP or ``.npy``.
    series : str or int, optional
        Which of several DICOM series: its number in ``series(path)`` or its Series Instance UID.
    time : int, optional
        Which of several time points, counted from 1.

    Returns
    -------
    Volume
        ``metadata`` holds ``"source_path"`` and, where something had to be decided, sentences in ``"messages"``.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged, of no known format, or holds several scans and none was chosen: one
        line that says so.
    """
    return one_time(read_stack(path, series=series, some_channels=time is None), time)


def read_stack(
    path: PathLike,
    *,
    series: str | int | None = None,
    some_channels: bool = True,
    progress: Progress | None = None,
) -> Volume | TimeStack:
    """Read a file with all its time points; what has none comes back as a ``Volume``.

    Parameters
    ----------
    path : str or path
    series : str or int, optional
        As for ``read``.
    some_channels : bool
        Whether a NIfTI file with a few volumes is taken for channels, as it does not say what they are.
    progress : callable(done, total, words), optional
        Called as the slices of a DICOM series are read; an error that it raises stops the reading.

    Raises
    ------
    InputError
        As for ``read``.
    """
    path = existing(path)
    name = format_of(path)
    if name != "dicom" and series is not None:
        raise InputError(f"'{path.name}' is no DICOM; only DICOM folders and files hold series to choose from.")
    options: dict[str, Any] = {"series": series, "progress": progress} if name == "dicom" else {}
    if name == "nifti":
        options["some_channels"] = some_channels
    found: Volume | TimeStack = _module(name).read(path, **options)
    if series is None:
        return found
    return replace(found, metadata={**found.metadata, "series_choice": str(series)})


def series(path: PathLike, *, progress: Progress | None = None) -> list[SeriesInfo]:
    """Return what can be chosen from at ``path``: the series of a DICOM folder, the volumes of a DICOM file.

    Other formats hold one scan, and the list is empty. Nothing about the patient is in it.

    Raises
    ------
    InputError
        If there is nothing at ``path``, or it cannot be read.
    """
    path = existing(path)
    if format_of(path) != "dicom":
        return []
    found: list[SeriesInfo] = _module("dicom").list_series(path, progress)
    return found


def companions(path: PathLike) -> list[Path]:
    """Return what belongs to the scan at ``path`` and is read for itself: the label images of an OME-Zarr.

    Raises
    ------
    InputError
        If there is nothing at ``path``, or it cannot be read.
    """
    path = existing(path)
    if format_of(path) != "ome_zarr":
        return []
    found: list[Path] = _module("ome_zarr").labels_in(path)
    return found


def is_readable_folder(folder: PathLike) -> bool:
    """Return whether a folder looks like zarr or DICOM, by a glance at its first files."""
    folder = Path(folder)
    if is_zarr(folder):
        return True
    holds: bool = _module("_dicom_headers").holds_dicom(folder)
    return holds


def format_of(path: Path) -> str:
    """Return the module that reads what lies at ``path``.

    Raises
    ------
    InputError
        If it is of no known format.
    """
    if path.is_dir():
        return "ome_zarr" if is_zarr(path) or path.suffix.lower() == ".zarr" else "dicom"
    name = FORMATS.get(suffix_of(path)) or sniff(path)
    if name is None:
        raise InputError(f"'{path.name}' is of no known format; open {_READABLE}.")
    return name


def write(path: PathLike, result: Prediction | Volume, like: Volume | None = None) -> Path:
    """Write a prediction's labels, or a volume, in the format that the suffix names.

    The file appears whole or not at all; missing folders on the way are made.

    Parameters
    ----------
    path : str or path
        Suffix ``.nii.gz``, ``.nii``, ``.nrrd`` (``.seg.nrrd``), ``.mha``, ``.dcm`` (DICOM-SEG of a DICOM
        scan), ``.zarr`` (OME-Zarr), ``.tif``, ``.tiff``, ``.npy``; for a single slice also ``.png`` or
        ``.json`` (COCO).
    result : Prediction or Volume
        Of a prediction the labels are written; the values in the file are the label values.
    like : Volume, optional
        The scan that a prediction was made from: a NIfTI mask then gets that file's own sform, qform and codes,
        not only the same affine.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    InputError
        If the format cannot hold it, or the place cannot be written to.
    """
    path = Path(path).expanduser()
    suffix = suffix_of(path)
    name = WRITERS.get(suffix)
    if name is None and FORMATS.get(suffix) == "raster":
        name = "raster"  # which says why a mask is no JPEG
    if name is None:
        raise InputError(f"'{path.name}': cannot write {suffix or 'a file without suffix'}; use {_WRITABLE}.")
    volume = result.as_volume() if isinstance(result, Prediction) else result
    if like is not None:
        grid = {key: like.metadata[key] for key in _GRID_KEYS if key in like.metadata}
        volume = volume.with_data(volume.data, metadata={**volume.metadata, **grid})
    _module(name).write(path, volume)
    return path
