"""Projects of corrections carried out of this program and into it, each in one zip file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.controllers.saving import Saver
from napari_llm4seg.gui.views.abstract.common import Message


class Carrier:
    """Exports the open project and imports others into it, in jobs.

    Parameters
    ----------
    saver : Saver
    runner : Runner
    say : callable(Message)
    on_change : callable()
        ``busy`` has changed.

    Attributes
    ----------
    busy : bool
    """

    def __init__(
        self, saver: Saver, runner: Runner, say: Callable[[Message], None], on_change: Callable[[], None]
    ) -> None:
        self._saver, self._runner, self._say, self._on_change = saver, runner, say, on_change
        self.busy = False

    def close(self) -> None:
        if self._runner.current is not None:
            self._runner.current.cancel()

    def take_out(self, path: Path) -> None:
        """Write the project into a zip file, everything corrected so far in it."""
        project = self._saver.project
        if project is None or self.busy:
            return
        path = path if path.suffix.lower() == ".zip" else path.with_name(f"{path.name}.zip")

        def job(ctx: Any) -> Path:
            from napari_llm4seg.corrections import export_zip

            if project.writer is not None:
                project.writer.flush(10.0)
            return export_zip(project.store, path)

        self._carry(job, lambda done: self._say(Message("info", f"Written: {done}.")), f"Writing {path.name}")

    def bring_in(self, path: Path) -> None:
        """Bring an exported project into the open one; of two corrections of a slice the newer counts."""
        project = self._saver.project
        if project is None or self.busy:
            return

        def job(ctx: Any) -> str:
            from napari_llm4seg.corrections import import_zip

            if project.writer is not None:
                project.writer.flush(10.0)
            return import_zip(project.store, path).words()

        def done(sentence: str) -> None:
            self._say(Message("info", sentence))
            self._saver.choose(self._saver.choice)

        self._carry(job, done, f"Importing {path.name}")

    def _carry(self, job: Callable[[Any], Any], done: Callable[[Any], None], doing: str) -> None:
        self.busy = True
        self._on_change()

        def ended(call: Callable[[Any], None]) -> Callable[[Any], None]:
            def end(value: Any) -> None:
                self.busy = False
                call(value)

            return end

        self._runner.start(
            job, on_result=ended(done), on_error=ended(lambda error: self._say(words.failure(error, doing)))
        )
