"""Projects of corrections that are open in this program: each once, with one writer, however many viewers use it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from psygnal import Signal

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.corrections import SampleStore, Writer

_PROJECTS: dict[Path, Project] = {}
_LOCK = threading.Lock()


def projects_folder() -> Path:
    """Return where every scan gets a project of its own; ``LLM4SEG_PROJECTS`` overrides the person's data folder."""
    given = os.environ.get("LLM4SEG_PROJECTS")
    if given:
        return Path(given)
    from platformdirs import user_data_path

    return user_data_path("napari-llm4seg", appauthor=False) / "corrections"


class Project:
    """A store with its writer; made by ``open_project``, given back by ``release``.

    Attributes
    ----------
    store : SampleStore
    writer : Writer or None
        None where the project is open for reading only.

    ``written`` is emitted with a record that has reached the disk, or None where one was taken back, ``trouble`` with a
    sentence when the disk begins to refuse and "" when that is over. Both in the writer's thread.
    """

    written = Signal(object)
    trouble = Signal(str)

    def __init__(self, store: SampleStore) -> None:
        self.store = store
        self.users = 1
        self.writer = (
            None if store.read_only else Writer(store, on_written=self.written.emit, on_trouble=self.trouble.emit)
        )

    def release(self) -> bool:
        """Write what is left; the last user's release lets others have the project. Return whether all was written.

        Takes as long as the disk does, ten seconds at most: not for the window's thread.
        """
        with _LOCK:
            self.users -= 1
            if self.users:
                return True if self.writer is None else self.writer.flush(10.0)
            # under the lock: whoever opens the project next finds it closed
            done = True if self.writer is None else self.writer.close()
            self.store.close()
            if _PROJECTS.get(self.store.folder) is self:
                del _PROJECTS[self.store.folder]
            return done


def open_project(
    folder: Path, *, create: bool = False, name: str = "", classes: Sequence[ClassSpec] = (), read_only: bool = False
) -> Project:
    """Return the project in ``folder``, the one that is open already where it is. Reads files: for a job.

    Raises
    ------
    InputError
        As ``SampleStore.open``.
    """
    place = Path(os.path.abspath(folder.expanduser()))
    with _LOCK:
        known = _PROJECTS.get(place)
        if known is not None and not (known.store.read_only and not read_only):
            known.users += 1
            return known
        project = Project(SampleStore.open(place, create=create, name=name, classes=classes, read_only=read_only))
        if not read_only:
            _PROJECTS[place] = project
        return project
