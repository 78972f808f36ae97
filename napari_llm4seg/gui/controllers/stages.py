"""One stage of a training after another, each a job: what it is doing, how far it is, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_llm4seg.gui.controllers import calm, words
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.controllers.retrain_state import Stage
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import Message, ProgressState


class Stages:
    """Knows the stage, and runs its job.

    Parameters
    ----------
    session : Session
    runner : Runner
    on_change : callable()
        Something to draw has changed.

    Attributes
    ----------
    stage : str
        "idle" while nothing is under way.
    progress : ProgressState or None
    message : Message or None
        What was said last.
    """

    def __init__(self, session: Session, runner: Runner, on_change: Callable[[], None]) -> None:
        self._session, self._runner, self._on_change = session, runner, on_change
        self.stage: Stage = "idle"
        self.progress: ProgressState | None = None
        self.message: Message | None = None
        self._closed = False

    @property
    def idle(self) -> bool:
        return self.stage == "idle"

    @property
    def open(self) -> bool:
        """Whether a new model can be kept or rolled back: a cross-check hinders neither."""
        return self.stage in ("idle", "checking")

    def close(self) -> None:
        """Stop what is under way; no job is answered any more."""
        self._closed = True
        calm.release(self)
        self.cancel()
        if self.stage == "applying":
            self._session.busy = ""

    def cancel(self) -> None:
        """Stop the job under way."""
        if self._runner.current is not None:
            self._runner.current.cancel()

    def enter(self, stage: Stage, text: str) -> None:
        """Begin a stage; ``text`` says what it does, and nothing is shown without one."""
        self.stage = stage
        calm.hold(self)
        self.progress = ProgressState(0, 0, text) if text else None
        self._on_change()

    def run(self, job: Callable[[Any], Any], done: Callable[[Any], None], doing: str, progress: bool = False) -> None:
        """Run the job of this stage; ``done`` is handed what it returns, a failure or a stop ends the stage."""
        stage = self.stage

        def tell(report: Any) -> None:
            if self.stage == stage:
                text = f"{report.message}{words.left(report.seconds_left)}"
                self.progress = ProgressState(report.done, report.total, text)
                self._on_change()

        def settled(call: Callable[[], None]) -> None:
            if self._closed:
                return
            if stage == "applying":
                self._session.busy = ""
            call()

        self._runner.start(
            job,
            on_progress=tell if progress else None,
            on_result=lambda value: settled(lambda: done(value)),
            on_error=lambda error: settled(lambda: self.end(words.failure(error, doing))),
            on_cancelled=lambda: settled(lambda: self.end(Message("info", "Stopped."))),
        )

    def end(self, message: Message | None) -> None:
        """Be idle again, and say how it ended."""
        calm.release(self)
        self.stage, self.progress = "idle", None
        self.say(message)

    def say(self, message: Message | None) -> None:
        self.message = message
        self._on_change()
