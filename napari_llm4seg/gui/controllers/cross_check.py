"""A cross-check while a new model waits for a decision: every corrected slice judged by a training without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.course import Course
from napari_llm4seg.gui.controllers.retrain_ports import Message, Trained
from napari_llm4seg.gui.controllers.stages import Stages
from napari_llm4seg.gui.controllers.training import Training
from napari_llm4seg.gui.views.abstract.common import Message as Said
from napari_llm4seg.gui.views.abstract.common import ProgressState

_STEPS = 1000


class CrossCheck:
    """Has the process judge the learning that a new model came of, and hears it.

    Parameters
    ----------
    training : Training
    stages : Stages
    on_judged : callable(dict)
        Gets ``jobs.exchange.judged``.
    on_change : callable()
        Something to draw has changed.
    """

    def __init__(
        self,
        training: Training,
        stages: Stages,
        on_judged: Callable[[Message], None],
        on_change: Callable[[], None],
    ) -> None:
        self._training, self._stages, self._on_judged, self._on_change = training, stages, on_judged, on_change
        self._course = Course()
        self._at, self._of, self._each = 0, 0, 0.0

    def start(self, trained: Trained) -> None:
        """Let the process judge what ``trained`` came of."""
        facts, stages = trained.facts, self._stages
        only = [list(key) for name in ("train", "held_back", "left_out") for key in facts.get(name, ())]
        self._at, self._of, self._each = 0, 0, each_takes(facts, self._training.part)
        stages.message = None
        stages.enter("checking", "cross-check: starting")
        try:
            self._training.cross_check(trained.project, only)
        except LLM4SegError as error:
            stages.end(words.failure(error, "The cross-check"))

    def cancel(self) -> None:
        """Ask the process to end it."""
        if self._stages.stage == "checking":
            self._stages.progress = ProgressState(0, 0, "stopping")
            self._training.cancel()
            self._on_change()

    def drop(self) -> None:
        """End it now, and hear nothing more of it: what it would judge was decided on."""
        if self._stages.stage == "checking":
            self._training.cancel()
            self._stages.end(None)

    def hear(self, event: Message) -> bool:
        """Take note of an event of the process; return whether it was of a cross-check."""
        kind, what, training, stages = event.get("event"), event.get("what"), self._training, self._stages
        if not training.checking:
            return False
        over = kind == "died" or (what == "cross_check" and kind in ("finished", "cancelled", "failed"))
        if over:
            training.checking = False
        if stages.stage != "checking":
            return True
        if kind == "fold":
            self._at, self._of, self._course = int(event["number"]), int(event["folds"]), Course()
            self._course.begin(event.get("seconds"))
            stages.progress = self._progress()
        elif kind in ("step", "validated"):
            self._course.hear(event)
            stages.progress = self._progress()
        elif kind == "died" or (kind == "failed" and what != "warm"):
            stages.end(Said("error", str(event.get("error", ""))))
        elif kind == "cancelled" and over:
            stages.end(Said("info", "The cross-check was stopped; the new model is as it was."))
        elif kind == "finished" and over:
            stages.end(None)
            self._on_judged(event["gate"])
        self._on_change()
        return True

    def _progress(self) -> ProgressState:
        """Return how far all its trainings together are."""
        course, fraction = self._course, self._course.fraction
        here = course.left if course.left is not None else (1 - fraction) * self._each
        left = here + (self._of - self._at) * self._each
        text = f"cross-check {self._at} of {self._of} · epoch {course.epoch}{words.left(left)}"
        return ProgressState(round(_STEPS * (self._at - 1 + fraction) / self._of), _STEPS, text)


def each_takes(facts: Mapping[str, Any], part: float = 1.0) -> float:
    """Return the seconds that a training like the one just done takes; of that one, ``part`` was done."""
    return float(facts.get("seconds", 0.0)) / part


def takes(facts: Mapping[str, Any], part: float = 1.0) -> float:
    """Return the seconds that a cross-check takes after a training that the process told these facts of."""
    return each_takes(facts, part) * int(facts.get("cross_check", {}).get("trainings", 0))
