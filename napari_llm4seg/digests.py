"""What tells whether a scan, a slice of it or a mask is the same as before."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]

# Of a scan beyond this size only some slices are looked at: it lies on a disk and is read for this alone.
_WHOLE_BYTES = 2 << 30
_SOME_SLICES = 64


def voxel_digest(values: Array) -> bytes:
    """Return the sha256 over dtype, shape and bytes of an array, 32 bytes."""
    digest = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return digest.digest()


def joined_digest(digests: Mapping[int, bytes]) -> str:
    """Return the sha256 over numbered digests, in ascending order, as 64 hex digits."""
    whole = hashlib.sha256()
    for number in sorted(digests):
        whole.update(number.to_bytes(8, "little") + digests[number])
    return whole.hexdigest()


def scan_digest(volume: Volume, progress: Callable[[int, int, str], Any] | None = None) -> str:
    """Return what a scan is known by wherever its file lies: a sha256 over its slices (C, Y, X), as 64 hex digits.

    The same as a whole prediction's provenance has for its input. Of a scan beyond 2 GiB 64 slices count, evenly
    chosen from the first to the last.
    """
    n = volume.n_slices
    size = int(np.prod(volume.data.shape, dtype=np.int64)) * np.dtype(volume.data.dtype).itemsize
    few = size > _WHOLE_BYTES and n > _SOME_SLICES
    chosen = [round(i * (n - 1) / (_SOME_SLICES - 1)) for i in range(_SOME_SLICES)] if few else list(range(n))
    digests = {}
    for done, z in enumerate(chosen):
        digests[z] = voxel_digest(volume.slice_at(z))
        if progress is not None:
            progress(done + 1, len(chosen), "recognising the scan")
    return joined_digest(digests)


def mask_digest(slice_: Array) -> str:
    """Return what tells whether a slice of labels changed; an empty slice gives an empty string.

    A checksum and the number of labelled pixels, the same whatever integer type holds the labels: nobody forges edits,
    and a whole stack is looked at in one go.
    """
    count = np.count_nonzero(slice_)
    if not count:
        return ""
    if slice_.dtype != np.uint8 and slice_.min() >= 0 and slice_.max() <= 255:
        slice_ = slice_.astype(np.uint8)
    elif slice_.dtype != np.uint8:
        slice_ = slice_.astype(np.int64)
    return f"{zlib.crc32(np.ascontiguousarray(slice_).data):08x}-{count}"
