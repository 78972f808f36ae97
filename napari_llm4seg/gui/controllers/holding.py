"""The one project that corrections go to now: had and given back, its writer's news heard in the window's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_llm4seg.corrections import Record
from napari_llm4seg.gui.controllers.projects import Project


class Holding:
    """Has one project at a time.

    Parameters
    ----------
    post : callable(callable)
        Runs its argument in the window's thread.
    aside : callable(callable)
        Runs what the disk may hold up.
    on_written : callable()
        A correction has reached the disk, or was taken back there.
    on_trouble : callable(str)
        Why the disk refuses; "" when that is over.
    tell : callable(str)
        Gets a sentence where the project could not be given back as it should.

    Attributes
    ----------
    project : Project or None
    """

    def __init__(
        self,
        post: Callable[[Callable[[], None]], Any],
        aside: Callable[[Callable[[], None]], Any],
        on_written: Callable[[], None],
        on_trouble: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        self._post, self._aside = post, aside
        self._on_written, self._on_trouble, self._tell = on_written, on_trouble, tell
        self.project: Project | None = None

    def take(self, project: Project | None) -> None:
        """Have ``project``, which was just opened, in the place of the one before; the same one is had but once."""
        if project is not None and project is self.project:
            self._aside(lambda: self._end(project))
            return
        self.let_go()
        self.project = project
        if project is not None:
            project.written.connect(self._written)
            project.trouble.connect(self._troubled)

    def let_go(self) -> None:
        """Give the project back; what is left is written aside."""
        project, self.project = self.project, None
        if project is not None:
            project.written.disconnect(self._written)
            project.trouble.disconnect(self._troubled)
            self._aside(lambda: self._end(project))

    def _end(self, project: Project) -> None:
        if not project.release():
            self._tell(f"Not every correction could be written to '{project.store.folder}'.")

    def _written(self, record: Record | None) -> None:
        self._post(self._on_written)

    def _troubled(self, sentence: str) -> None:
        self._post(lambda: self._on_trouble(sentence))
