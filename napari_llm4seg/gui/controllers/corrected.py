"""What has been corrected, as the training asks for it."""

from __future__ import annotations

from psygnal import Signal

from napari_llm4seg.gui.controllers.follower import Follower
from napari_llm4seg.gui.controllers.projects import Project
from napari_llm4seg.gui.controllers.review_ports import ReviewPort, Stack
from napari_llm4seg.gui.controllers.reviewing import Reviewing
from napari_llm4seg.gui.controllers.saving import Saver


class CorrectedSlices:
    """Answers what ``retrain_ports.Corrected`` asks, from the mask being corrected and its project.

    Parameters
    ----------
    port : ReviewPort
    saver : Saver
    follower : Follower

    ``changed`` is emitted after everything that may have changed what is corrected or on the screen.
    """

    changed = Signal()

    def __init__(self, port: ReviewPort, saver: Saver, follower: Follower) -> None:
        self.port, self.saver, self._follower = port, saver, follower

    @property
    def project(self) -> Project | None:
        return self.saver.project

    @property
    def reviewing(self) -> Reviewing | None:
        return self._follower.reviewing

    @property
    def stack(self) -> Stack | None:
        return self._stack if self.reviewing is not None else None

    @property
    def _stack(self) -> Stack | None:
        """The mask, its slices looked at or not yet."""
        return self._follower.stack

    @property
    def trouble(self) -> str:
        return self.saver.trouble

    def here(self) -> int | None:
        stack = self.stack
        return self.port.here(stack) if stack is not None and not stack.problem() else None

    def count(self) -> int:
        """Return how many corrected slices would train or judge: of this scan, or of all single images."""
        return self.saver.kept + (self.saver.others if self.scans() is None else 0)

    def writes(self) -> int:
        return self.saver.writes

    def settled(self) -> bool:
        return self.saver.pending == 0

    def scans(self) -> list[str] | None:
        single = self.saver.image is not None or (self._stack is not None and len(self._stack) == 1)
        if single or self.saver.project is None:
            return None
        return [self.saver.entry.id] if self.saver.entry is not None else []

    def untouched(self) -> list[int]:
        states = self.reviewing.states() if self.reviewing is not None else ()
        return [z for z, state in enumerate(states) if state == "untouched"]

    def model_wrote(self) -> None:
        self._follower.model_wrote()
