"""One training from the click to its end: everything saved, the process at work, how far it is, how it ended."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.projects import Project
from napari_llm4seg.gui.controllers.retrain_ports import Corrected, Keeper, MakeTrainer, Message, Parent
from napari_llm4seg.gui.controllers.stages import Stages
from napari_llm4seg.gui.controllers.training import Training
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import Message as Said
from napari_llm4seg.gui.views.abstract.common import ProgressState


class TrainingRun:
    """Lets the process train into a folder of its own, and hears it.

    Parameters
    ----------
    session : Session
    review : Corrected
    keeper : Keeper
    make_trainer : callable(callable(dict)) -> Trainer
    stages : Stages
    aside : callable(callable)
        Runs what may take a while and nobody waits for.
    leave : callable()
        Leaves what was trained before.
    on_trained : callable(dict, parent)
        Gets the process's "finished" event and the model that was trained further.
    on_check : callable(dict) -> bool
        Gets every event of the process, and says whether it is of a cross-check.
    on_change : callable()
        Something to draw has changed.

    Attributes
    ----------
    training : Training
    """

    def __init__(
        self,
        session: Session,
        review: Corrected,
        keeper: Keeper,
        make_trainer: MakeTrainer,
        stages: Stages,
        aside: Callable[[Callable[[], None]], Any],
        leave: Callable[[], None],
        on_trained: Callable[[Message, Parent], None],
        on_check: Callable[[Message], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._review, self._keeper, self._stages, self._aside = review, keeper, stages, aside
        self._leave, self._on_trained, self._on_check, self._on_change = leave, on_trained, on_check, on_change
        self.training = Training(session, review, make_trainer, self._told)
        self._room: tempfile.TemporaryDirectory[str] | None = None
        self._parent: Parent = (None, None)
        self._closed = False

    def close(self) -> None:
        """End the training and its process; nothing of it is heard any more."""
        self._closed = True
        self._aside(self.training.close)
        self._clear_room()

    def forget(self) -> None:
        """Leave the training before, its curves and its folder."""
        self.training.clear()
        self._clear_room()

    def _clear_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            self._aside(room.cleanup)

    # ------------------------------------------------------------------ begin and end

    def further(self, parent: Parent, parts: str) -> None:
        """Train ``parts`` of a model on what was corrected."""
        entry, predictor = parent
        if entry is None:
            return
        volumetric = predictor.checkpoint.config.model.backbone.spatial_dims == 3
        begin, path = self.training.begin, entry.path
        self._prepare(parent, volumetric, lambda project, out: begin(project, path, out, parts))

    def anew(self, name: str, made: dict[str, Any]) -> None:
        """Train a model from nothing but the corrected slices, for the classes of the mask; ``made`` of what."""
        stack = self._review.stack
        if stack is None:
            return
        classes, made = stack.classes(), {**made, "modality": str(stack.scan.metadata.get("modality", ""))}
        begin, called = self.training.begin_new, name.strip() or "new model"
        self._prepare((None, None), False, lambda project, out: begin(project, out, classes, called, made))

    def _prepare(self, parent: Parent, volumetric: bool, begin: Callable[[Project, Path], None]) -> None:
        """See that everything is on the disk, then let the process train into a folder of its own."""
        stack, project, stages = self._review.stack, self._review.project, self._stages
        if stack is None or project is None:
            return
        self._leave()
        self._parent = parent
        self._room = tempfile.TemporaryDirectory(prefix="llm4seg-trained-", ignore_cleanup_errors=True)
        out = Path(self._room.name) / "trained"
        stages.enter("preparing", "seeing that everything is saved")

        def go(_: object) -> None:
            stages.enter("training", "warming up")
            try:
                begin(project, out)
            except LLM4SegError as error:
                stages.end(words.failure(error, "Training"))

        stages.run(lambda ctx: self._keeper.ready(project, stack, volumetric), go, "Training")

    def stop(self) -> None:
        """End the training early and keep its best weights."""
        if self._stages.stage == "training":
            self._stages.progress = ProgressState(0, 0, "keeping the best weights")
            self.training.stop()
            self._on_change()

    def cancel(self) -> None:
        """End the training, or the job of another stage, and keep nothing of it."""
        if self._stages.stage == "training":
            self._stages.progress = ProgressState(0, 0, "stopping")
            self.training.cancel()
        elif self._stages.stage in ("preparing", "looking", "applying", "filing"):
            self._stages.cancel()
        self._on_change()

    # ------------------------------------------------------------------ what the process tells

    def _told(self, event: Message) -> None:
        """Hear the process that trains."""
        if self._closed:
            return
        if self._on_check(event) and event.get("event") != "died":
            return
        kind, what, stages = event.get("event"), str(event.get("what", "")), self._stages
        trains, under_way = what in ("train", "new"), stages.stage == "training"
        if kind == "split" and under_way:
            self._lock([str(each["digest"]) for each in event.get("held_back", ())])
        elif kind == "finished" and trains and under_way:
            self._on_trained(event, self._parent)
        elif kind == "cancelled" and trains and under_way:
            stages.end(Said("info", "Training was stopped; nothing of it is kept."))
        elif kind == "died" or (kind == "failed" and what != "warm"):
            self._failed(str(event.get("error", "")), of_training=trains and kind == "failed")
        elif kind in ("step", "validated") and under_way:
            stages.progress = self.training.progress()
        self._on_change()

    def _failed(self, sentence: str, of_training: bool) -> None:
        """Say that the process died or could not train; asked again it starts anew."""
        stages = self._stages
        if stages.stage == "training":
            stages.end(Said("error", sentence))
        elif stages.idle and not of_training and stages.message is None:
            stages.message = Said("warning", sentence)

    def _lock(self, digests: list[str]) -> None:
        """Keep what is held back from ever training, in this project."""
        project = self._review.project
        if project is not None and digests:

            def lock() -> None:
                try:
                    project.store.hold_back(digests)
                except LLM4SegError:  # the disk refuses: the writer says so with the next correction
                    return

            self._aside(lock)
