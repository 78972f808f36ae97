"""The files of a project: read with their damage told, replaced whole, and what was confirmed is kept."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from napari_llm4seg.corrections.manifest import (
    HISTORY,
    SCAN,
    SCANS,
    SLICES,
    ScanEntry,
    read_manifest,
    write_manifest,
)
from napari_llm4seg.corrections.project import LEFT_OVER
from napari_llm4seg.corrections.records import (
    SUFFIX,
    Array,
    Damaged,
    Record,
    read_arrays,
    read_info,
    write_record,
)
from napari_llm4seg.errors import InputError
from napari_llm4seg.files import replacing, writing

Key = tuple[str, int, int]
Merge = Literal["added", "replaced", "older", "same"]

# Of each slice, how many replaced or taken-back records are kept.
_KEPT = 10
_NAME = re.compile(r"^[zyx]\d{4,9}\.npz$")


class Shelf:
    """Scans and records of the project in ``folder``; not for several threads at once.

    Attributes
    ----------
    scans : dict of str to ScanEntry
    records : dict of (scan, axis, index) to Record
    messages : list of str
        What was found damaged, one sentence each.
    writable : bool
        Without it nothing is changed, not even what is damaged or left over.
    """

    def __init__(self, folder: Path, writable: bool) -> None:
        self.folder, self.writable = folder, writable
        self.scans: dict[str, ScanEntry] = {}
        self.records: dict[Key, Record] = {}
        self.messages: list[str] = []

    def scan_folder(self, scan: str) -> Path:
        return self.folder / SCANS / scan

    def path(self, key: Key) -> Path:
        """Return the file of one slice's record."""
        scan, axis, index = key
        return self.scan_folder(scan) / SLICES / f"{'zyx'[axis]}{index:04d}{SUFFIX}"

    def tell(self, message: str) -> None:
        """Keep ``message`` unless it was told already."""
        if not any(known.startswith(message) for known in self.messages):
            self.messages.append(message)

    # --- reading ------------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Look at the folder anew."""
        self.scans.clear()
        self.records.clear()
        self._clear_left_over(self.folder)
        folder = self.folder / SCANS
        for scan in sorted(folder.iterdir()) if folder.is_dir() else []:
            try:
                if scan.is_dir() and not scan.name.startswith("."):
                    self._read_scan(scan)
            except InputError as error:
                self.tell(str(error))

    def _read_scan(self, folder: Path) -> None:
        self._clear_left_over(folder)
        if not (folder / SCAN).exists() and not any(folder.glob(f"{SLICES}/*")):
            return  # whoever was to write its entry was killed; nothing was corrected yet
        entry = read_manifest(folder / SCAN, ScanEntry, "scan")
        if entry.id != folder.name:
            raise InputError(f"The folder '{folder}' says it is of the scan '{entry.id}'; give it that name.")
        self.scans[entry.id] = entry
        self._read_records(entry)

    def _read_records(self, scan: ScanEntry) -> None:
        home = self.scan_folder(scan.id)
        for folder in (home / HISTORY, home / SLICES):
            self._clear_left_over(folder)
        for path in sorted((home / SLICES).iterdir()) if (home / SLICES).is_dir() else []:
            if _NAME.match(path.name):
                self._read_record(scan, path)

    def _clear_left_over(self, folder: Path) -> None:
        """Remove what a process that was killed while it wrote has left."""
        for path in folder.iterdir() if self.writable and folder.is_dir() else ():
            if LEFT_OVER.match(path.name):
                path.unlink(missing_ok=True)

    def _read_record(self, scan: ScanEntry, path: Path) -> None:
        try:
            record = read_info(path).model_copy(update={"scan": scan.id})
            if path != self.path(record.key) or not scan.fits(record):
                raise Damaged(f"The correction '{path.name}' of '{scan.name}' is of another scan or slice.")
            self.records[record.key] = record
        except Damaged as error:
            self._set_aside(path, str(error))
        except InputError as error:
            self.tell(str(error))

    def arrays(self, record: Record) -> tuple[Array, Array, Array | None]:
        """Return ``read_arrays`` of the record; where its file is damaged it is set aside and the error raised."""
        path = self.path(record.key)
        try:
            return read_arrays(path, self.records.get(record.key, record))
        except Damaged as error:
            self._set_aside(path, str(error))
            self.records.pop(record.key, None)
            raise

    def _set_aside(self, path: Path, message: str) -> None:
        """Leave a damaged record to whoever can mend it, where it is in nobody's way."""
        done = ""
        if self.writable:
            try:
                os.replace(path, _free(path.with_name(path.name + ".damaged")))
                done = " It was set aside, all others are as they were."
            except OSError:
                pass
        self.tell(message + done)

    # --- writing ------------------------------------------------------------------------------------------------------

    def keep_scan(self, scan: ScanEntry) -> None:
        """Write the scan's entry where it is new, or its file has moved."""
        if self.scans.get(scan.id) == scan:
            return
        folder = self.scan_folder(scan.id)
        write_manifest(folder / SCAN, scan)
        with writing(folder):
            (folder / SLICES).mkdir(exist_ok=True)
        known = scan.id in self.scans
        self.scans[scan.id] = scan
        if not known:
            self._read_records(scan)  # those of a scan whose entry was damaged

    def write(self, record: Record, image: Array, labels: Array, annotated: Array | None, keep_old: str = "") -> None:
        """Write a record in the place of the one before.

        That goes to the history where it was confirmed and said otherwise, or where ``keep_old`` gives a reason.
        """
        old = self.records.get(record.key)
        if old is not None and (keep_old or (old.state == "confirmed" and old.digest != record.digest)):
            with self._history(old, keep_old or "replaced") as target:
                _link_or_copy(self.path(old.key), target)
        with replacing(self.path(record.key), durable=True) as temporary:
            write_record(temporary, record, image, labels, annotated)
        self.records[record.key] = record

    def merge(self, record: Record, image: Array, labels: Array, annotated: Array | None) -> Merge:
        """Bring in a record of another project: the newer one counts, the other goes to the history."""
        old = self.records.get(record.key)
        if old is None:
            self.write(record, image, labels, annotated)
            return "added"
        if (old.digest, old.state) == (record.digest, record.state):
            return "same"
        if record.time > old.time:
            self.write(record, image, labels, annotated, keep_old="merged")
            return "replaced"
        with self._history(record, "merged") as target, replacing(target) as temporary:
            write_record(temporary, record, image, labels, annotated)
        return "older"

    def take_back(self, record: Record) -> None:
        """Move a record into the history."""
        with self._history(record, "undone") as target:
            os.replace(self.path(record.key), target)
        del self.records[record.key]

    @contextmanager
    def _history(self, record: Record, why: str) -> Iterator[Path]:
        """Yield where in the history ``record`` goes, and let go of the oldest beyond what is kept."""
        path = self.path(record.key)
        folder = self.scan_folder(record.scan) / HISTORY
        stamp = re.sub(r"\D", "", record.time.partition("+")[0])
        with writing(folder):
            folder.mkdir(exist_ok=True)
            yield folder / f"{path.stem}.{stamp}.{why}{SUFFIX}"
            for each in sorted(folder.glob(f"{path.stem}.*{SUFFIX}"))[:-_KEPT]:
                each.unlink(missing_ok=True)


def _free(path: Path) -> Path:
    """Return ``path``, or with a number where something is there."""
    target, number = path, 2
    while target.exists():
        target, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return target


def _link_or_copy(source: Path, target: Path) -> None:
    if target.exists():  # from a try that the disk refused later
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
