"""The versions of a project's model: listed, chosen, renamed and compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_llm4seg.corrections import Version
from napari_llm4seg.gui.controllers.ports import ModelSource
from napari_llm4seg.gui.controllers.retrain_ports import Corrected, Keeper
from napari_llm4seg.gui.controllers.stages import Stages
from napari_llm4seg.gui.state.session import ModelEntry, Session


class VersionList:
    """Lists the versions of the open project.

    Parameters
    ----------
    session : Session
    review : Corrected
    models : ModelSource
    keeper : Keeper
    stages : Stages
    leave : callable()
        Leaves what was trained before: another version was chosen.
    on_change : callable()
        Something to draw has changed.

    Attributes
    ----------
    versions : tuple of Version
        Oldest first.
    current : int
        Number of the one in use, 0 for the starting checkpoint.
    compared : str
        How the two compared last differ.
    """

    def __init__(
        self,
        session: Session,
        review: Corrected,
        models: ModelSource,
        keeper: Keeper,
        stages: Stages,
        leave: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._session, self._review, self._models, self._keeper = session, review, models, keeper
        self._stages, self._leave, self._on_change = stages, leave, on_change
        self.versions: tuple[Version, ...] = ()
        self.current = 0
        self.compared = ""
        self._listed: Any = None

    @property
    def next_number(self) -> int:
        """Number that the next version to be kept will have."""
        return max((version.number for version in self.versions), default=0) + 1

    def number_of(self, digest: str) -> int:
        """Return the version whose checkpoint has this digest, 0 where none has."""
        return next((each.number for each in self.versions if each.digest == digest), 0)

    def follow(self) -> None:
        """Read the versions of the project that is open now."""
        project = self._review.project
        if project is not self._listed and self._stages.idle:
            self._listed = project
            self.take(((), 0))
            self.compared = ""
            if project is not None:
                self.file(lambda: None, lambda _: None, "Reading the versions")

    def take(self, found: tuple[tuple[Version, ...], int]) -> None:
        """Take over what was read: the versions, and which is in use."""
        self.versions, self.current = found

    def use(self, number: int) -> None:
        """Choose a version as the model."""
        project, device = self._review.project, self._session.device
        if project is None:
            return

        def job() -> tuple[ModelEntry, Any]:
            entry = self._keeper.entry(project, number)
            predictor = self._models.load(entry, device)
            self._keeper.use(project, number)
            return entry, predictor

        def done(made: tuple[ModelEntry, Any]) -> None:
            self._leave()
            self._session.model_wanted.emit(*made)

        self.file(job, done, "Loading the version")

    def rename(self, number: int, name: str) -> None:
        project, used = self._review.project, self._session.model
        if project is None:
            return

        def done(entry: ModelEntry) -> None:
            if used is not None and used.key == entry.key:
                self._session.model_wanted.emit(entry, self._session.predictor)

        self.file(lambda: self._keeper.rename(project, number, name), done, "Renaming the version")

    def compare(self, a: int, b: int) -> None:
        project = self._review.project
        if project is None:
            return

        def done(text: str) -> None:
            self.compared = text

        self.file(lambda: self._keeper.compare(project, min(a, b), max(a, b)), done, "Comparing the versions")

    def file(self, call: Callable[[], Any], done: Callable[[Any], None], doing: str) -> None:
        """Do something with versions, and read which there are after it."""
        project, stages = self._review.project, self._stages
        if not stages.idle or project is None:
            return
        stages.enter("filing", "")

        def job(ctx: Any) -> tuple[Any, Any]:
            made = call()
            return made, self._keeper.versions(project)

        def ended(found: tuple[Any, Any]) -> None:
            made, listed = found
            self.take(listed)
            stages.end(stages.message)
            done(made)
            self._on_change()

        stages.run(job, ended, doing)
