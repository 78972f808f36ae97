"""What every format needs: names, whole-file writing, errors of libraries turned into one line."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError, LLM4SegError, one_line

PathLike = str | os.PathLike[str]
# Called with (done, total, what in words) while a reader works; an error that it raises stops the reader.
Progress = Callable[[int, int, str], object]

# By how much gzip makes zeros smaller, at most.
_GZIP_SHRINKS = 1100
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "raster"),
    (b"\xff\xd8\xff", "raster"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\x93NUMPY", "npy"),
    (b"NRRD000", "itk"),
    (b"ObjectType", "itk"),
)

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")

# Endings that are one, though they have two dots.
_DOUBLE = (".nii.gz", ".seg.nrrd", ".ome.tif", ".ome.tiff", ".ome.zarr")


def suffix_of(path: PathLike) -> str:
    """Return the lower-case suffix, ``".nii.gz"`` counting as one; "" where there is none."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stem_of(path: PathLike) -> str:
    """Return the file's name without its suffix, ``".nii.gz"``, ``".seg.nrrd"`` and their like counting as one."""
    name = Path(path).name
    double = next((end for end in _DOUBLE if name.lower().endswith(end)), None)
    return name[: -len(double)] if double else Path(name).stem


def existing(path: PathLike) -> Path:
    """Return ``path`` if there is something with bytes in it, else raise ``InputError``."""
    found = Path(path).expanduser()
    try:
        if not found.exists():
            raise InputError(f"There is no file or folder '{found}'. Check the path.")
        if found.is_file() and found.stat().st_size == 0:
            raise InputError(f"'{found.name}' is an empty file (0 bytes). Copy or export it again.")
    except (OSError, ValueError) as error:
        raise InputError(f"'{found.name}' cannot be opened: {one_line(error)}.") from error
    return found


def is_zarr(folder: Path) -> bool:
    """Return whether ``folder`` is a zarr group or array, of either version of the format."""
    return any((folder / mark).is_file() for mark in _ZARR_MARKS)


def sniff(path: Path) -> str | None:
    """Return the format module that the first bytes speak for, or None."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise InputError(f"'{path.name}' cannot be opened: {one_line(error)}.") from error
    if head[128:132] == b"DICM":
        return "dicom"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises on a bad file into one ``InputError`` line.

    Parameters
    ----------
    path : Path
    what : str
        The format by its name with article, e.g. "a TIFF image".
    """
    try:
        with warnings.catch_warnings():
            # Readers warn on standard error about harmless oddities; what matters is said in our own words.
            warnings.simplefilter("ignore")
            yield
    except LLM4SegError:
        raise
    except Exception as error:
        raise as_input_error(error, path, what) from error


def as_input_error(error: Exception, path: Path, what: str) -> InputError:
    """Return ``error`` in one line; ``what`` as for ``reading``, which threads must not use (warnings are global)."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, MemoryError):
        return InputError(f"'{path.name}' does not fit into memory. Crop it or save it in parts.")
    if isinstance(error, IsADirectoryError):
        return InputError(f"'{path.name}' is a folder; {what} is needed. Open a file in it.")
    if isinstance(error, PermissionError):
        return InputError(f"'{path.name}' may not be read by you. Change its permissions or copy it.")
    return InputError(
        f"'{path.name}' cannot be read as {what}: {one_line(error, 160).rstrip('.')}. "
        "It may be damaged, cut off or of another format; export it again."
    )


def check_promise(path: Path, needed: int, start: int, encoding: str) -> None:
    """Refuse a file that is too small for the values its header promises, before a library makes room for them.

    Parameters
    ----------
    path : Path
    needed : int
        Bytes of values.
    start : int
        Bytes before them.
    encoding : str
        "raw" or "gzip" ("gz"); of others nothing can be said.

    Raises
    ------
    InputError
    """
    there = path.stat().st_size - start
    most = {"raw": there, "gzip": there * _GZIP_SHRINKS, "gz": there * _GZIP_SHRINKS}.get(encoding)
    if most is not None and needed > most:
        raise InputError(f"'{path.name}' is cut off: {needed} bytes of values are needed. Copy it again.")


def plain(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return ``array`` in native byte order and at most 64-bit floats; refuse what is not real numbers.

    Raises
    ------
    InputError
        On complex, text, object or structured values.
    """
    if array.dtype.kind == "c":
        raise InputError(f"'{name}' holds complex values; a scan of real numbers is needed. Save its magnitude.")
    if array.dtype.kind not in "buif":
        raise InputError(f"'{name}' holds {array.dtype} values; a scan of numbers is needed. Save it as such.")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def storable(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values in a type that medical formats hold: no booleans, no half floats, no needless 64-bit integers."""
    if data.dtype == np.bool_:
        return data.astype(np.uint8)
    if data.dtype == np.float16:
        return data.astype(np.float32)
    if data.dtype in (np.int64, np.uint64) and int(data.max()) <= 2**31 - 1 and int(data.min()) >= -(2**31):
        # Many programs cannot open 64-bit integers.
        return data.astype(np.int32)
    return data
