"""Correct & Retrain from the button on: train in a process of its own, judge, keep as a version or roll back."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import calm, words
from napari_llm4seg.gui.controllers.candidate import Fresh, Kept, Preview, rewrite, segment
from napari_llm4seg.gui.controllers.loading import with_options
from napari_llm4seg.gui.controllers.ports import ModelSource, Runner
from napari_llm4seg.gui.controllers.projects import Project
from napari_llm4seg.gui.controllers.retrain_ports import Corrected, Keeper, MakeTrainer, Message, Trained
from napari_llm4seg.gui.controllers.retrain_state import PARTS, Facts, Stage, present
from napari_llm4seg.gui.controllers.review_ports import ReviewPort, Stack
from napari_llm4seg.gui.controllers.training import Training
from napari_llm4seg.gui.state.session import ModelEntry, Session
from napari_llm4seg.gui.views.abstract.common import Message as Said
from napari_llm4seg.gui.views.abstract.common import ProgressState
from napari_llm4seg.gui.views.abstract.retrain import RetrainView

RETRAIN = "Shift+R"


class RetrainController:
    """Connects the session, what was corrected, the process that trains and one view.

    Parameters
    ----------
    session : Session
    review : Corrected
    port : ReviewPort
    models : ModelSource
    keeper : Keeper
    make_trainer : callable(callable(dict)) -> Trainer
        Called once, when the first correction has reached the disk.
    view : RetrainView
    make_runner : callable() -> Runner
        Called twice: the stages of a training, and the preview.
    aside : callable(callable), optional
        Runs what may take a while and nobody waits for; in a thread of its own by default.
    """

    def __init__(
        self,
        session: Session,
        review: Corrected,
        port: ReviewPort,
        models: ModelSource,
        keeper: Keeper,
        make_trainer: MakeTrainer,
        view: RetrainView,
        make_runner: Callable[[], Runner],
        aside: Callable[[Callable[[], None]], Any] | None = None,
    ) -> None:
        self.session, self.review, self.port, self.models, self.keeper = session, review, port, models, keeper
        self.view = view
        self._aside = aside or (lambda call: threading.Thread(target=call, daemon=True).start())
        self._runner, preview_runner = make_runner(), make_runner()
        self.training = Training(session, review, make_trainer, self._told)
        self._preview = Preview(review, port, models, preview_runner, self._config, self._render)
        self._stage: Stage = "idle"
        self._parts = PARTS[0]
        self._room: tempfile.TemporaryDirectory[str] | None = None
        self._parent: tuple[ModelEntry | None, Any] = (None, None)
        self._trained: Trained | None = None
        self._kept: Kept | None = None
        self._armed = self._closed = False
        self._progress: ProgressState | None = None
        self._versions: tuple[Any, ...] = ()
        self._current = 0
        self._listed: Any = None
        self._compared = ""
        self._message: Said | None = None

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        self.view.attach(self)
        self.port.bind({RETRAIN: self.retrain})
        self.review.changed.connect(self._review_changed)
        for signal in self._signals():
            signal.connect(self._session_changed)
        self._review_changed()

    def close(self) -> None:
        """End the training and its process; nothing is drawn any more."""
        if self._closed:
            return
        self._preview.end()
        self._closed = True
        calm.release(self)
        self.review.changed.disconnect(self._review_changed)
        for signal in self._signals():
            signal.disconnect(self._session_changed)
        if self._runner.current is not None:
            self._runner.current.cancel()
        if self._stage == "applying":
            self.session.busy = ""
        self._aside(self.training.close)
        self._clear_room()

    def _signals(self) -> tuple[Any, ...]:
        session = self.session
        return session.model_changed, session.predictor_changed, session.busy_changed, session.classes_changed

    def _session_changed(self, _: object) -> None:
        self.training.warm(self._stage == "idle")
        self._render()

    def _review_changed(self) -> None:
        if self._closed:
            return
        self.training.warm(self._stage == "idle")
        self._preview.follow()
        project = self.review.project
        if project is not self._listed and self._stage == "idle":
            self._listed = project
            self._versions, self._current, self._compared = (), 0, ""
            if project is not None:
                self._file(lambda: None, lambda _: None, "Reading the versions")
        self._render()

    # ------------------------------------------------------------------ training

    def choose_parts(self, parts: str) -> None:
        self._parts = parts
        self._render()

    def retrain(self) -> None:
        """Train the chosen model further."""
        entry, predictor = self.session.model, self.session.predictor
        if self._closed or not self._facts_state().train.enabled or entry is None:
            return
        volumetric = predictor.checkpoint.config.model.backbone.spatial_dims == 3
        begin = self.training.begin
        self._prepare((entry, predictor), volumetric, lambda project, out: begin(project, entry.path, out, self._parts))

    def new_model(self, name: str) -> None:
        """Train a model from nothing but the corrected slices, for the classes of the mask."""
        stack = self.review.stack
        if self._closed or not self._facts_state().new.enabled or stack is None:
            return
        classes, modality = stack.classes(), str(stack.scan.metadata.get("modality", ""))
        begin, called = self.training.begin_new, name.strip() or "new model"
        self._prepare((None, None), False, lambda project, out: begin(project, out, classes, called, modality))

    def _prepare(
        self, parent: tuple[ModelEntry | None, Any], volumetric: bool, begin: Callable[[Project, Path], None]
    ) -> None:
        """See that everything is on the disk, then let the process train into a folder of its own."""
        stack, project = self.review.stack, self.review.project
        if stack is None or project is None:
            return
        self._forget()
        self._parent = parent
        self._room = tempfile.TemporaryDirectory(prefix="llm4seg-trained-", ignore_cleanup_errors=True)
        out = Path(self._room.name) / "trained"
        self._enter("preparing", "seeing that everything is saved")

        def go(_: object) -> None:
            self._enter("training", "warming up")
            try:
                begin(project, out)
            except LLM4SegError as error:
                self._ended(words.failure(error, "Training"))

        self._run(lambda ctx: self.keeper.ready(project, stack, volumetric), go, "Training")

    def stop(self) -> None:
        if self._stage == "training":
            self._progress = ProgressState(0, 0, "keeping the best weights")
            self.training.stop()
            self._render()

    def cancel(self) -> None:
        if self._stage == "training":
            self._progress = ProgressState(0, 0, "stopping")
            self.training.cancel()
        elif self._stage in ("preparing", "looking", "applying", "filing") and self._runner.current is not None:
            self._runner.current.cancel()
        self._render()

    def _told(self, event: Message) -> None:
        """Hear the process that trains."""
        if self._closed:
            return
        kind, what = event.get("event"), str(event.get("what", ""))
        trains = what in ("train", "new")
        if kind == "split" and self._stage == "training":
            self._lock([str(each["digest"]) for each in event.get("held_back", ())])
        elif kind == "finished" and trains and self._stage == "training":
            self._judge(event)
        elif kind == "cancelled" and trains and self._stage == "training":
            self._ended(Said("info", "Training was stopped; nothing of it is kept."))
        elif kind == "died" or (kind == "failed" and what != "warm"):
            self._failed(str(event.get("error", "")), of_training=trains and kind == "failed")
        elif kind in ("step", "validated") and self._stage == "training":
            self._progress = self.training.progress()
        self._render()

    def _failed(self, sentence: str, of_training: bool) -> None:
        """Say that the process died or could not train; asked again it starts anew."""
        if self._stage == "training":
            self._ended(Said("error", sentence))
        elif self._stage == "idle" and not of_training and self._message is None:
            self._message = Said("warning", sentence)

    def _lock(self, digests: list[str]) -> None:
        """Keep what is held back from ever training, in this project."""
        project = self.review.project
        if project is not None and digests:

            def lock() -> None:
                try:
                    project.store.hold_back(digests)
                except LLM4SegError:  # the disk refuses: the writer says so with the next correction
                    return

            self._aside(lock)

    # ------------------------------------------------------------------ before and after

    def _judge(self, facts: Message) -> None:
        """Load the new model and show what it changes on the slice on the screen."""
        project, (parent, parent_predictor) = self.review.project, self._parent
        out, device = Path(str(facts["checkpoint"])), self.session.device
        self._enter("looking", "looking at the slice on the screen")

        def done(predictor: Any) -> None:
            if project is None:
                return
            self._trained = Trained(out, parent, parent_predictor, predictor, facts, project)
            self._preview.start(predictor)
            self._ended(None)

        entry = ModelEntry(key=str(out), name="new model", path=out)
        self._run(lambda ctx: self.models.load(entry, device), done, "Loading the new model")

    def keep(self) -> None:
        """Make the new model a version, use it, and let it segment the untouched slices; worse: at the second click."""
        trained = self._trained
        if trained is None or self._kept is not None or self._stage != "idle":
            return
        if trained.facts.get("gate", {}).get("worse") and not self._armed:
            self._armed = True
            self._say(Said("warning", "The new model is worse on the slices held back. Keep it all the same?"))
            return
        self._message = None
        self._enter("keeping", "writing the new version")
        device = self.session.device

        def job(ctx: Any) -> tuple[ModelEntry, int, Any, Any]:
            entry, number = self.keeper.keep(trained)
            return entry, number, self.models.load(entry, device), self.keeper.versions(trained.project)

        def done(made: tuple[ModelEntry, int, Any, Any]) -> None:
            entry, number, predictor, (self._versions, self._current) = made
            self._kept = Kept(trained, entry, number)
            self._preview.end()
            self._ended(Said("info", f"Kept as '{entry.name}'."))
            self.session.model_wanted.emit(entry, predictor)
            self._apply(self._kept, predictor)

        self._run(job, done, "Keeping the new model")

    def _apply(self, kept: Kept, predictor: Any) -> None:
        """Segment what nobody touched with the new model."""
        stack, left = self.review.stack, list(self.review.untouched())
        if stack is None or not left or self.session.busy:
            return
        here = self.review.here()
        self._enter("applying", "segmenting the untouched slices")
        self.session.busy = f"'{stack.scan.name}' is being segmented with '{kept.entry.name}'."

        def job(ctx: Any) -> Fresh:
            return segment(self.models, predictor, self._config(predictor), stack, left, here, ctx)

        def done(fresh: Fresh) -> None:
            self._write(stack, kept, predictor, fresh)

        self._run(job, done, "Segmenting with the new model", progress=True)

    def _write(self, stack: Stack, kept: Kept, predictor: Any, fresh: Fresh) -> None:
        self.session.busy = ""
        if stack is not self.review.stack:
            self._ended(Said("warning", f"'{stack.name}' was left, so its slices stay as they are."))
            return
        untouched = set(self.review.untouched())
        fresh.labels = {z: labels for z, labels in fresh.labels.items() if z in untouched}
        kept.written = rewrite(stack, fresh, predictor, kept.entry.name)
        self.review.model_wrote()
        count = len(kept.written.slices)
        slices = "slice was" if count == 1 else "slices were"
        said = f"Kept as '{kept.entry.name}'; {count} untouched {slices} segmented with it."
        self._ended(Said("info", f"{said} Roll back, or undo, puts the mask back."))

    def roll_back(self) -> None:
        """Forget the new model; where it was kept, go back to the old one and to the mask as it was."""
        if self._stage != "idle" or self._trained is None:
            return
        kept, trained = self._kept, self._trained
        self._forget()
        if kept is None:
            self._say(Said("info", "The new model was forgotten; nothing has changed."))
            return
        back = kept.written.undo() if kept.written is not None else 0
        self.review.model_wrote()
        if trained.parent is not None:
            self.session.model_wanted.emit(trained.parent, trained.parent_predictor)
        number = next((each.number for each in self._versions if each.digest == _digest(trained)), 0)
        restored = f" and {back} slices are as they were" if back else ""
        name = trained.parent.name if trained.parent is not None else "no model"
        said = Said("info", f"Back at {name}{restored}. '{kept.entry.name}' stays among the versions.")
        self._file(lambda: self.keeper.use(trained.project, number), lambda _: self._say(said), "Rolling back")

    def _forget(self) -> None:
        """Leave what was trained before."""
        self._preview.end()
        self._trained = self._kept = None
        self._armed = False
        self._message, self._compared = None, ""
        self.training.clear()
        self._clear_room()

    def _clear_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            self._aside(room.cleanup)

    # ------------------------------------------------------------------ versions

    def use_version(self, number: int) -> None:
        """Choose a version as the model."""
        project, device = self.review.project, self.session.device
        if project is None:
            return

        def job() -> tuple[ModelEntry, Any]:
            entry = self.keeper.entry(project, number)
            predictor = self.models.load(entry, device)
            self.keeper.use(project, number)
            return entry, predictor

        def done(made: tuple[ModelEntry, Any]) -> None:
            self._forget()
            self.session.model_wanted.emit(*made)

        self._file(job, done, "Loading the version")

    def rename_version(self, number: int, name: str) -> None:
        project, used = self.review.project, self.session.model
        if project is None:
            return

        def done(entry: ModelEntry) -> None:
            if used is not None and used.key == entry.key:
                self.session.model_wanted.emit(entry, self.session.predictor)

        self._file(lambda: self.keeper.rename(project, number, name), done, "Renaming the version")

    def compare_versions(self, a: int, b: int) -> None:
        project = self.review.project
        if project is None:
            return

        def done(text: str) -> None:
            self._compared = text

        self._file(lambda: self.keeper.compare(project, min(a, b), max(a, b)), done, "Comparing the versions")

    def _file(self, call: Callable[[], Any], done: Callable[[Any], None], doing: str) -> None:
        """Do something with versions, and read which there are after it."""
        project = self.review.project
        if self._stage != "idle" or project is None:
            return
        self._enter("filing", "")

        def job(ctx: Any) -> tuple[Any, Any]:
            made = call()
            return made, self.keeper.versions(project)

        def ended(found: tuple[Any, Any]) -> None:
            made, (self._versions, self._current) = found
            self._ended(self._message)
            done(made)
            self._render()

        self._run(job, ended, doing)

    # ------------------------------------------------------------------ stages

    def _config(self, predictor: Any) -> PredictConfig:
        own: PredictConfig = predictor.checkpoint.config.predict
        return with_options(own, self.session.settings)

    def _enter(self, stage: Stage, text: str) -> None:
        self._stage = stage
        calm.hold(self)
        self._progress = ProgressState(0, 0, text) if text else None
        self._render()

    def _run(self, job: Callable[[Any], Any], done: Callable[[Any], None], doing: str, progress: bool = False) -> None:
        stage = self._stage

        def tell(report: Any) -> None:
            if self._stage == stage:
                text = f"{report.message}{words.left(report.seconds_left)}"
                self._progress = ProgressState(report.done, report.total, text)
                self._render()

        def settled(call: Callable[[], None]) -> None:
            if self._closed:
                return
            if stage == "applying":
                self.session.busy = ""
            call()

        self._runner.start(
            job,
            on_progress=tell if progress else None,
            on_result=lambda value: settled(lambda: done(value)),
            on_error=lambda error: settled(lambda: self._ended(words.failure(error, doing))),
            on_cancelled=lambda: settled(lambda: self._ended(Said("info", "Stopped."))),
        )

    def _ended(self, message: Said | None) -> None:
        calm.release(self)
        self._stage, self._progress = "idle", None
        self._message = message
        self._render()

    def _say(self, message: Said) -> None:
        self._message = message
        self._render()

    def dismiss_message(self) -> None:
        self._message = None
        self._render()

    # ------------------------------------------------------------------ drawing

    def _facts_state(self) -> Any:
        return present(self._facts())

    def _facts(self) -> Facts:
        entry, stack, trained = self.session.model, self.review.stack, self._trained
        classes = tuple(name for _, name, _ in stack.classes()) if stack is not None else ()
        parent = trained.parent if trained is not None else None
        return Facts(
            parts=self._parts,
            stage=self._stage,
            mask=stack is not None,
            count=self.review.count(),
            trouble=self.review.trouble,
            model=entry.name if entry is not None else "",
            loaded=self.session.predictor is not None,
            elsewhere="" if self._stage == "applying" else self.session.busy,
            classes=classes,
            scan_name=stack.scan.name if stack is not None else "",
            progress=self._progress,
            curve=self.training.curve,
            gate=trained.facts.get("gate", {}) if trained is not None else None,
            changes=self._preview.words,
            kept=self._kept is not None,
            armed=self._armed,
            parent=parent.name if parent is not None else "",
            next_number=max((version.number for version in self._versions), default=0) + 1,
            versions=self._versions,
            current=self._current,
            compared=self._compared,
            message=self._message,
        )

    def _render(self) -> None:
        if not self._closed:
            self.view.show_state(present(self._facts()))


def _digest(trained: Trained) -> str:
    """Return the digest of what was trained from."""
    predictor = trained.parent_predictor
    return str(predictor.checkpoint.digest) if predictor is not None else ""
