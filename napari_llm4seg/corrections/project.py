"""A project's folder: open for writing in one place at a time, for reading in any number."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import BaseFileLock

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.corrections.manifest import (
    PROJECT,
    SCAN,
    SCANS,
    ProjectInfo,
    joined_classes,
    read_manifest,
    write_manifest,
)
from napari_llm4seg.errors import InputError
from napari_llm4seg.lock import LOCK, hold

# What a process that was killed while it wrote leaves beside the file it was to be.
LEFT_OVER = re.compile(r"^\.[0-9a-f]{8}-.*\.(npz|npy|json)$")


class Project:
    """Name, classes and lock of a project; made by ``open``.

    Attributes
    ----------
    folder : Path
    read_only : bool
    """

    def __init__(self, folder: Path, info: ProjectInfo, lock: BaseFileLock | None) -> None:
        self.folder, self._info, self._file_lock = folder, info, lock
        self._lock = threading.RLock()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        create: bool = False,
        read_only: bool = False,
        name: str = "",
        classes: Sequence[ClassSpec] = (),
    ) -> Self:
        """Open the project in ``folder``; end with ``close`` or use as a context.

        Parameters
        ----------
        folder : path
        create : bool
            Whether to make one where there is none, of this ``name`` (the folder's by default) and these ``classes``.
        read_only : bool
            Whether nothing is to be written: several may read, also while another writes.

        Raises
        ------
        InputError
            If there is no project, the folder holds something else or cannot be written, or another viewer has it
            open for writing.
        """
        folder = Path(os.path.abspath(Path(folder).expanduser()))
        manifest = folder / PROJECT
        if not manifest.is_file():
            if not create or read_only:
                raise InputError(
                    f"'{folder}' is no project of corrections: it has no {PROJECT}. Choose another folder."
                )
            if folder.exists() and not _ours(folder):
                raise InputError(f"'{folder}' already holds something else; choose a new or empty folder.")
        if read_only:
            return cls(folder, _info(manifest), None)
        refusal = (
            f"Another viewer or run ({{}}) has the project '{folder}' open. Close it there, or open the project here "
            "for reading only."
        )
        lock = hold(folder, refusal)
        try:
            if not manifest.is_file():
                write_manifest(manifest, ProjectInfo(name=name or folder.name, classes=tuple(classes)))
            return cls(folder, _info(manifest), lock)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Let others write; what was read stays usable."""
        if self._file_lock is not None:
            self._file_lock.release()
            self._file_lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def read_only(self) -> bool:
        return self._file_lock is None

    @property
    def name(self) -> str:
        return self._info.name

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        return self._info.classes

    @property
    def held_back(self) -> frozenset[str]:
        """Image digests of the slices that judge what was trained and never train themselves."""
        return frozenset(self._info.held_back)

    def add_classes(self, classes: Sequence[ClassSpec]) -> None:
        """Make the project know these classes too.

        Raises
        ------
        InputError
            Where a label value means something else in the project.
        """
        with self._lock:
            self._change(classes=joined_classes(self.classes, classes))

    def hold_back(self, image_digests: Iterable[str]) -> None:
        """Lock slices, known by ``Record.image_digest``: they judge from now on, in every later round too."""
        with self._lock:
            self._change(held_back=tuple(sorted(self.held_back | set(image_digests))))

    def _change(self, **changes: Any) -> None:
        info = self._info.model_copy(update=changes)
        if info != self._info:
            self.needs_writing()
            write_manifest(self.folder / PROJECT, info)
            self._info = info

    def needs_writing(self) -> None:
        """Raise InputError where the project is open for reading only."""
        if self.read_only:
            raise InputError(f"The project '{self.folder}' is open for reading only; nothing was written.")


def _info(manifest: Path) -> ProjectInfo:
    try:
        return read_manifest(manifest, ProjectInfo, "project")
    except InputError as error:
        raise InputError(
            f"{error} Mend it, or move it away and make the project anew in the same folder: the corrections stay."
        ) from error


def _ours(folder: Path) -> bool:
    """Return whether ``folder`` may become a project: empty, or one whose manifest got lost or was never finished."""
    if not folder.is_dir():
        return False
    begun = all(entry.name == LOCK or LEFT_OVER.match(entry.name) for entry in folder.iterdir())
    return begun or any(folder.glob(f"{SCANS}/*/{SCAN}"))
