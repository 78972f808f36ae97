"""Projects as one file, and two projects as one."""

from __future__ import annotations

import math
import re
import shutil
import stat
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_llm4seg.corrections.manifest import HISTORY, PROJECT, SCAN, SCANS, SLICES, VOXELS, ScanEntry, read_manifest
from napari_llm4seg.corrections.records import SUFFIX, most_bytes, read_arrays, read_info
from napari_llm4seg.corrections.store import SampleStore
from napari_llm4seg.corrections.voxels import write_voxels
from napari_llm4seg.digests import scan_digest
from napari_llm4seg.errors import InputError, LLM4SegError, one_line
from napari_llm4seg.files import replacing, writing
from napari_llm4seg.io._files import existing

Progress = Callable[[int, int, str], Any]

_IMPORT = ".import-"
_MOST_FILES = 1 << 18
_MOST_JSON = 1 << 20
_SPARE = 64 << 20
_HEADER = 4096
_ID = r"[a-z0-9][a-z0-9_-]{0,60}-[0-9a-f]{12}"
_HISTORY_NAME = re.compile(r"^[zyx]\d{4,9}\.\d{20}\.(undone|replaced|merged)\.npz$")
_MEMBER = re.compile(
    rf"^(?:{PROJECT}|{SCANS}/{_ID}/(?:{re.escape(SCAN)}|{re.escape(VOXELS)}"
    rf"|{SLICES}/[zyx]\d{{4,9}}\.npz|{HISTORY}/[zyx]\d{{4,9}}\.\d{{20}}\.[a-z]+\.npz))$"
)


@dataclass
class Merged:
    """What a merge did.

    Attributes
    ----------
    scans : int
        Scans that were new here.
    added, replaced, older, same : int
        Records that were new, newer than ours, older than ours, or as ours; what lost went to the history.
    messages : list of str
        What could not be brought in, one sentence each.
    """

    scans: int = 0
    added: int = 0
    replaced: int = 0
    older: int = 0
    same: int = 0
    messages: list[str] = field(default_factory=list)

    def words(self) -> str:
        """Return what was brought in, in a sentence or two."""
        new, other = self.added + self.replaced, self.older + self.same
        parts = [f"{new} corrected slice{'' if new == 1 else 's'} brought in"]
        if other:
            parts.append(f"{other} {'was' if other == 1 else 'were'} here already, as new or newer")
        return " ".join([", ".join(parts) + ".", *self.messages])


def export_zip(store: SampleStore, path: Path, progress: Progress | None = None) -> Path:
    """Write a project into one zip file, whole or not at all. Returns ``path``.

    Checkpoints trained in it stay behind; where the scans' files lie on this machine is not told.

    Raises
    ------
    InputError
        Where the disk refuses.
    """
    files = []
    for scan in store.scans():
        folder = store.folder / SCANS / scan.id
        names = [f"{SLICES}/{each.name}" for each in sorted((folder / SLICES).glob(f"*{SUFFIX}"))]
        names += [f"{HISTORY}/{each.name}" for each in sorted((folder / HISTORY).glob(f"*{SUFFIX}"))]
        names += [VOXELS] if (folder / VOXELS).is_file() else []
        files += [(folder / name, f"{SCANS}/{scan.id}/{name}") for name in names]
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        archive.write(store.folder / PROJECT, PROJECT)
        for scan in store.scans():
            nowhere = scan.model_copy(update={"source": Path(scan.source).name, "source_relative": ""})
            archive.writestr(f"{SCANS}/{scan.id}/{SCAN}", nowhere.model_dump_json(indent=2))
        for done, (source, name) in enumerate(files):
            try:
                archive.write(source, name)
            except FileNotFoundError:  # taken back a moment ago
                continue
            if progress is not None:
                progress(done + 1, len(files), "exporting")
    return path


