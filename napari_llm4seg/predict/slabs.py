"""Slices in and out of arrays that are stored in chunks: each chunk is read, and written, once.

A scan or result on disk (dask, zarr) comes in chunks of many slices. Taking or setting one slice after another would
decompress the same chunk again and again, so slices go in and out in slabs: as thick as the chunks, but never beyond
``SLAB_BYTES``, and no more than a few at a time, so that memory does not depend on the number of slices.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.planes import at
from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]

SLAB_BYTES = 32 << 20
# A run goes outward from its first slice, up and down in turn: one slab on either side.
_SLABS_KEPT = 2


def slab_edges(length: int, chunks: Sequence[int], slice_bytes: int) -> list[int]:
    """Return where slabs begin, ascending and closed by ``length``.

    Parameters
    ----------
    length : int
        Slices.
    chunks : sequence of int
        Sizes of the chunks along the slices, adding up to ``length``.
    slice_bytes : int
        Of one slice; what a chunk holds beyond ``SLAB_BYTES`` goes into further slabs.
    """
    most = max(1, SLAB_BYTES // max(1, slice_bytes))
    edges: list[int] = []
    start = 0
    for size in chunks:
        edges += range(start, start + size, most)
        start += size
    return [*edges, length]


class SliceSource:
    """Reads slices of a scan, each part of a lazy one once as long as the order goes outward from one slice.

    Parameters
    ----------
    volume : Volume
        Data in numpy (a memory map too) or dask.
    axis : int
        Axis of the grid along which the slices follow one another.
    """

    def __init__(self, volume: Volume, axis: int = 0) -> None:
        self._data, self._axis = volume.data, axis
        self._edges: list[int] | None = None
        self._kept: OrderedDict[int, Array] = OrderedDict()
        chunks = None if isinstance(self._data, np.ndarray) else getattr(self._data, "chunks", None)
        if chunks is not None:
            length = volume.grid[axis]
            each = volume.channels * int(np.prod(volume.grid)) // length * np.dtype(self._data.dtype).itemsize
            self._edges = slab_edges(length, chunks[1 + axis], each)

    def read(self, z: int) -> Array:
        """Return slice ``z`` (C, rows, columns), a view where the scan is in memory."""
        if self._edges is None:
            return np.asarray(self._data[self._at(z)])
        number = int(np.searchsorted(self._edges, z, side="right")) - 1
        if number not in self._kept:
            if len(self._kept) >= _SLABS_KEPT:
                self._kept.popitem(last=False)
            part = slice(self._edges[number], self._edges[number + 1])
            self._kept[number] = np.asarray(self._data[self._at(part)])
        self._kept.move_to_end(number)
        return self._kept[number][self._at(z - self._edges[number])]

    def _at(self, index: int | slice) -> tuple[int | slice, ...]:
        return (slice(None), *at(self._axis, index))


class LabelSink:
    """Writes finished slices of labels into an array.

    Parameters
    ----------
    array : array (Z, Y, X)
        Numpy, or anything that is set like it; where it has ``chunks`` (zarr), whole slabs are set at once.
    axis : int
        Axis along which the slices follow one another.
    slices : iterable of int
        Which will come.
    """

    def __init__(self, array: Any, axis: int, slices: Iterable[int]) -> None:
        self._array, self._axis = array, axis
        self._edges: list[int] | None = None
        self._open: dict[int, dict[int, Array]] = {}
        chunks = None if isinstance(array, np.ndarray) else getattr(array, "shards", None) or _chunks(array)
        if chunks is not None:
            length, thick = array.shape[axis], int(chunks[axis])
            sizes = [min(thick, length - start) for start in range(0, length, thick)]
            each = int(np.prod(array.shape)) // length * np.dtype(array.dtype).itemsize
            self._edges = slab_edges(length, sizes, each)
            self._missing = Counter(self._number(z) for z in slices)

    def write(self, z: int, labels: Array) -> None:
        """Set slice ``z``, at the latest when the last slice of its slab came."""
        if self._edges is None:
            self._array[at(self._axis, z)] = labels
            return
        number = self._number(z)
        part = self._open.setdefault(number, {})
        part[z] = labels
        self._missing[number] -= 1
        if self._missing[number] == 0:
            self._set(number, self._open.pop(number))

    def _set(self, number: int, part: dict[int, Array]) -> None:
        assert self._edges is not None
        start, stop = self._edges[number], self._edges[number + 1]
        if len(part) == stop - start:
            whole = np.stack([part[z] for z in range(start, stop)], axis=self._axis)
            self._array[at(self._axis, slice(start, stop))] = whole
            return
        for z, labels in part.items():
            self._array[at(self._axis, z)] = labels

    def _number(self, z: int) -> int:
        assert self._edges is not None
        return int(np.searchsorted(self._edges, z, side="right")) - 1


def _chunks(array: Any) -> tuple[int, ...] | None:
    """Return the shape of an array's chunks; None where it has none, or uneven ones (dask's, which cannot be set)."""
    chunks = getattr(array, "chunks", None)
    return chunks if chunks and all(isinstance(size, int) for size in chunks) else None


def check_target(array: Any, grid: tuple[int, int, int], largest: int) -> None:
    """Raise ``InputError`` where ``array`` cannot take labels up to ``largest`` on ``grid``."""
    if tuple(array.shape) != grid:
        raise InputError(f"The array for the result has shape {tuple(array.shape)}; the scan's grid is {grid}.")
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "iu" or np.iinfo(dtype).max < largest:
        raise InputError(f"The array for the result holds {dtype}; label values go up to {largest}: use uint16.")
