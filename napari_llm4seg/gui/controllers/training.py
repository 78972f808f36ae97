"""The process that trains, as the dock sees it: warm while a person corrects, its curves, its time left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_llm4seg.config import ClassSpec, FinetuneConfig
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.course import Course
from napari_llm4seg.gui.controllers.finding import tell_classes
from napari_llm4seg.gui.controllers.projects import Project
from napari_llm4seg.gui.controllers.retrain_ports import Corrected, MakeTrainer, Message, Trainer
from napari_llm4seg.gui.controllers.review_ports import Classes
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import ProgressState
from napari_llm4seg.gui.views.abstract.retrain import CurveState

_STEPS = 1000


class Training:
    """Starts the process with the first correction on the disk and keeps it warm from then on.

    Parameters
    ----------
    session : Session
    review : Corrected
    make_trainer : callable(callable(dict)) -> Trainer
    on_event : callable(dict)
        Hears every event of the process after it was taken note of here.

    Attributes
    ----------
    curve : CurveState or None
        Of the training that runs, or ran last.
    course : Course
        Of the same.
    part : float
        What of it was done when a person ended it; 1 where nobody did.
    checking : bool
        Whether what the process tells is of a cross-check.
    """

    def __init__(
        self,
        session: Session,
        review: Corrected,
        make_trainer: MakeTrainer,
        on_event: Callable[[Message], None],
    ) -> None:
        self._session, self._review, self._make, self._on_event = session, review, make_trainer, on_event
        self._trainer: Trainer | None = None
        self._loaded: tuple[str, str] | None = None
        self._warmed: object = None
        self._cold = self.checking = False
        self._asked: tuple[Path | None, Message] = (None, {})
        self.clear()

    def clear(self) -> None:
        """Forget the curves of the training before."""
        self.curve: CurveState | None = None
        self._loss: list[tuple[float, float]] = []
        self._score: list[tuple[float, float]] = []
        self.course, self.part = Course(), 1.0

    def close(self) -> None:
        """End the process; takes a moment."""
        trainer, self._trainer = self._trainer, None
        if trainer is not None:
            trainer.close()

    def warm(self, idle: bool) -> None:
        """Let the process prepare for what was corrected since; after it has died not before it is asked to train."""
        entry, project, count = self._session.model, self._review.project, self._review.count()
        if not idle or self._cold or project is None or not count or self._session.predictor is None or entry is None:
            return
        state = entry.key, self._session.device, project, self._review.writes()
        if state == self._warmed or not self._review.settled():
            return
        if self._trainer is not None and self._trainer.busy:
            return
        self._warmed = state
        trainer = self._ready()
        self._load(trainer, entry.path)
        trainer.warm(project.store.folder, self._review.scans())

    def begin(self, project: Project, model: Path, out: Path, parts: Any) -> None:
        """Train ``parts`` of ``model`` on what was corrected.

        Raises
        ------
        LLM4SegError
            If the process cannot be started.
        """
        trainer = self._anew()
        self._load(trainer, model)
        scans, config = self._review.scans(), FinetuneConfig.quick(parts).model_dump(mode="json")
        self._asked = model, {"scans": scans, "config": config}
        trainer.train(project.store.folder, out, scans, config=config)

    def begin_new(self, project: Project, out: Path, classes: Classes, name: str, made: Message) -> None:
        """Train a new model of ``classes`` on what was corrected; ``made`` is for ``from_scratch``."""
        specs = [{"value": value, "name": title, "colour": colour} for value, title, colour in classes]
        how, scans = {**made, "device": self._session.device}, self._review.scans()
        # the names may have been given after the project was made, and are wanted when the scan is opened again
        tell_classes(project.store, tuple(ClassSpec.model_validate(spec) for spec in specs))
        self._asked = None, {"scans": scans, "new": {"classes": specs, **how}}
        self._anew().train_new(project.store.folder, out, specs, scans, name=name, **how)

    def cross_check(self, project: Project, only: list[list[Any]]) -> None:
        """Judge the corrections ``only`` (their keys) as the last training was done, each without it.

        Raises
        ------
        LLM4SegError
            If the process cannot be started.
        """
        model, how = self._asked
        self._cold, trainer = False, self._ready()
        if model is not None:
            self._load(trainer, model)
        trainer.cross_check(project.store.folder, only, **how)
        self.checking = True

    def _anew(self) -> Trainer:
        self.clear()
        self._cold = False
        return self._ready()

    def stop(self) -> None:
        self.part = max(0.05, self.course.fraction)
        if self._trainer is not None:
            self._trainer.stop()

    def cancel(self) -> None:
        if self._trainer is not None:
            self._trainer.cancel()

    def progress(self) -> ProgressState:
        """Return how far the training is."""
        course = self.course
        return ProgressState(round(_STEPS * course.fraction), _STEPS, f"epoch {course.epoch}{words.left(course.left)}")

    def _ready(self) -> Trainer:
        if self._trainer is None:
            self._trainer = self._make(self._hear)
            self._loaded = None
        return self._trainer

    def _load(self, trainer: Trainer, model: Path) -> None:
        wanted = str(model), self._session.device
        if wanted != self._loaded:
            trainer.load(model, None, self._session.device)
            self._loaded = wanted

    def _hear(self, event: Message) -> None:
        kind = event.get("event")
        if kind == "split":
            self.course.begin(event.get("seconds"))
        elif kind in ("step", "validated") and not self.checking:
            self._follow(event)
        elif kind == "died":
            self._cold, self._warmed = True, None
        elif kind == "failed" and event.get("what") == "load":
            self._loaded = self._warmed = None
        self._on_event(event)
        if kind == "finished" and event.get("what") in ("load", "warm", "cross_check"):
            self._warm_again()

    def _follow(self, event: Message) -> None:
        """Take note of a step or a validation."""
        self.course.hear(event)
        if event["event"] == "step":
            self._loss.append((float(event["epoch"]), float(event["loss"])))
        elif event.get("score") is not None:
            self._score.append((float(event["epoch"]), float(event["score"])))
        self.curve = CurveState(tuple(self._loss), tuple(self._score))

    def _warm_again(self) -> None:
        """What was corrected while the process was busy with its warming is warmed now."""
        self.warm(idle=True)
