"""Scans and samples, read in a job, become layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.ports import ModelSource, Runner, ViewerPort
from napari_llm4seg.gui.views.abstract.common import Message, ProgressState
from napari_llm4seg.io import Progress, SeriesInfo, largest


class ScanOpener:
    """Opens files for the dock.

    Parameters
    ----------
    models : ModelSource
    port : ViewerPort
    runner : Runner
    on_start : callable(Message)
        Reading has begun; the message says what is read.
    on_opened : callable()
        The layers are there.
    on_problem : callable(Message)
    choose : callable(str, sequence of str, int) -> sequence of int
        Asks a person which of the series of a folder to open, given its name, the series in words and the
        place of the likeliest; returns places in that list, none to open nothing.

    Attributes
    ----------
    opening : bool
        Whether something is being read.
    progress : ProgressState or None
        How far that is.
    """

    def __init__(
        self,
        models: ModelSource,
        port: ViewerPort,
        runner: Runner,
        on_start: Callable[[Message], None],
        on_opened: Callable[[], None],
        on_problem: Callable[[Message], None],
        choose: Callable[[str, Sequence[str], int], Sequence[int]],
    ) -> None:
        self._models, self._port, self._runner = models, port, runner
        self._on_start, self._on_opened, self._on_problem = on_start, on_opened, on_problem
        self._choose = choose
        self.opening = False
        self.progress: ProgressState | None = None

    def scan(self, path: Path) -> None:
        """Open a file or folder; where it holds several DICOM series, those that a person chooses."""
        doing = f"Opening {path.name}"

        def read(numbers: Sequence[int | None]) -> None:
            self._read(lambda tell: self._models.read_scan(path, numbers, tell), doing)

        def listed(found: Sequence[SeriesInfo]) -> None:
            if len(found) < 2:
                read([None])
                return
            lines = [str(one) for one in found]
            numbers = [found[index].number for index in self._choose(path.name, lines, largest(found))]
            if numbers:
                read(numbers)
            else:
                self._end()
                self._on_opened()

        self._begin(doing)
        self._start(lambda tell: self._models.series(path, tell), listed, doing)

    def sample(self, key: str) -> None:
        self._begin("Opening the sample")
        self._read(lambda tell: self._models.read_sample(key), "Opening the sample")

    def cancel(self) -> None:
        """Give up what is being read; nothing of it is added."""
        if self.opening and self._runner.current is not None:
            self._runner.current.cancel()

    def _begin(self, doing: str) -> None:
        self.opening = True
        self.progress = ProgressState(0, 0, "reading")
        self._on_start(Message("info", f"{doing}…"))

    def _end(self) -> None:
        self.opening, self.progress = False, None

    def _read(self, read: Callable[[Progress], Any], doing: str) -> None:
        def opened(volumes: Any) -> None:
            self._port.add_volumes(volumes)
            self._end()
            self._on_opened()

        self._start(read, opened, doing)

    def _start(self, work: Callable[[Progress], Any], then: Callable[[Any], None], doing: str) -> None:
        def failed(error: BaseException) -> None:
            self._end()
            self._on_problem(words.failure(error, doing))

        def stopped() -> None:
            self._end()
            self._on_problem(Message("info", f"{doing} was stopped."))

        def told(progress: Any) -> None:
            if self.opening:
                text = f"{progress.message}{words.left(progress.seconds_left)}"
                self.progress = ProgressState(progress.done, progress.total, text)
                self._on_start(Message("info", f"{doing}…"))

        def job(ctx: Any) -> Any:
            def tell(done: int, total: int, message: str) -> None:
                ctx.check()
                ctx.progress(done, total, message)

            found = work(tell)
            ctx.check()
            return found

        self._runner.start(job, on_progress=told, on_result=then, on_error=failed, on_cancelled=stopped)
