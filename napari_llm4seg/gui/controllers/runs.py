"""The one segmentation that goes on: from its layers made ahead to the message at its end, whatever way it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.gui.controllers import calm, words
from napari_llm4seg.gui.controllers.history import ResultHistory
from napari_llm4seg.gui.controllers.ports import ModelSource, Runner, SlicePart, ViewerPort
from napari_llm4seg.gui.controllers.running import Run
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import Message, ProgressState


class RunKeeper:
    """Carries a run through its stages: layers made ahead, the job, its slices, its end.

    Parameters
    ----------
    session : Session
    port : ViewerPort
    models : ModelSource
    runner : Runner
    history : ResultHistory
    later : callable(callable)
        Runs its argument in the window's thread when other work there has had its turn.
    on_change : callable()
        Something to draw has changed.
    on_end : callable(Run, Message)
        The run has ended and this is what to say.

    Attributes
    ----------
    run : Run or None
        What goes on now.
    progress : ProgressState or None
    """

    def __init__(
        self,
        session: Session,
        port: ViewerPort,
        models: ModelSource,
        runner: Runner,
        history: ResultHistory,
        later: Callable[[Callable[[], None]], object],
        on_change: Callable[[], None],
        on_end: Callable[[Run, Message], None],
    ) -> None:
        self._session, self._port, self._models, self._runner = session, port, models, runner
        self._history, self._later, self._on_change, self._on_end = history, later, on_change, on_end
        self.run: Run | None = None
        self.progress: ProgressState | None = None
        self._closed = False

    def close(self) -> None:
        """Draw and write nothing any more."""
        self._closed = True
        calm.release(self)
        if self.run is not None:
            self._session.busy = ""

    def launch(self, run: Run, predictor: Any, config: PredictConfig) -> None:
        self.run = run
        calm.hold(self)
        self.progress = ProgressState(0, 0, "starting")
        self._session.busy = f"'{run.scan.name}' is being segmented."
        self._on_change()
        self._later(lambda: self._prepare(run, predictor, config))

    def cancel(self) -> None:
        """Ask the run to stop; what was finished is kept."""
        if self.run is not None:
            self.run.stopping = True
            self.progress = ProgressState(0, 0, "stopping")
            if self._runner.current is not None:
                self._runner.current.cancel()

    def follow(self, known: set[str]) -> None:
        """Stop the run where its scan (not in ``known``) or its result was taken away."""
        run = self.run
        gone = run.gone(known) if run is not None else ""
        if run is not None and run.stopped is None and gone:
            run.stopped = Message("info", gone)
            self.cancel()

    def _prepare(self, run: Run, predictor: Any, config: PredictConfig) -> None:
        """Make the layers that are written to, in parts, a turn of the event loop for each; then let the model compute.

        napari takes up to 0.1 s for a layer, and several times that while a worker competes for Python.
        """
        if self._closed:
            return
        more = False
        if not run.stopping:
            try:
                more = run.prepare(self._port)
            except Exception as error:  # no memory for the layer, or the scan was just taken away
                run.stopped = words.failure(error, "Making the result layer")
        again = self._prepare if more and not run.ready else self._start
        self._later(lambda: again(run, predictor, config))

    def _start(self, run: Run, predictor: Any, config: PredictConfig) -> None:
        if self._closed:
            return
        if run.stopping or run.stopped is not None:
            self._on_cancelled(run)
            return
        self._runner.start(
            run.job(self._models, predictor, config),
            on_progress=self._on_progress,
            on_partial=lambda part: self._on_part(run, part),
            on_result=lambda prediction: self._on_result(run, prediction),
            on_error=lambda error: self._on_error(run, error),
            on_cancelled=lambda: self._on_cancelled(run),
        )
        self._later(lambda: self._complete(run))

    def _complete(self, run: Run) -> None:
        """Do what is left to do for the layers, and does not hold up the model."""
        if not self._closed and run.result is not None and run.result.prepare():
            self._later(lambda: self._complete(run))

    def _on_progress(self, progress: Any) -> None:
        if self.run is None or self._closed:
            return
        many = progress.total > 1
        text = f"{progress.message}{words.left(progress.seconds_left)}" if many else "running"
        self.progress = ProgressState(progress.done, progress.total if many else 0, text)
        self._on_change()

    def _on_part(self, run: Run, part: SlicePart) -> None:
        if self._closed or run is not self.run or run.stopped is not None:
            return
        try:
            run.take(part)
        except Exception as error:  # the layer was changed under our hands, to another shape for instance
            run.stopped = words.failure(error, "Writing the result")
            self.cancel()
            self._on_change()

    def _on_result(self, run: Run, prediction: Any) -> None:
        provenance = dict(prediction.provenance)
        run.complete = True
        self._settle(run, provenance)
        self._on_end(run, run.summary([str(note) for note in provenance.get("messages", ())]))

    def _on_error(self, run: Run, error: BaseException) -> None:
        self._settle(run, {"failed": str(error)})
        message = words.failure(error, "Segmenting")
        if run.done:
            message = replace(message, text=f"{message.text} The {len(run.done)} finished slices are kept.")
        self._on_end(run, message)

    def _on_cancelled(self, run: Run) -> None:
        self._settle(run, {"cancelled": True})
        self._on_end(run, run.broken_off())

    def _settle(self, run: Run, provenance: dict[str, Any]) -> None:
        """Leave the running state, whatever way it ended."""
        calm.release(self)
        if self._closed:
            return
        self.run, self.progress = None, None
        if run.result is not None and run.result.alive() and not run.done:
            # Nothing was written: the layer made ahead goes again, and a layer used again is as before.
            run.result.undo()
        elif run.result is not None and run.result.alive():
            run.result.finish(provenance)
            self._history.add(run.result)
        self._session.busy = ""
