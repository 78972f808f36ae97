"""Scans and samples, read in a job, become layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.ports import ModelSource, Runner, ViewerPort
from napari_llm4seg.gui.views.abstract.common import Message


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
    ) -> None:
        self._models, self._port, self._runner = models, port, runner
        self._on_start, self._on_opened, self._on_problem = on_start, on_opened, on_problem
        self.opening = False

    def scan(self, path: Path) -> None:
        self._open(lambda: self._models.read_scan(path), f"Opening {path.name}")

    def sample(self, key: str) -> None:
        self._open(lambda: self._models.read_sample(key), "Opening the sample")

    def _open(self, read: Callable[[], Any], doing: str) -> None:
        self.opening = True

        def opened(volumes: Any) -> None:
            self._port.add_volumes(volumes)
            self.opening = False
            self._on_opened()

        def failed(error: BaseException) -> None:
            self.opening = False
            self._on_problem(words.failure(error, doing))

        self._on_start(Message("info", f"{doing}…"))
        self._runner.start(lambda ctx: read(), on_result=opened, on_error=failed)
