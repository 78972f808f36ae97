"""Correct & Retrain from the button on: train in a process of its own, judge, keep as a version or roll back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from napari_llm4seg.gui.controllers.cross_check import CrossCheck, takes
from napari_llm4seg.gui.controllers.decision import Decision
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.new_model import NewModel
from napari_llm4seg.gui.controllers.ports import ModelSource, Runner
from napari_llm4seg.gui.controllers.retrain_ports import Corrected, Keeper, MakeTrainer, Message
from napari_llm4seg.gui.controllers.retrain_state import PARTS, Facts, present
from napari_llm4seg.gui.controllers.review_ports import ReviewPort
from napari_llm4seg.gui.controllers.stages import Stages
from napari_llm4seg.gui.controllers.training import Training
from napari_llm4seg.gui.controllers.training_run import TrainingRun
from napari_llm4seg.gui.controllers.versions import VersionList
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.retrain import RetrainState, RetrainView

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
        Called three times: the stages of a training, the preview, and looking which layers are at hand.
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
        self.session, self.review, self.port, self.view = session, review, port, view
        aside = aside or (lambda call: threading.Thread(target=call, daemon=True).start())
        stages_runner, preview_runner, layers_runner = make_runner(), make_runner(), make_runner()
        leave, render = self._leave, self._render
        stages = self._stages = Stages(session, stages_runner, render)
        versions = self._versions = VersionList(session, review, models, keeper, stages, leave, render)
        decision = self._decision = Decision(
            session, review, port, models, keeper, stages, versions, preview_runner, leave, self._interrupt, render
        )
        run = self._run = TrainingRun(
            session, review, keeper, make_trainer, stages, aside, leave, decision.judge, self._of_check, render
        )
        self._check = CrossCheck(run.training, stages, decision.crossed, render)
        self._new = NewModel(session.settings, layers_runner, render)
        self._listening = Listening()
        self._parts = PARTS[0]
        self._closed = False

    @property
    def training(self) -> Training:
        return self._run.training

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        self.view.attach(self)
        self.port.bind({RETRAIN: self.retrain})
        self._listening.to(
            (self.review.changed, self._review_changed),
            (self.session.model_changed, self._session_changed),
            (self.session.predictor_changed, self._session_changed),
            (self.session.busy_changed, self._session_changed),
            (self.session.classes_changed, self._session_changed),
        )
        self._new.look()
        self._review_changed()

    def close(self) -> None:
        """End the training and its process; nothing is drawn any more."""
        if self._closed:
            return
        self._decision.preview.end()
        self._closed = True
        self._listening.stop()
        self._stages.close()
        self._new.close()
        self._run.close()

    def _session_changed(self, _: object) -> None:
        self.training.warm(self._stages.idle)
        self._render()

    def _review_changed(self) -> None:
        if self._closed:
            return
        self.training.warm(self._stages.idle)
        self._decision.preview.follow()
        self._versions.follow()
        self._render()

    def _leave(self) -> None:
        """Leave what was trained before."""
        self._decision.forget()
        self._stages.message, self._versions.compared = None, ""
        self._run.forget()

    def _interrupt(self) -> None:
        """End a cross-check: what it would judge was decided on."""
        self._check.drop()

    def _of_check(self, event: Message) -> bool:
        return self._check.hear(event)

    # ------------------------------------------------------------------ what a person does

    def choose_parts(self, parts: str) -> None:
        self._parts = parts
        self._render()

    def retrain(self) -> None:
        """Train the chosen model further."""
        if not self._closed and self._state().train.enabled:
            self._run.further((self.session.model, self.session.predictor), self._parts)

    def new_model(self, name: str) -> None:
        """Train a model from nothing but the corrected slices, for the classes of the mask."""
        if not self._closed and self._state().new.enabled:
            self._run.anew(name, self._new.made())

    def choose_new(self, name: str, key: str) -> None:
        self._new.choose(name, key)

    def look_for_layers(self) -> None:
        self._new.look()

    def stop(self) -> None:
        self._run.stop()

    def cancel(self) -> None:
        self._check.cancel()
        self._run.cancel()

    def cross_check(self) -> None:
        """Judge the learning that the new model came of on all corrected slices, each unseen."""
        trained, shown = self._decision.trained, self._state().verdict
        if not self._closed and trained is not None and shown is not None and shown.check.enabled:
            self._check.start(trained)

    def keep(self) -> None:
        self._decision.keep()

    def roll_back(self) -> None:
        self._decision.roll_back()

    def use_version(self, number: int) -> None:
        self._versions.use(number)

    def rename_version(self, number: int, name: str) -> None:
        self._versions.rename(number, name)

    def compare_versions(self, a: int, b: int) -> None:
        self._versions.compare(a, b)

    def dismiss_message(self) -> None:
        self._stages.say(None)

    # ------------------------------------------------------------------ drawing

    def _state(self) -> RetrainState:
        return present(self._facts())

    def _facts(self) -> Facts:
        entry, stack = self.session.model, self.review.stack
        stages, versions, decision = self._stages, self._versions, self._decision
        told: Message = dict(decision.trained.facts) if decision.trained is not None else {}
        return Facts(
            parts=self._parts,
            stage=stages.stage,
            mask=stack is not None,
            count=self.review.count(),
            images=self.review.scans() is None,
            trouble=self.review.trouble,
            model=entry.name if entry is not None else "",
            loaded=self.session.predictor is not None,
            elsewhere="" if stages.stage == "applying" else self.session.busy,
            classes=tuple(name for _, name, _ in stack.classes()) if stack is not None else (),
            scan_name=stack.scan.name if stack is not None else "",
            made=self._new.state(stages.idle),
            progress=stages.progress,
            curve=self.training.curve,
            gate=decision.gate,
            cross=decision.cross,
            outlook=told.get("cross_check", {}),
            in_training=sum(len(told.get(name, ())) for name in ("train", "held_back", "left_out")),
            check_seconds=takes(told, self.training.part),
            changes=decision.preview.words,
            kept=decision.kept is not None,
            armed=decision.armed,
            parent=decision.parent.name if decision.parent is not None else "",
            next_number=versions.next_number,
            versions=versions.versions,
            current=versions.current,
            compared=versions.compared,
            message=stages.message,
        )

    def _render(self) -> None:
        if not self._closed:
            self.view.show_state(self._state())
