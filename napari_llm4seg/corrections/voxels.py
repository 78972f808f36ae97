"""A whole scan's voxels in a project, for three-dimensional models: written once, read slice by slice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from napari_llm4seg.corrections.manifest import ScanEntry, plain_dtype
from napari_llm4seg.digests import scan_digest
from napari_llm4seg.errors import InputError, LLM4SegError, one_line
from napari_llm4seg.files import replacing
from napari_llm4seg.volume import Volume

# What is left free on the disk for everything else.
_SPARE = 64 << 20


def write_voxels(path: Path, volume: Volume, progress: Callable[[int, int, str], Any] | None = None) -> None:
    """Write a scan (C, Z, Y, X) to a ``.npy``, whole or not at all, one slice in memory at a time.

    Raises
    ------
    InputError
        Where the disk has no room for it, or refuses.
    """
    shape, dtype = tuple(int(n) for n in volume.data.shape), plain_dtype(volume.data.dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if size + _SPARE > free:
        raise InputError(
            f"'{volume.name}' takes {size >> 20} MiB and the disk of '{path.parent}' has {free >> 20} MiB free. "
            "Make room, or choose another folder."
        )
    with replacing(path, durable=True) as temporary, temporary.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        for channel in range(shape[0]):
            for z in range(shape[1]):
                values = np.asarray(volume.data[channel, z])
                file.write(np.ascontiguousarray(values, dtype=dtype).data)
                if progress is not None:
                    progress(channel * shape[1] + z + 1, shape[0] * shape[1], "keeping the scan")


def read_voxels(path: Path, scan: ScanEntry) -> Volume:
    """Return the scan in ``path``; its voxels stay on the disk until they are asked for.

    Raises
    ------
    InputError
        Where the file is cut short or of another scan.
    """
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise InputError(f"The scan's voxels '{path}' cannot be read: {one_line(error, 100).rstrip('.')}.") from error
    if data.shape != (scan.channels, *scan.grid) or data.dtype != np.dtype(scan.dtype):
        raise InputError(f"The scan's voxels '{path}' are {data.dtype} {data.shape}, not those of '{scan.name}'.")
    return as_volume(data, scan)


def from_source(scan: ScanEntry, folder: Path) -> Volume:
    """Read the scan from where its file was, if that still holds the same voxels.

    Raises
    ------
    InputError
        Where no file is found or all hold something else.
    """
    from napari_llm4seg.io import read

    for text in (scan.source, str(folder / scan.source_relative) if scan.source_relative else ""):
        if text and Path(text).exists():
            try:
                volume = read(text)
            except LLM4SegError:
                continue
            if volume.grid == scan.grid and scan_digest(volume) == scan.digest:
                return volume
    raise InputError(f"The scan '{scan.name}' is not where it was ('{scan.source or 'no file'}'). Open it again.")


def as_volume(data: Any, scan: ScanEntry) -> Volume:
    """Return voxels (C, Z, Y, X) on the scan's grid."""
    return Volume(data, np.asarray(scan.affine), "intensity", scan.unit, scan.name, {"source_path": scan.source})
