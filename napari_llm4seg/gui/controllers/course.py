"""How far a training is, from what its process tells: the epoch, the part that is done, the time left."""

from __future__ import annotations

import time
from typing import Any

Message = dict[str, Any]


class Course:
    """Follows one training. A time limit may end it before its epochs do.

    Attributes
    ----------
    epoch : int
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._fraction = 0.0
        self._told_left: tuple[float, float] | None = None
        self._limit: float | None = None
        self._began = time.monotonic()

    def begin(self, limit: float | None) -> None:
        """Begin with at most ``limit`` seconds."""
        self._began, self._limit = time.monotonic(), limit

    def hear(self, event: Message) -> None:
        """Take note of a "step" or "validated" event."""
        self.epoch, self._fraction = int(event.get("epoch", 0)), float(event.get("fraction", 0.0))
        if event.get("event") == "validated":
            left = event.get("seconds_left")
            self._told_left = (float(left), time.monotonic()) if left is not None else None

    @property
    def fraction(self) -> float:
        """The part that is done, in [0, 1]."""
        if self._limit is None:
            return self._fraction
        return max(self._fraction, min(1.0, (time.monotonic() - self._began) / self._limit))

    @property
    def left(self) -> float | None:
        """Seconds left, by whatever ends it first; None while nothing is known."""
        now, lefts = time.monotonic(), []
        if self._told_left is not None:
            lefts.append(self._told_left[0] - (now - self._told_left[1]))
        if self._limit is not None:
            lefts.append(self._limit - (now - self._began))
        return max(0.0, min(lefts)) if lefts else None
