"""napari's way to this package's readers: files by drag and drop, folders of DICOM, zarr."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from napari_llm4seg.gui.layer_tuples import LayerTuple, layers_of
from napari_llm4seg.io import FORMATS, Progress, TimeStack, largest
from napari_llm4seg.volume import Volume

T = TypeVar("T")
# What napari takes for "nothing to add".
_NOTHING: list[Any] = [(None,)]


def get_reader(path: Any) -> Callable[[Any], list[LayerTuple]] | None:
    """Return a napari reader for one path that ``napari_llm4seg.io`` knows, else None.

    Folders are looked into, not read: without zarr's metadata or DICOM files they are left to other readers.
    """
    if not isinstance(path, (str, Path)):
        return None
    where = Path(path)
    if where.is_dir():
        from napari_llm4seg.io import is_readable_folder

        return read_path if is_readable_folder(where) else None
    return read_path if where.name.lower().endswith(tuple(FORMATS)) else None


def read_path(path: Any) -> list[LayerTuple]:
    """Read what lies at ``path``; of several DICOM series those that a person ticks, all where there is no window."""
    from napari_llm4seg.io import series

    where = Path(path)
    found = _waiting(lambda tell: series(where, progress=tell), where)
    numbers: Sequence[int | None] = [None]
    if found is None:
        return _NOTHING
    if len(found) > 1:
        numbers = [one.number for one in found]
        if _application() is not None:
            from napari_llm4seg.gui.views.series_dialog import choose_series

            lines = [str(one) for one in found]
            numbers = [found[index].number for index in choose_series(where.name, lines, largest(found))]
    volumes = _waiting(lambda tell: read_all(where, numbers, tell), where) if numbers else None
    return layers_of(volumes) if volumes else _NOTHING


def read_all(path: Path, numbers: Sequence[int | None], progress: Progress | None = None) -> list[Volume | TimeStack]:
    """Read the chosen series of a folder, or the one scan of a file; label images of an OME-Zarr come with it."""
    from napari_llm4seg.io import companions, read_stack

    found = [read_stack(path, series=number, progress=progress) for number in numbers]
    return [*found, *(read_stack(place) for place in companions(path))]


def _application() -> Any:
    from qtpy.QtWidgets import QApplication

    return QApplication.instance()


def _waiting(work: Callable[[Progress], T], path: Path) -> T | None:
    """Do ``work`` in a thread while the window lives on and says what it waits for; None where it was cancelled.

    Where there is no window, or this is not its thread, the work is done here and now.
    """
    if _application() is None or threading.current_thread() is not threading.main_thread():
        return work(lambda *step: None)
    from napari_llm4seg.gui.views.waiting import wait_for

    return wait_for(work, f"Opening {path.name}")
