"""Scans and samples, read in a job, become layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.ports import ModelSource, Runner, ViewerPort
from napari_llm4seg.gui.views.abstract.common import Message
from napari_llm4seg.io import SeriesInfo, largest


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

    def scan(self, path: Path) -> None:
        """Open a file or folder; where it holds several DICOM series, those that a person chooses."""
        doing = f"Opening {path.name}"

        def listed(found: Sequence[SeriesInfo]) -> None:
            if len(found) < 2:
                self._read(lambda: self._models.read_scan(path), doing)
                return
            lines = [str(one) for one in found]
            numbers = [found[index].number for index in self._choose(path.name, lines, largest(found))]
            if numbers:
                self._read(lambda: self._models.read_scan(path, numbers), doing)
            else:
                self.opening = False
                self._on_opened()

        self._begin(doing)
        self._start(lambda: self._models.series(path), listed, doing)

    def sample(self, key: str) -> None:
        self._begin("Opening the sample")
        self._read(lambda: self._models.read_sample(key), "Opening the sample")

    def _begin(self, doing: str) -> None:
        self.opening = True
        self._on_start(Message("info", f"{doing}…"))

    def _read(self, read: Callable[[], Any], doing: str) -> None:
        def opened(volumes: Any) -> None:
            self._port.add_volumes(volumes)
            self.opening = False
            self._on_opened()

        self._start(read, opened, doing)

    def _start(self, work: Callable[[], Any], then: Callable[[Any], None], doing: str) -> None:
        def failed(error: BaseException) -> None:
            self.opening = False
            self._on_problem(words.failure(error, doing))

        self._runner.start(lambda ctx: work(), on_result=then, on_error=failed)
