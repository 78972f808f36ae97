"""Scans and masks made for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.corrections.manifest import ScanEntry
from napari_llm4seg.corrections.records import Record
from napari_llm4seg.corrections.store import SampleStore
from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]


def scan(
    seed: int = 0,
    grid: tuple[int, int, int] = (6, 12, 10),
    channels: int = 1,
    dtype: Any = np.int16,
    name: str = "CT 1",
) -> Volume:
    """Return a scan of random values; another seed is another scan."""
    values = np.random.default_rng(seed).integers(0, 200, (channels, *grid)).astype(dtype)
    return Volume(values, np.diag([3, 0.8, 0.7, 1]), unit="mm", name=name)


def mask(volume: Volume, axis: int, seed: int = 0, top: int = 3) -> Array:
    """Return random labels below ``top`` for a slice along ``axis``."""
    shape = tuple(side for other, side in enumerate(volume.grid) if other != axis)
    return np.random.default_rng(seed + 1).integers(0, top, shape).astype(np.uint8)


def image_of(volume: Volume, axis: int, index: int) -> Array:
    return np.asarray(volume.data).take(index, axis + 1)


def put(
    store: SampleStore, volume: Volume, index: int, labels: Array | None = None, axis: int = 0, **others: Any
) -> tuple[ScanEntry, Record]:
    """Correct one slice of ``volume`` with random labels of seed ``index``."""
    entry = store.scan_for(volume)
    labels = mask(volume, axis, index) if labels is None else labels
    state = others.pop("state", "confirmed")
    return entry, store.put(entry, index, axis, image_of(volume, axis, index), labels, state, **others)


def files(folder: Path) -> set[str]:
    """Return the files under ``folder`` but for the lock."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".lock"}
