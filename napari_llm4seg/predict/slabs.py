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


def edges_of(array: Any, axis: int) -> list[int] | None:
    """Return the slabs of ``array`` along ``axis`` by its chunks (dask's or zarr's); None where it has none."""
    chunks = None if isinstance(array, np.ndarray) else getattr(array, "shards", None) or getattr(array, "chunks", None)
    if not chunks:
        return None
    length, sizes = array.shape[axis], chunks[axis]
    if isinstance(sizes, int):  # zarr's are all alike but for the last
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)]
    each = int(np.prod(array.shape)) // length * np.dtype(array.dtype).itemsize
    return slab_edges(length, sizes, each)


class SliceSource:
    """Reads slices of an array, each part of a lazy one once as long as the order goes outward from one slice.

    Parameters
    ----------
    data : array
        In numpy (a memory map too), dask or zarr.
    axis : int
        Axis along which the slices follow one another.
    """

    def __init__(self, data: Any, axis: int) -> None:
        self._data, self._axis = data, axis
        self._edges = edges_of(data, axis)
        self._kept: OrderedDict[int, Array] = OrderedDict()

    def read(self, z: int) -> Array:
        """Return slice ``z``, without ``axis``; a view where the array is in memory."""
        if self._edges is None:
            return np.asarray(self._data[at(self._axis, z)])
        number = int(np.searchsorted(self._edges, z, side="right")) - 1
        if number not in self._kept:
            if len(self._kept) >= _SLABS_KEPT:
                self._kept.popitem(last=False)
            part = slice(self._edges[number], self._edges[number + 1])
            self._kept[number] = np.asarray(self._data[at(self._axis, part)])
        self._kept.move_to_end(number)
        return self._kept[number][at(self._axis, z - self._edges[number])]


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
        self._edges = edges_of(array, axis)
        self._open: dict[int, dict[int, Array]] = {}
        self._missing = Counter(self._number(z) for z in slices) if self._edges is not None else Counter()

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


def check_target(array: Any, grid: tuple[int, int, int], largest: int) -> None:
    """Raise ``InputError`` where ``array`` cannot take labels up to ``largest`` on ``grid``."""
    if tuple(array.shape) != grid:
        raise InputError(f"The array for the result has shape {tuple(array.shape)}; the scan's grid is {grid}.")
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "iu" or np.iinfo(dtype).max < largest:
        raise InputError(f"The array for the result holds {dtype}; label values go up to {largest}: use uint16.")
