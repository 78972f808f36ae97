"""What was just trained: shown beside the model before it, then kept as a version or rolled back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.gui.controllers import verdict
from napari_llm4seg.gui.controllers.candidate import Fresh, Kept, Preview, rewrite, segment
from napari_llm4seg.gui.controllers.loading import with_options
from napari_llm4seg.gui.controllers.ports import ModelSource, Runner
from napari_llm4seg.gui.controllers.retrain_ports import Corrected, Keeper, Message, Parent, Trained
from napari_llm4seg.gui.controllers.review_ports import ReviewPort, Stack
from napari_llm4seg.gui.controllers.stages import Stages
from napari_llm4seg.gui.controllers.versions import VersionList
from napari_llm4seg.gui.state.session import ModelEntry, Session
from napari_llm4seg.gui.views.abstract.common import Message as Said


class Decision:
    """Holds a new model until a person keeps it or rolls it back.

    Parameters
    ----------
    session : Session
    review : Corrected
    port : ReviewPort
    models : ModelSource
    keeper : Keeper
    stages : Stages
    versions : VersionList
    runner : Runner
        Segments the slice on the screen for the preview.
    leave : callable()
        Leaves what was trained before.
    interrupt : callable()
        Ends a cross-check under way, as it was decided.
    on_change : callable()
        Something to draw has changed.

    Attributes
    ----------
    trained : Trained or None
    kept : Kept or None
    armed : bool
        Whether a worse model is kept at the next click.
    preview : Preview
    """

    def __init__(
        self,
        session: Session,
        review: Corrected,
        port: ReviewPort,
        models: ModelSource,
        keeper: Keeper,
        stages: Stages,
        versions: VersionList,
        runner: Runner,
        leave: Callable[[], None],
        interrupt: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._session, self._review, self._models, self._keeper = session, review, models, keeper
        self._stages, self._versions, self._leave, self._interrupt = stages, versions, leave, interrupt
        self.preview = Preview(review, port, models, runner, self._config, on_change)
        self.trained: Trained | None = None
        self.kept: Kept | None = None
        self.armed = False

    @property
    def gate(self) -> Any:
        """Scores of the slices held back, before and after; None while nothing waits for a decision."""
        return self.trained.facts.get("gate", {}) if self.trained is not None else None

    @property
    def cross(self) -> Any:
        """What a cross-check said; empty where there was none."""
        return self.trained.cross if self.trained is not None else {}

    @property
    def parent(self) -> ModelEntry | None:
        return self.trained.parent if self.trained is not None else None

    def forget(self) -> None:
        self.preview.end()
        self.trained = self.kept = None
        self.armed = False

    def judge(self, facts: Message, parent: Parent) -> None:
        """Load the new model and show what it changes on the slice on the screen."""
        project, (entry_before, predictor_before) = self._review.project, parent
        out, device = Path(str(facts["checkpoint"])), self._session.device
        self._stages.enter("looking", "looking at the slice on the screen")

        def done(predictor: Any) -> None:
            if project is None:
                return
            self.trained = Trained(out, entry_before, predictor_before, predictor, facts, project)
            self.preview.start(predictor)
            self._stages.end(None)

        entry = ModelEntry(key=str(out), name="new model", path=out)
        self._stages.run(lambda ctx: self._models.load(entry, device), done, "Loading the new model")

    def crossed(self, cross: Message) -> None:
        """Take what a cross-check says; a worse model is asked about anew."""
        if self.trained is not None:
            self.trained = replace(self.trained, cross=cross)
            self.armed = False

    # ------------------------------------------------------------------ keep

    def keep(self) -> None:
        """Make the new model a version, use it, and let it segment the untouched slices; worse: at the second click."""
        trained = self.trained
        if trained is None or self.kept is not None or not self._stages.open:
            return
        doubt = verdict.warning(self.gate, self.cross)
        if doubt and not self.armed:
            self.armed = True
            self._stages.say(Said("warning", f"The new model {doubt}. Keep it all the same?"))
            return
        self._interrupt()
        self._stages.message = None
        self._stages.enter("keeping", "writing the new version")
        device = self._session.device

        def job(ctx: Any) -> tuple[ModelEntry, int, Any, Any]:
            entry, number = self._keeper.keep(trained)
            return entry, number, self._models.load(entry, device), self._keeper.versions(trained.project)

        def done(made: tuple[ModelEntry, int, Any, Any]) -> None:
            entry, number, predictor, listed = made
            self._versions.take(listed)
            self.kept = Kept(trained, entry, number, before=(self._session.model, self._session.predictor))
            self.preview.end()
            self._stages.end(Said("info", f"Kept as '{entry.name}'."))
            self._session.model_wanted.emit(entry, predictor)
            self._apply(self.kept, predictor)

        self._stages.run(job, done, "Keeping the new model")

    def _apply(self, kept: Kept, predictor: Any) -> None:
        """Segment what nobody touched with the new model."""
        stack, left = self._review.stack, list(self._review.untouched())
        if stack is None or not left or self._session.busy:
            return
        here = self._review.here()
        self._stages.enter("applying", "segmenting the untouched slices")
        self._session.busy = f"'{stack.scan.name}' is being segmented with '{kept.entry.name}'."

        def job(ctx: Any) -> Fresh:
            return segment(self._models, predictor, self._config(predictor), stack, left, here, ctx)

        def done(fresh: Fresh) -> None:
            self._write(stack, kept, predictor, fresh)

        self._stages.run(job, done, "Segmenting with the new model", progress=True)

    def _write(self, stack: Stack, kept: Kept, predictor: Any, fresh: Fresh) -> None:
        self._session.busy = ""
        if stack is not self._review.stack:
            self._stages.end(Said("warning", f"'{stack.name}' was left, so its slices stay as they are."))
            return
        untouched = set(self._review.untouched())
        fresh.labels = {z: labels for z, labels in fresh.labels.items() if z in untouched}
        kept.written = rewrite(stack, fresh, predictor, kept.entry.name)
        self._review.model_wrote()
        count = len(kept.written.slices)
        slices = "slice was" if count == 1 else "slices were"
        said = f"Kept as '{kept.entry.name}'; {count} untouched {slices} segmented with it."
        self._stages.end(Said("info", f"{said} Roll back, or undo, puts the mask back."))
        if len(stack) > 1:
            self._session.stack_written.emit(stack.id)

    def _config(self, predictor: Any) -> PredictConfig:
        own: PredictConfig = predictor.checkpoint.config.predict
        return with_options(own, self._session.settings)

    # ------------------------------------------------------------------ roll back

    def roll_back(self) -> None:
        """Forget the new model; where it was kept, go back to the old one and to the mask as it was."""
        if not self._stages.open or self.trained is None:
            return
        self._interrupt()
        kept, trained, stages = self.kept, self.trained, self._stages
        self._leave()
        if kept is None:
            stages.say(Said("info", "The new model was forgotten; nothing has changed."))
            return
        back = kept.written.undo() if kept.written is not None else 0
        self._review.model_wrote()
        before, predictor = (trained.parent, trained.parent_predictor) if trained.parent is not None else kept.before
        if before is not None:
            self._session.model_wanted.emit(before, predictor)
        number = self._versions.number_of(_digest(predictor))
        restored = f", and {back} {'slice is as it was' if back == 1 else 'slices are as they were'}" if back else ""
        name = f"'{before.name}' is in use again" if before is not None else "The new model was taken out"
        said = Said("info", f"{name}{restored}. '{kept.entry.name}' stays among the versions.")
        self._versions.file(
            lambda: self._keeper.use(trained.project, number), lambda _: stages.say(said), "Rolling back"
        )


def _digest(predictor: Any) -> str:
    return str(predictor.checkpoint.digest) if predictor is not None else ""
