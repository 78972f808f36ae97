"""Corrections on their way to the disk: which project, known again or new, written at once, in trouble or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.corrections import Record, Restored, ScanEntry
from napari_llm4seg.corrections.review import SliceState
from napari_llm4seg.errors import Cancelled, InputError, one_line
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.finding import (
    Opened,
    Put,
    Wanted,
    as_before,
    find,
    hand,
    in_a_thread,
    mark,
    same_voxels,
    state_of,
    tell_classes,
    with_handed,
    write_late,
)
from napari_llm4seg.gui.controllers.holding import Holding
from napari_llm4seg.gui.controllers.homes import Home, ProjectChoice, image_file, shared_home
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.controllers.projects import Project
from napari_llm4seg.gui.views.abstract.common import Message
from napari_llm4seg.volume import Volume

# A project that was refused is asked for again with the next correction, but not more often than this.
_AGAIN_SECONDS = 3.0


class Saver:
    """Keeps the corrections of one scan in a project.

    Parameters
    ----------
    runner : Runner
        Recognises scans and opens projects.
    post : callable(callable)
        Runs its argument in the window's thread.
    on_change : callable()
        Something to draw has changed.
    on_found : callable(dict of int to Restored)
        The scan has been recognised, and this is what the project holds of it.
    choice : ProjectChoice
        Which project; by default a volume has one of its own, and the single images of a folder share one.
    aside : callable(callable), optional
        Runs what the disk may hold up, by default in a thread of its own.

    Attributes
    ----------
    images : tuple of Path
        The files that a single image lies among, itself one of them.
    marks : dict of Path to state
        What was done with the single images of the open project.
    others : int
        Corrected slices of the open project's other scans.
    """

    def __init__(
        self,
        runner: Runner,
        post: Callable[[Callable[[], None]], Any],
        on_change: Callable[[], None],
        on_found: Callable[[Mapping[int, Restored]], None],
        choice: ProjectChoice | None = None,
        aside: Callable[[Callable[[], None]], Any] | None = None,
    ) -> None:
        self._aside = aside or in_a_thread
        self._runner, self._post, self._on_change, self._on_found = runner, post, on_change, on_found
        self.choice = choice or ProjectChoice()
        self._holding = Holding(post, self._aside, self._written, self._troubled, self._tell)
        self.entry: ScanEntry | None = None
        self.trouble = ""
        self.message: Message | None = None
        self.writes = 0
        self.images: tuple[Path, ...] = ()
        self.marks: dict[Path, SliceState] = {}
        self.others = 0
        # of this project's images; the disk may not know of it yet when the next image is looked up there
        self._handed: dict[Path, SliceState | None] = {}
        self._scan: Volume | None = None
        self._axis = 0
        self._classes: tuple[ClassSpec, ...] = ()
        self._digest = ""
        self.home: Home | None = None
        self._opening = False
        self._waiting: dict[int, Put] = {}
        self._known: set[int] = set()
        # what earlier sessions left and nobody has taken up: it comes back when an edit over it is undone
        self._earlier: dict[int, Restored] = {}
        self._refused_at = -_AGAIN_SECONDS
        self._closed = False

    # ------------------------------------------------------------------ which scan, which project

    def follow(self, scan: Volume | None, axis: int = 0) -> None:
        """Keep corrections of ``scan`` from now on; those of the one before are written."""
        if self.follows(scan, axis) and (scan is not None or self.project is None):
            return
        self._leave(keep=scan is not None and self._shares(scan, axis))
        self._scan, self._axis, self._digest, self.home, self.images = scan, axis, "", None, ()
        if scan is not None:
            self._open(create=False)

    def part(self) -> None:
        """Let go of the scan, to follow another at once, which may share the project: that stays open until then."""
        self._leave(keep=True)
        self._scan, self._axis = None, 0

    def _shares(self, scan: Volume, axis: int) -> bool:
        """Return whether ``scan`` belongs to the project that is open."""
        home = shared_home(scan, axis, self.choice)
        return home is not None and self.project is not None and self.project.store.folder == home.folder

    def follows(self, scan: Volume | None, axis: int = 0) -> bool:
        """Return whether these slices are the ones that are kept already."""
        return axis == self._axis and same_voxels(scan, self._scan)

    def choose(self, choice: ProjectChoice, *, create: bool = False) -> None:
        """Use another project from now on."""
        self._leave()
        self._handed = {}
        self.choice, self.home = choice, None
        self._open(create=create)

    def close(self) -> None:
        """Write what is left and let others have the project."""
        self._leave()
        self._closed = True

    def set_classes(self, classes: tuple[tuple[int, str, str], ...]) -> None:
        self._classes = tuple(ClassSpec(value=value, name=name, colour=colour) for value, name, colour in classes)

    @property
    def project(self) -> Project | None:
        """The project that is open."""
        return self._holding.project

    @property
    def ready(self) -> bool:
        """Whether a project is open and the scan is known in it."""
        return self.project is not None and self.entry is not None

    @property
    def folder(self) -> Path | None:
        """Where the corrections are, or will be with the first of them; None until the scan was recognised."""
        return self.home.folder if self.home is not None else None

    @property
    def image(self) -> Path | None:
        """The file of the single image that is followed; None where it is a stack, or came from no file."""
        return image_file(self._scan, self._axis) if self._scan is not None else None

    @property
    def pending(self) -> int:
        """Slices that are not on the disk yet."""
        writer = self.project.writer if self.project is not None else None
        return len(self._waiting) + (writer.pending if writer is not None else 0)

    @property
    def kept(self) -> int:
        """Slices of this scan that the project has, or is about to have."""
        return len(self._known)

    def records(self) -> tuple[Record, ...]:
        """Return what the open project holds of the scan."""
        return self.project.store.records(self.entry) if self.project is not None and self.entry is not None else ()

    def _leave(self, keep: bool = False) -> None:
        """Let go of the scan, and of the project unless it is to be kept; what is not on the disk is written aside."""
        if self._waiting and self._scan is not None:
            late, waiting = self._wanted(), dict(self._waiting)
            self._aside(lambda: self._tell(write_late(late, waiting)))
        if not keep:
            self._holding.let_go()
            self.marks, self.others, self._handed = {}, 0, {}
        if self.image is not None and 0 in self._waiting:
            # what is written late is of a project that the next image may share
            self._handed[self.image] = state_of(self._waiting[0])
        if self._runner.current is not None:
            self._runner.current.cancel()
        self.entry, self.trouble, self._opening = None, "", False
        self._waiting.clear()
        self._known.clear()
        self._earlier.clear()

    def _wanted(self) -> Wanted:
        assert self._scan is not None  # who asks has one
        return Wanted(self._scan, self._axis, self._digest, self.choice, self._classes)

    def _tell(self, sentence: str) -> None:
        if not sentence:
            return

        def tell() -> None:
            self.message = Message("error", sentence)
            self._on_change()

        self._post(tell)

    # ------------------------------------------------------------------ opening

    def _open(self, create: bool) -> None:
        if self._scan is None or self._closed:
            return
        self._opening = True
        wanted = self._wanted()

        def job(ctx: Any) -> Opened:
            opened = find(wanted, create)
            if ctx.cancelled():
                if opened.project is not None:
                    opened.project.release()
                raise Cancelled("Stopped.")
            return opened

        self._runner.start(job, on_result=self._opened, on_error=self._not_opened)
        self._on_change()

    def _opened(self, opened: Opened) -> None:
        self._opening = False
        if self._closed:
            if opened.project is not None:
                opened.project.release()
            return
        self._digest, self.home, self.trouble = opened.digest, opened.home, opened.trouble
        self.images, self.entry = opened.images, opened.entry
        if opened.trouble:
            self._refused_at = time.monotonic()
        if opened.project is None or opened.project is not self.project:
            mine = opened.images if opened.home.images is not None else ()
            self._handed = {path: state for path, state in self._handed.items() if path in mine}
        self._holding.take(opened.project)
        self.marks, self.others = with_handed(opened, self._handed, self.image)
        if self.project is not None:
            self._known, self._earlier = set(opened.restored), dict(opened.restored)
            if opened.said:
                self.message = Message("info", opened.said)
            if self.project.store.messages:
                self.message = Message("warning", " ".join(self.project.store.messages[:3]))
        self._on_found(opened.restored)
        self._hand_over()
        self._on_change()

    def _not_opened(self, error: BaseException) -> None:
        self._opening = False
        self._refused_at = time.monotonic()
        self.trouble = one_line(error)
        self._on_change()

    # ------------------------------------------------------------------ writing

    def put(self, z: int, what: Put) -> None:
        """Keep the correction of slice ``z``: at once, or as soon as there is a project for it."""
        if what.image is None and z in self._earlier and self._scan is not None:
            what = as_before(self._scan, self._axis, self._earlier[z])
        elif what.image is None and z not in self._known and z not in self._waiting:
            return
        self._waiting[z] = what
        if self.project is None and self._digest and not self._opening:
            if time.monotonic() >= self._refused_at + _AGAIN_SECONDS:
                self._open(create=True)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give the writer what waits for it."""
        if self.project is None or self.entry is None:
            if self._waiting and self._digest and not self._opening and not self.trouble:
                self._open(create=True)
            return
        writer = self.project.writer
        if writer is None:
            return
        self._tell_classes()
        for z, what in list(self._waiting.items()):
            del self._waiting[z]
            try:
                kept = hand(writer, self.entry, z, self._axis, what)
                (self._known.add if kept else self._known.discard)(z)
                self._mark(what)
            except InputError as error:
                self.message = words.failure(error, "Keeping the correction")

    def _mark(self, what: Put) -> None:
        """Take note of what was done with a single image."""
        if self.image is not None:
            self._handed[self.image] = state_of(what)
            mark(self.marks, self._handed)

    def _tell_classes(self) -> None:
        """Let the project know the mask's classes; what contradicts is said once and the corrections kept all the same.

        A refusal of the disk is not said here: the writer meets it too, and tries again.
        """
        if self.project is None:
            return
        said = tell_classes(self.project.store, self._classes)
        if said and self.message is None:
            self.message = Message("warning", said)

    def drop_all(self) -> None:
        """Take back every correction of the scan that the project holds; they stay in its history."""
        self._earlier.clear()
        for z in list(self._known):
            self.put(z, Put())

    def _written(self) -> None:
        self.writes += 1
        self._on_change()

    def _troubled(self, sentence: str) -> None:
        self.trouble = sentence
        self._on_change()
