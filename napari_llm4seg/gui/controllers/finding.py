"""Scans known again in a project, and single corrections on their way into it. Its functions are for jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.corrections import Restored, ScanEntry, Writer
from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.controllers.projects import Project, open_project, projects_folder
from napari_llm4seg.planes import turned
from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Put:
    """A corrected slice to be kept; without ``image`` its correction is taken back.

    ``image`` is asked for in the writer's thread.
    """

    image: Callable[[], Array] | None = None
    labels: Array | None = None
    state: str = "edited"
    annotated: Array | None = None
    written: str = ""
    model: str = ""


@dataclass(frozen=True)
class Opened:
    digest: str
    folder: Path
    project: Project | None
    entry: ScanEntry | None
    restored: Mapping[int, Restored]
    trouble: str = ""


@dataclass(frozen=True)
class Late:
    folder: Path
    scan: Volume
    axis: int
    digest: str
    classes: tuple[ClassSpec, ...]
    waiting: Mapping[int, Put]


def as_before(scan: Volume, axis: int, earlier: Restored) -> Put:
    record, view = earlier.record, turned(scan, axis)
    return Put(
        lambda: np.asarray(view.slice_at(record.index)),
        earlier.labels,
        record.state,
        earlier.annotated,
        record.written,
        record.model,
    )


def same_voxels(a: Volume | None, b: Volume | None) -> bool:
    """Return whether two volumes are views of the same voxels."""
    if a is None or b is None or a.data.shape != b.data.shape or a.name != b.name:
        return False
    if isinstance(a.data, np.ndarray) and isinstance(b.data, np.ndarray):
        return bool(np.may_share_memory(a.data, b.data))
    return getattr(a.data, "name", a.data) == getattr(b.data, "name", b.data)  # of dask: a token of its content


def in_a_thread(call: Callable[[], None]) -> None:
    threading.Thread(target=call, name="corrections-end", daemon=True).start()


def hand(writer: Writer, entry: ScanEntry, z: int, axis: int, what: Put) -> bool:
    """Give the writer one slice; return whether it has a correction now."""
    if what.image is None or what.labels is None:
        writer.drop(entry, z, axis)
        return False
    more: Any = {"annotated": what.annotated, "written": what.written, "model": what.model}
    state: Any = what.state
    writer.put(entry, z, axis, what.image, what.labels, state, **more)
    return True


def find(
    scan: Volume,
    axis: int,
    digest: str,
    chosen: Path | None,
    classes: tuple[ClassSpec, ...],
    create: bool,
) -> Opened:
    """Recognise the scan and open the project that has it, or is to have it."""
    from napari_llm4seg.corrections.manifest import PROJECT, describe_scan
    from napari_llm4seg.digests import scan_digest

    digest = digest or scan_digest(scan)
    folder = chosen or projects_folder() / describe_scan(scan, digest, projects_folder()).id
    if not create and not (folder / PROJECT).is_file():
        return Opened(digest, folder, None, None, {})
    trouble = ""
    try:
        project = open_project(folder, create=create, name=scan.name, classes=classes)
    except InputError as error:
        trouble = str(error).replace(", or open the project here for reading only", "")
        trouble += " Nothing is lost while this window is open; it is tried again with the next correction."
        try:  # what others have there may be looked at all the same
            project = open_project(folder, read_only=True)
        except InputError:
            return Opened(digest, folder, None, None, {}, trouble)
    if project.writer is not None:  # another viewer's may be on their way
        project.writer.flush(2.0)
    entry = project.store.scan_for(scan, digest=digest)
    restored = project.store.restore(entry, axis)
    if trouble:
        project.release()
        return Opened(digest, folder, None, None, restored, trouble)
    return Opened(digest, folder, project, entry, restored)


def offer_words(restored: Mapping[int, Restored]) -> str:
    """Return what an earlier session left, in words: "3 corrected slices from 12 Nov"."""
    from datetime import datetime

    newest = datetime.fromisoformat(max(each.record.time for each in restored.values())).astimezone()
    count = len(restored)
    today = datetime.now().astimezone()
    day = "today" if newest.date() == today.date() else f"{newest.day} {newest:%b}"
    if newest.year != today.year:
        day = f"{day} {newest.year}"
    return f"{count} corrected slice{'s' if count > 1 else ''} from {day}"
