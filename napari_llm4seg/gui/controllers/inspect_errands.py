"""What an inspection has done in jobs beside its recording: what takes a while, and what takes a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.inspect_recording import Recording
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import Message, ProgressState


class Owner(Protocol):
    """The inspection whose errands they are."""

    recording: Recording | None
    message: Message | None
    progress: ProgressState | None

    def redraw(self) -> None: ...

    def render(self) -> None: ...

    def say(self, message: Message) -> None: ...


class Errands:
    """Runs jobs for an inspection and hands their results over, unless another slice is recorded by then.

    Parameters
    ----------
    session : Session
    owner : Owner
    long, quick : Runner
        For what takes a while, one at a time and with the other docks waiting, and for what takes a moment.

    Attributes
    ----------
    doing : str
        What takes a while and goes on now, in words; empty while nothing does.
    """

    def __init__(self, session: Session, owner: Owner, long: Runner, quick: Runner) -> None:
        self._session, self._owner, self._long, self._quick = session, owner, long, quick
        self.doing = ""
        self._closed = False

    def close(self) -> None:
        """Hand nothing over any more."""
        self._closed = True
        if self.doing:
            self._session.busy = ""

    def quick(self, doing: str, work: Callable[[Any], Any], done: Callable[[Any], None]) -> Any:
        """See ``Desk.quick``."""
        owner, recording = self._owner, self._owner.recording
        if self._closed or recording is None:
            return None

        def ended(result: Any) -> None:
            if not self._closed and recording is owner.recording:
                done(result)
                owner.redraw()

        def failed(error: BaseException) -> None:
            if not self._closed and recording is owner.recording:
                owner.say(words.failure(error, doing))

        return self._quick.start(work, on_result=ended, on_error=failed)

    def run(self, doing: str, work: Callable[[Any], Any], done: Callable[[Any], None]) -> None:
        """See ``Desk.run``."""
        owner, recording = self._owner, self._owner.recording
        if self._closed or recording is None or self._session.busy:
            owner.render()
            return
        self.doing, owner.message = doing, None
        owner.progress = ProgressState(0, 0, doing)
        self._session.busy = f"{doing[0].upper()}{doing[1:]}."

        def ended(message: Message | None, result: Any = None) -> None:
            if self._closed:
                return
            self.doing, owner.progress, owner.message = "", None, message
            self._session.busy = ""
            if message is None and recording is owner.recording:
                done(result)
                owner.redraw()
            else:
                owner.render()

        self._long.start(
            work,
            on_progress=self._show_progress,
            on_result=lambda result: ended(None, result),
            on_error=lambda error: ended(words.failure(error, doing)),
            on_cancelled=lambda: ended(Message("info", "Stopped.")),
        )
        owner.render()

    def _show_progress(self, progress: Any) -> None:
        if self.doing:
            text = f"{progress.message}{words.left(progress.seconds_left)}"
            self._owner.progress = ProgressState(progress.done, progress.total, text)
            self._owner.render()
