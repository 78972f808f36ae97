"""What the batch page does: find the cases of a folder, segment them in a job, show what became of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.gui.controllers import calm, words
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.batch import BatchRow, BatchState, BatchView
from napari_llm4seg.gui.views.abstract.common import ButtonState, Message, ProgressState
from napari_llm4seg.labels.measure import sizes_words
from napari_llm4seg.volume import Volume

_SAID = {"ok": "done", "failed": "failed", "skipped": "done before", "corrected": "corrected"}
_ALL = "Every case of the folder is segmented with the model, device and options chosen above"


class BatchSource(Protocol):
    """Finds and segments the cases of a folder. Every method may take long: call it in a job."""

    def find_cases(self, folder: Path, out: Path, cancel: Callable[[], bool]) -> Sequence[Any]:
        """Return cases with ``name`` and ``path``."""

    def segment_cases(
        self, predictor: Any, config: PredictConfig | None, cases: Sequence[Any], out: Path, ctx: Any
    ) -> list[Any]:
        """Segment the cases; ``ctx.partial`` gets ("started", number, case) and ("ended", number, outcome)."""

    def read_case(self, case: Any, facts: Mapping[str, Any]) -> list[Volume]:
        """Return the scan of a case and the mask that was written for it."""


class BatchController:
    """Connects the session, the folder and one view.

    Parameters
    ----------
    session : Session
    source : BatchSource
    view : BatchView
    make_runner : callable() -> Runner
        Called twice: finding or opening cases, and segmenting them.
    config : callable() -> PredictConfig
        How the Segment dock would run the model now.
    show_case : callable(list of Volume)
        Shows a scan and its mask in the viewer.
    """

    def __init__(
        self,
        session: Session,
        source: BatchSource,
        view: BatchView,
        make_runner: Callable[[], Runner],
        config: Callable[[], PredictConfig],
        show_case: Callable[[list[Volume]], None],
    ) -> None:
        self.session, self.source, self.view = session, source, view
        self._listening = Listening()
        self._config, self._show_case = config, show_case
        self._finder, self._worker = make_runner(), make_runner()
        self._folder: Path | None = None
        self._out: Path | None = None
        self._out_by_hand = False
        self._cases: list[Any] = []
        self._outcomes: dict[int, Any] = {}
        self._rows: list[BatchRow] = []
        self._finding = self._running = self._stopping = self._closed = False
        self._began = 0.0
        self._progress: ProgressState | None = None
        self._message: Message | None = None

    def start(self) -> None:
        self.view.attach(self)
        self._listening.to(
            (self.session.busy_changed, self._render_again),
            (self.session.predictor_changed, self._render_again),
        )
        self._render()

    def close(self) -> None:
        """Stop calmly; finished cases are kept."""
        if self._closed:
            return
        self._closed = True
        self._listening.stop()
        for runner in (self._finder, self._worker):
            if runner.current is not None:
                runner.current.cancel()
        calm.release(self)
        if self._running:
            self.session.busy = ""

    # ------------------------------------------------------------------ folders

    def choose_source(self, folder: Path) -> None:
        """Look for the cases of ``folder``; their masks go beside it unless another place was chosen."""
        if self._running:
            return
        self._folder = folder
        if self._out is None or not self._out_by_hand:
            self._out = folder.with_name(f"{folder.name}_masks")
        self._find(folder, self._out)

    def choose_out(self, folder: Path) -> None:
        if self._running:
            return
        self._out, self._out_by_hand = folder, True
        if self._folder is not None:
            self._find(self._folder, folder)
        self._render()

    def _find(self, folder: Path, out: Path) -> None:
        self._cases, self._outcomes, self._rows, self._message, self._finding = [], {}, [], None, True
        self._render()

        def found(cases: Any) -> None:
            self._finding, self._cases = False, list(cases)
            self._rows = [BatchRow(case.name) for case in cases]
            self._render()

        def failed(error: BaseException) -> None:
            self._finding = False
            self._say(words.failure(error, "Looking for scans"))

        self._finder.start(
            lambda ctx: self.source.find_cases(folder, out, ctx.cancelled), on_result=found, on_error=failed
        )

    # ------------------------------------------------------------------ running

    def start_batch(self) -> None:
        if self._blocked() or self._running:
            return
        predictor, config, cases, out = self.session.predictor, self._config(), list(self._cases), self._out
        self._running, self._outcomes, self._message = True, {}, None
        self._rows = [BatchRow(case.name) for case in cases]
        self._began, self._stopping = time.monotonic(), False
        self._progress = ProgressState(0, 0, "starting")
        calm.hold(self)
        self.session.busy = f"The folder '{self._folder.name if self._folder else ''}' is being segmented."
        self._render()
        self._worker.start(
            lambda ctx: self.source.segment_cases(predictor, config, cases, out or Path(), ctx),
            on_progress=self._on_progress,
            on_partial=self._on_partial,
            on_result=lambda outcomes: self._ended(None),
            on_error=lambda error: self._ended(words.failure(error, "Segmenting the folder")),
            on_cancelled=lambda: self._ended(Message("info", "Stopped.")),
        )

    def cancel_batch(self) -> None:
        if self._running and self._worker.current is not None:
            self._stopping = True
            self._progress = ProgressState(0, 0, "stopping")
            self._worker.current.cancel()
            self._render()

    def _on_progress(self, progress: Any) -> None:
        if self._running and self._worker.current is not None and not self._stopping:
            text = f"{progress.message}{words.left(progress.seconds_left)}"
            self._progress = ProgressState(progress.done, progress.total, text)
            self._render()

    def _on_partial(self, part: tuple[str, int, Any]) -> None:
        kind, number, value = part
        if kind == "started":
            self._rows[number] = BatchRow(value.name, "running")
        else:
            self._outcomes[number] = value
            self._rows[number] = _row(value)
        self._render()

    def _ended(self, message: Message | None) -> None:
        calm.release(self)
        if self._closed:
            return
        self._running, self._progress = False, None
        self._rows = [row if row.status != "running" else BatchRow(row.name, "stopped") for row in self._rows]
        self.session.busy = ""
        account = self._account()
        self._say(replace(message, text=f"{message.text} {account}") if message else Message(self._kind(), account))

    def _count(self, status: str) -> int:
        return sum(outcome.status == status for outcome in self._outcomes.values())

    def _kind(self) -> Any:
        return "warning" if self._count("failed") else "info"

    def _account(self) -> str:
        done, failed, skipped = self._count("ok"), self._count("failed"), self._count("skipped")
        parts = [f"{done} of {len(self._cases)} scans segmented in {words.duration(time.monotonic() - self._began)}"]
        if skipped:
            parts.append(f"{skipped} were done before")
        if self._count("corrected"):
            parts.append(f"{self._count('corrected')} kept as corrected by hand")
        if failed:
            parts.append(f"{failed} failed; Segment folder tries them again")
        return f"{', '.join(parts)}. The table is in summary.csv."

    # ------------------------------------------------------------------ looking at one

    def open_case(self, name: str) -> None:
        """Show a finished case's scan and mask in the viewer."""
        number = next((n for n, case in enumerate(self._cases) if case.name == name), -1)
        outcome = self._outcomes.get(number)
        if outcome is None or outcome.status == "failed":
            return
        case, facts = self._cases[number], outcome.facts
        self._say(Message("info", f"Opening {name}…"))
        self._finder.start(
            lambda ctx: self.source.read_case(case, facts),
            on_result=self._opened,
            on_error=lambda error: self._say(words.failure(error, f"Opening {name}")),
        )

    def _opened(self, volumes: Any) -> None:
        self._message = None
        self._show_case(list(volumes))
        self._render()

    def dismiss_message(self) -> None:
        self._message = None
        self._render()

    # ------------------------------------------------------------------ drawing

    def _say(self, message: Message) -> None:
        self._message = message
        self._render()

    def _render_again(self, _: object) -> None:
        self._render()

    def _blocked(self) -> str:
        """Return why no folder can be segmented now, or an empty string."""
        if self._running:
            return "A folder is being segmented; cancel it first."
        if self._finding:
            return "Wait until the folder has been looked through."
        if self._folder is None:
            return "Choose a folder of scans first."
        if not self._cases:
            return "No scan was found in that folder."
        if self.session.busy:
            return f"{self.session.busy} Wait until it has ended."
        if self.session.predictor is None:
            return "Choose a model above first; it has to be loaded."
        return ""

    def _render(self) -> None:
        if self._closed:
            return
        reason, number = self._blocked(), len(self._cases)
        count = f"{number} {'scan' if number == 1 else 'scans'} found" if self._cases else ""
        self.view.show_state(
            BatchState(
                source=str(self._folder or ""),
                source_words="Looking for scans…" if self._finding else count,
                out=str(self._out or ""),
                rows=tuple(self._rows),
                start=ButtonState(not reason, reason or _ALL, "Segment folder"),
                cancel=ButtonState(
                    self._running, "Stop; finished scans are kept" if self._running else "Nothing is running."
                ),
                progress=self._progress,
                message=self._message,
                busy=self._running,
            )
        )


def _row(outcome: Any) -> BatchRow:
    name, said = outcome.case.name, _SAID[outcome.status]
    if outcome.status == "failed":
        return BatchRow(name, said, details=outcome.error)
    # of a mask that was corrected by hand only the file knows the sizes
    found = sizes_words(outcome.facts["classes"]) if "classes" in outcome.facts else ""
    return BatchRow(name, said, found, str(outcome.facts.get("output", "")), openable=True)