def import_zip(store: SampleStore, path: Path, progress: Progress | None = None) -> Merged:
    """Bring the project in a zip file into ``store``, as ``merge`` does.

    Raises
    ------
    InputError
        If it is no such file, names files outside its folder, says other sizes than its scans have, does not fit on the
        disk, or contradicts the project's classes. Then nothing was changed.
    """
    store.needs_writing()
    path = existing(path)
    for left in store.folder.glob(f"{_IMPORT}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with writing(store.folder), tempfile.TemporaryDirectory(prefix=_IMPORT, dir=store.folder) as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as archive:
                skipped = _unpack(archive, folder, path, progress)
        except LLM4SegError:
            raise
        except OSError:
            raise
        except Exception as error:  # whatever a hostile archive makes of the library
            reason = one_line(error, 120).rstrip(".")
            raise InputError(f"'{path}' cannot be read as an exported project: {reason}.") from error
        with SampleStore.open(folder, read_only=True) as other:
            merged = merge(store, other, progress)
    if skipped:
        merged.messages.append(f"{skipped} file(s) of '{path.name}' belong to no project and were left out.")
    return merged


def _unpack(archive: zipfile.ZipFile, folder: Path, path: Path, progress: Progress | None) -> int:
    """Write the project's own files into ``folder``; return how many others there were."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > _MOST_FILES:
        raise InputError(f"'{path}' holds {len(infos)} files; no project has so many.")
    for info in infos:
        if _escapes(info):
            raise InputError(f"'{path}' names the file {info.filename[:80]!r} outside its folder; it was not imported.")
    known = {info.filename: info for info in infos if _MEMBER.match(info.filename)}
    if PROJECT not in known:
        raise InputError(f"'{path}' is no exported project: it has no {PROJECT}. Choose a file that was exported here.")
    size, free = sum(info.file_size for info in known.values()), shutil.disk_usage(folder).free
    if size + _SPARE > free:
        raise InputError(f"'{path}' takes {size >> 20} MiB unpacked and the disk has {free >> 20} MiB free. Make room.")
    manifests = [name for name in known if name == PROJECT or name.endswith(f"/{SCAN}")]
    for name in manifests:
        _extract(archive, known[name], folder, _MOST_JSON)
    entries = {
        name.rpartition("/")[0]: read_manifest(folder / name, ScanEntry, "scan")
        for name in manifests
        if name != PROJECT
    }
    others = [name for name in known if name not in manifests]
    skipped = len(infos) - len(known)
    for done, name in enumerate(others):
        home = "/".join(name.split("/")[:2])
        if home in entries:
            _extract(archive, known[name], folder, _most(entries[home], name))
        else:
            skipped += 1
        if progress is not None:
            progress(done + 1, len(others), "unpacking")
    return skipped


def _escapes(info: zipfile.ZipInfo) -> bool:
    """Return whether a member would land outside its folder, or is no plain file."""
    name = info.orig_filename
    parts = re.split(r"[/\\]", name)
    odd = name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name
    return odd or stat.S_ISLNK(info.external_attr >> 16)


def _most(scan: ScanEntry, name: str) -> int:
    """Return how large a scan's file may be."""
    itemsize = np.dtype(scan.dtype).itemsize
    if name.endswith(VOXELS):
        return math.prod(scan.grid) * scan.channels * itemsize + _HEADER
    axis = "zyx".index(name.rpartition("/")[2][0])
    return most_bytes(scan.shapes(axis)[0], itemsize)


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path, most: int) -> None:
    if info.file_size > most:
        raise InputError(
            f"'{archive.filename}' holds {info.filename} of {info.file_size} bytes; it has {most} at most."
        )
    target = folder.joinpath(*info.filename.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file)


def merge(
    store: SampleStore, other: SampleStore, progress: Progress | None = None, only: Collection[str] | None = None
) -> Merged:
    """Bring everything of ``other``, or only its scans of these ids, into ``store``; nothing of either is lost.

    Scans are the same where their voxels are. Of two records of a slice the newer counts and the other goes to the
    history.

    Raises
    ------
    InputError
        Where a label value means something else in the other project (then nothing was changed), or the disk refuses.
    """
    store.add_classes(other.classes)
    store.hold_back(other.held_back)
    merged, counts = Merged(), Counter[str]()
    records, done = other.records(), 0
    for theirs in other.scans():
        if only is not None and theirs.id not in only:
            continue
        ours = next((scan for scan in store.scans() if (scan.digest, scan.grid) == (theirs.digest, theirs.grid)), None)
        merged.scans += ours is None
        scan = ours or theirs
        store.keep_scan(scan)
        for record in other.records(theirs):
            try:
                arrays = other.arrays(record)
            except InputError:
                continue  # told in the other's messages
            counts[store.merge_record(scan, record.model_copy(update={"scan": scan.id}), *arrays)] += 1
            done += 1
            if progress is not None:
                progress(done, len(records), "merging")
        _merge_history(store, scan, other.folder / SCANS / theirs.id / HISTORY)
        _merge_voxels(store, scan, other, theirs, merged)
    merged.added, merged.replaced, merged.older, merged.same = (
        counts[name] for name in ("added", "replaced", "older", "same")
    )
    merged.messages += other.messages
    return merged


def _merge_history(store: SampleStore, scan: ScanEntry, history: Path) -> None:
    target = store.folder / SCANS / scan.id / HISTORY
    for path in sorted(history.glob(f"*{SUFFIX}")):
        if not _HISTORY_NAME.match(path.name) or (target / path.name).exists():
            continue
        try:
            record = read_info(path)
            read_arrays(path, record)
        except InputError:
            continue  # what is damaged there can restore nothing
        if scan.fits(record):
            with replacing(target / path.name) as temporary:
                shutil.copyfile(path, temporary)


def _merge_voxels(store: SampleStore, scan: ScanEntry, other: SampleStore, theirs: ScanEntry, merged: Merged) -> None:
    source, target = (each.folder / SCANS / entry.id / VOXELS for each, entry in ((other, theirs), (store, scan)))
    if source.is_file() and not target.is_file():
        try:
            volume = other.volume(theirs)
            if scan_digest(volume) != theirs.digest:
                raise InputError(f"The voxels of '{theirs.name}' are not those of its corrections; they were left out.")
            write_voxels(target, volume)
        except InputError as error:
            merged.messages.append(str(error))
