"""Scans known again in a project, and single corrections on their way into it. Its functions are for jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.corrections import Restored, SampleStore, ScanEntry, Writer
from napari_llm4seg.corrections.review import SliceState
from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.controllers.homes import (
    AUTOMATIC,
    Home,
    ProjectChoice,
    bring_in,
    earlier_project,
    image_file,
    own_home,
    shared_home,
    siblings,
)
from napari_llm4seg.gui.controllers.projects import Project, open_project
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
    state: SliceState = "edited"
    annotated: Array | None = None
    written: str = ""
    model: str = ""


@dataclass(frozen=True)
class Opened:
    """A scan that was recognised: its project, None while there is none, and what that holds of it.

    ``images`` are the files that a single image lies among, ``marks`` what was corrected of the project's images,
    ``others`` how many slices of its other scans. ``trouble`` is why nothing can be written, ``said`` what a person
    should know.
    """

    digest: str
    home: Home
    project: Project | None = None
    entry: ScanEntry | None = None
    restored: Mapping[int, Restored] = field(default_factory=dict)
    images: tuple[Path, ...] = ()
    marks: Mapping[Path, SliceState] = field(default_factory=dict)
    others: int = 0
    trouble: str = ""
    said: str = ""


def state_of(what: Put) -> SliceState | None:
    """Return what a correction makes of its slice, None where it is taken back."""
    return None if what.image is None else what.state


def mark(marks: dict[Path, SliceState], handed: Mapping[Path, SliceState | None]) -> None:
    """Bring what was corrected of images up to date by what was handed to the writer; None is taken back."""
    for path, state in handed.items():
        if state is None:
            marks.pop(path, None)
        else:
            marks[path] = state


def with_handed(
    opened: Opened, handed: Mapping[Path, SliceState | None], image: Path | None
) -> tuple[dict[Path, SliceState], int]:
    """Return the marks and the number of slices of other scans than ``image``, with what the disk may not have yet."""
    marks = dict(opened.marks)
    mark(marks, handed)
    change = sum((path in marks) - (path in opened.marks) for path in handed if path != image)
    return marks, opened.others + change


@dataclass(frozen=True)
class Wanted:
    """What is to be recognised: a scan along an axis, its digest where it is known, and which project is chosen."""

    scan: Volume
    axis: int = 0
    digest: str = ""
    choice: ProjectChoice = AUTOMATIC
    classes: tuple[ClassSpec, ...] = ()


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


def find(wanted: Wanted, create: bool) -> Opened:
    """Recognise the scan and open the project that has it, or is to have it."""
    from napari_llm4seg.corrections.manifest import PROJECT
    from napari_llm4seg.digests import scan_digest

    scan = wanted.scan
    digest = wanted.digest or scan_digest(scan)
    home = shared_home(scan, wanted.axis, wanted.choice) or own_home(scan, digest)
    earlier = earlier_project(home, scan, digest)
    single = image_file(scan, wanted.axis)
    images = siblings(single) if single is not None else ()
    nothing = Opened(digest, home, images=images)
    if not create and earlier is None and not (home.folder / PROJECT).is_file():
        return nothing
    trouble = ""
    try:
        project = open_project(
            home.folder, create=create or earlier is not None, name=home.name, classes=wanted.classes
        )
    except InputError as error:
        trouble = str(error).replace(", or open the project here for reading only", "")
        trouble += " Nothing is lost while this window is open; it is tried again with the next correction."
        try:  # what others have there may be looked at all the same
            project = open_project(home.folder, read_only=True)
        except InputError:
            return replace(nothing, trouble=trouble)
    if project.writer is not None:  # another viewer's may be on their way
        project.writer.flush(2.0)
    said = bring_in(project.store, scan, digest, earlier, home) if earlier is not None and not trouble else ""
    entry = project.store.scan_for(scan, digest=digest)
    restored = project.store.restore(entry, wanted.axis)
    others = sum(record.scan != entry.id for record in project.store.records())
    held = replace(nothing, restored=restored, marks=_marks(project.store) if single else {}, others=others)
    if trouble:
        project.release()
        return replace(held, trouble=trouble)
    return replace(held, project=project, entry=entry, said=said)


def _marks(store: SampleStore) -> dict[Path, SliceState]:
    """Return what was done with the single images of a project, by their files."""
    files = {scan.id: Path(scan.source) for scan in store.scans() if scan.grid[0] == 1 and scan.source}
    return {files[record.scan]: record.state for record in store.records() if record.scan in files and not record.axis}


def write_late(late: Wanted, waiting: Mapping[int, Put]) -> str:
    """Write corrections that were still waiting for a project when their scan was left; return what went wrong."""
    opened = find(late, create=True)
    if opened.project is None or opened.entry is None:
        return f"{len(waiting)} corrected slices of '{late.scan.name}' were not kept: {opened.trouble}"
    if opened.project.writer is not None:
        for z, what in waiting.items():
            hand(opened.project.writer, opened.entry, z, late.axis, what)
    if opened.project.release():
        return ""
    return f"Not every correction could be written to '{opened.project.store.folder}'."


def tell_classes(store: SampleStore, classes: tuple[ClassSpec, ...]) -> str:
    """Let a project know a mask's classes; return which of them means something else there, in a sentence."""
    known = {spec.value: spec for spec in store.classes}
    new = [spec for spec in classes if spec.value not in known]
    other = [spec for spec in classes if spec.value in known and known[spec.value].name != spec.name]
    if new:
        with suppress(InputError):
            store.add_classes(new)
    if not other:
        return ""
    return (
        f"Label {other[0].value} is '{known[other[0].value].name}' in this project and '{other[0].name}' in the mask. "
        "Choose another project, or rename the class."
    )


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
