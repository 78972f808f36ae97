"""A project: the corrected slices of many scans in one folder, each in a file that is whole or not there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock

from napari_llm4seg.corrections.manifest import (
    SCANS,
    VOXELS,
    ProjectInfo,
    ScanEntry,
    describe_scan,
    plain_dtype,
)
from napari_llm4seg.corrections.project import Project
from napari_llm4seg.corrections.records import (
    Array,
    Record,
    State,
    as_trained,
    compact,
    describe,
    unannotated,
)
from napari_llm4seg.corrections.shelf import Merge, Shelf
from napari_llm4seg.corrections.voxels import from_source, read_voxels, write_voxels
from napari_llm4seg.digests import scan_digest
from napari_llm4seg.errors import InputError
from napari_llm4seg.volume import Volume

Progress = Callable[[int, int, str], Any]


@dataclass(frozen=True)
class Restored:
    """A slice as the person left it.

    Attributes
    ----------
    labels : array (Y, X), uint8 or uint16
        The whole mask of the slice, also where it was not annotated.
    annotated : bool array (Y, X), or None
        Which pixels count; None where all do.
    record : Record
    """

    labels: Array
    annotated: Array | None
    record: Record


class SampleStore(Project):
    """Corrections on disk; made by ``open``. Any thread may use it.

    Attributes
    ----------
    messages : list of str
        What was found damaged, one sentence each.
    others
        As in ``Project``.
    """

    def __init__(self, folder: Path, info: ProjectInfo, lock: BaseFileLock | None) -> None:
        super().__init__(folder, info, lock)
        self._shelf = Shelf(folder, writable=lock is not None)
        self._shelf.reload()

    def close(self) -> None:
        self._shelf.writable = False
        super().close()

    @property
    def messages(self) -> list[str]:
        return self._shelf.messages

    def reload(self) -> None:
        """Look at the folder anew, for what another process has written meanwhile."""
        with self._lock:
            self._shelf.reload()

    def scans(self) -> tuple[ScanEntry, ...]:
        """Return the scans of the project, by name."""
        with self._lock:
            return tuple(sorted(self._shelf.scans.values(), key=lambda scan: (scan.name, scan.id)))

    def scan_for(self, volume: Volume, progress: Progress | None = None, *, digest: str = "") -> ScanEntry:
        """Return the project's entry of ``volume``, known by its voxels even where its file has moved.

        One that is new is written with its first correction. Reads every voxel, unless their ``scan_digest`` is given:
        off the window's thread, please.
        """
        found = describe_scan(volume, digest or scan_digest(volume, progress), self.folder)
        with self._lock:
            for entry in self._shelf.scans.values():
                if (entry.digest, entry.grid) == (found.digest, found.grid):
                    return found.model_copy(update={"id": entry.id, "added": entry.added})
        return found

    def put(
        self,
        scan: ScanEntry,
        index: int,
        axis: int,
        image: Array,
        labels: Array,
        state: State,
        *,
        annotated: Array | None = None,
        written: str = "",
        model: str = "",
    ) -> Record:
        """Write the correction of one slice, whole or not at all.

        Parameters
        ----------
        scan : ScanEntry
            From ``scan_for`` or ``scans``.
        index, axis : int
            Which slice along which axis of the scan's grid.
        image : array (C, Y, X)
            The slice in the scan's own values and dtype.
        labels : array (Y, X) of label values, 0 = background
            The whole mask of the slice as the person sees it.
        state : {"edited", "confirmed"}
        annotated : bool array (Y, X), optional
            Which pixels count; all by default.
        written, model : str
            ``mask_digest`` of what the checkpoint of digest ``model`` had written there.

        Raises
        ------
        InputError
            If the arrays do not fit the scan, or the disk refuses; then the record from before is as it was.
        """
        labels, annotated = self.check_labels(scan, index, axis, labels, annotated)
        arrays = self.check_image(scan, axis, image), labels, annotated
        record = describe((scan.id, axis, index), state, *arrays, written=written, model=model)
        self.put_record(scan, record, *arrays)
        return record

    def check_labels(
        self, scan: ScanEntry, index: int, axis: int, labels: Array, annotated: Array | None
    ) -> tuple[Array, Array | None]:
        """Return a slice's mask and what of it counts as records hold them; what is in that form is not copied.

        Raises
        ------
        InputError
            If they do not fit the scan, or the project is open for reading only.
        """
        self.needs_writing()
        name, plane = f"slice {index} of '{scan.name}'", scan.shapes(axis)[1]
        if not 0 <= index < scan.grid[axis]:
            raise InputError(f"There is no {name} along {'zyx'[axis]}; it has {scan.grid[axis]} there.")
        labels = compact(labels, name)
        for what, array in (("mask", labels), ("annotated part", annotated)):
            if array is not None and array.shape != plane:
                raise InputError(f"The {what} of {name} is {array.shape}; that scan's slices are {plane}.")
        whole = annotated is None or bool(annotated.all())
        return labels, None if whole else np.asarray(annotated, dtype=np.bool_)

    def check_image(self, scan: ScanEntry, axis: int, image: Array) -> Array:
        """Return a slice's image as records hold it; raises InputError where it does not fit the scan."""
        if image.shape != scan.shapes(axis)[0]:
            raise InputError(f"The image is {image.shape}; a slice of '{scan.name}' is {scan.shapes(axis)[0]}.")
        return np.ascontiguousarray(image, dtype=plain_dtype(image.dtype))

    def put_record(self, scan: ScanEntry, record: Record, image: Array, labels: Array, annotated: Array | None) -> None:
        """Write a record as it is, such as one of another project; its arrays as ``read_arrays`` returns them."""
        with self._lock:
            self.needs_writing()
            self._shelf.keep_scan(scan)
            self._shelf.write(record, image, labels, annotated)

    def keep_scan(self, scan: ScanEntry) -> None:
        """Write the scan's entry, which ``put`` does too."""
        with self._lock:
            self.needs_writing()
            self._shelf.keep_scan(scan)

    def merge_record(
        self, scan: ScanEntry, record: Record, image: Array, labels: Array, annotated: Array | None
    ) -> Merge:
        """Bring in a record of another project; of two of a slice the newer counts, the other goes to the history."""
        with self._lock:
            self.needs_writing()
            self._shelf.keep_scan(scan)
            return self._shelf.merge(record, image, labels, annotated)

    def drop(self, scan: ScanEntry, index: int, axis: int = 0) -> None:
        """Take a slice's correction back: it counts no more, but stays in the scan's history."""
        with self._lock:
            old = self._shelf.records.get((scan.id, axis, index))
            if old is not None:
                self.needs_writing()
                self._shelf.take_back(old)

    def records(self, scan: ScanEntry | None = None) -> tuple[Record, ...]:
        """Return the records of a scan, or of all scans, by scan, axis and slice."""
        with self._lock:
            records = self._shelf.records
            return tuple(records[key] for key in sorted(records) if scan is None or key[0] == scan.id)

    def arrays(self, record: Record) -> tuple[Array, Array, Array | None]:
        """Return a record's image (C, Y, X), labels (Y, X) and which of them count (Y, X), None where all do.

        Raises
        ------
        InputError
            If its file is damaged, which is then set aside, or gone.
        """
        with self._lock:
            return self._shelf.arrays(record)

    def load(self, record: Record) -> tuple[Array, Array]:
        """Return a record as a training sees it.

        Returns
        -------
        image : array (C, Y, X) in the scan's own values and dtype
        labels : array (Y, X)
            uint8, where 255 is not annotated; uint16 and 65535 where there are labels of 255 or more. See
            ``napari_llm4seg.corrections.unannotated``.

        Raises
        ------
        InputError
            If its file is damaged, which is then set aside, or gone.
        """
        image, labels, annotated = self.arrays(record)
        return image, as_trained(labels, annotated)

    def restore(self, scan: ScanEntry, axis: int = 0) -> dict[int, Restored]:
        """Return a scan's corrected slices along ``axis`` as they were left; damaged ones are told in ``messages``."""
        found = {}
        for record in self.records(scan):
            if record.axis == axis:
                try:
                    _, labels, annotated = self.arrays(record)
                except InputError as error:
                    self._shelf.tell(str(error))
                    continue
                found[record.index] = Restored(labels, annotated, record)
        return found

    def labels(self, scan: ScanEntry) -> Array:
        """Return all that is annotated of a scan as (Z, Y, X), the rest 255 (65535 in uint16, see ``load``).

        Where slices along different axes cross, the newest counts.
        """
        parts = []
        for record in sorted(self.records(scan), key=lambda each: each.time):
            try:
                parts.append((record, self.load(record)[1]))
            except InputError as error:
                self._shelf.tell(str(error))
        wide = any(labels.dtype != np.uint8 for _, labels in parts)
        whole = np.empty(scan.grid, dtype="<u2" if wide else np.uint8)
        whole[...] = unannotated(whole)
        for record, labels in parts:
            target = whole[(slice(None),) * record.axis + (record.index,)]
            known = labels != unannotated(labels)
            target[known] = labels[known]
        return whole

    def put_scan(self, volume: Volume, progress: Progress | None = None) -> ScanEntry:
        """Keep the whole scan's voxels too, once, for three-dimensional models.

        Raises
        ------
        InputError
            Where the disk has no room for it, or refuses.
        """
        scan = self.scan_for(volume, progress)
        self.keep_scan(scan)
        path = self.folder / SCANS / scan.id / VOXELS
        if not path.is_file():
            write_voxels(path, volume, progress)
        return scan

    def volume(self, scan: ScanEntry) -> Volume:
        """Return a whole scan: its kept voxels, or else its file as long as that holds the same ones.

        Raises
        ------
        InputError
            Where neither is there.
        """
        path = self.folder / SCANS / scan.id / VOXELS
        return read_voxels(path, scan) if path.is_file() else from_source(scan, self.folder)
