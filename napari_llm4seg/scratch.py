"""Room for large results: arrays on disk in place of memory, gone with the process."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import cache_folder

# Arrays from here on go to disk, where the system keeps in memory what is in use.
LARGE = 1 << 30
# What must stay free on the disk beside the array.
_MARGIN = 256 << 20


def size_of(shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
    """Return the bytes of an array."""
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def room(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros: in memory below ``LARGE`` bytes, else a memory map of a temporary file in the cache folder.

    A map is an ordinary array to napari, which paints into it and undoes like into any other; slices along every axis
    are read and set without decompressing chunks. Its file is gone when the array is, or the process.

    Raises
    ------
    InputError
        If the disk has not that much room.
    """
    if size_of(shape, dtype) < LARGE:
        return np.zeros(shape, dtype)
    return scratch_array(shape, dtype)


def scratch_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros on disk, whatever their size; see ``room``."""
    folder, needed = cache_folder() / "scratch", size_of(shape, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < needed + _MARGIN:
            raise InputError(
                f"The result takes {needed / 1e9:.1f} GB and '{folder}' has {free / 1e9:.1f} GB free. Make room, "
                "or set LLM4SEG_CACHE to a folder on a larger disk."
            )
        handle, name = tempfile.mkstemp(dir=folder, prefix="labels-")
        with os.fdopen(handle, "r+b") as file:
            _reserve(file.fileno(), needed)
            array = np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"'{folder}' cannot hold the result: {reason}. Set LLM4SEG_CACHE elsewhere.") from error
    _forget_file(Path(name), array)
    return array


def _reserve(descriptor: int, size: int) -> None:
    """Take the room at once: a map of a file with holes would end the process where the disk is full later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def _forget_file(path: Path, array: npt.NDArray[Any]) -> None:
    """Remove the file: at once where the system keeps an open file's content, else when the array is no more."""
    try:
        path.unlink()
    except OSError:  # Windows

        def remove() -> None:
            with suppress(OSError):
                path.unlink()

        weakref.finalize(array, remove)
