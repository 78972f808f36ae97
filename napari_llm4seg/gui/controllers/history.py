"""The results that "Undo result" takes back, newest first."""

from __future__ import annotations

from napari_llm4seg.gui.controllers.ports import ResultHandle
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import Message

_KEPT = 20


class ResultHistory:
    """Remembers runs while their layers are there, and keeps the session's newest result right.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._results: list[ResultHandle] = []

    @property
    def newest(self) -> str:
        """Name of the layer that ``take_back`` would act on, empty where there is none."""
        return self._results[-1].name if self._results else ""

    def add(self, result: ResultHandle) -> None:
        self._results = [*self._results, result][-_KEPT:]
        self._session.result_id = result.id

    def forget_gone(self) -> None:
        """Drop the runs whose layers a person removed."""
        self._results = [result for result in self._results if result.alive()]

    def take_back(self) -> Message | None:
        """Take the newest run back, unless its result was edited: then it stays and that is said."""
        self.forget_gone()
        if not self._results:
            return None
        result = self._results[-1]
        taken_back = result.undo()
        # An edited result is the person's now: the next press goes on to the run before it. And removing a layer may
        # have changed the list already.
        self._results = [other for other in self._results if other is not result]
        if taken_back:
            self._session.result_id = self._results[-1].id if self._results else None
            return Message("info", "The last result was taken back.")
        return Message(
            "warning",
            f"'{result.name}' was edited since, so it stays. Delete or hide the layer if you do not want it.",
        )
