"""What a job sees (``JobContext``), what its owner holds (``JobHandle``) and how the time left is estimated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from napari_llm4seg.errors import Cancelled

State = Literal["running", "finished", "failed", "cancelled"]


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Parameters
    ----------
    done, total : int
        Units of work; ``total`` 0 means that the amount is not known.
    message : str
        What is being done now, in words.
    seconds_left : float or None
        Estimated from a smoothed rate; None until a unit of work has been timed or when ``total`` is not known.
    """

    done: int
    total: int
    message: str
    seconds_left: float | None = None

    @property
    def fraction(self) -> float | None:
        """Done part in [0, 1], or None when the total is not known."""
        return min(1.0, self.done / self.total) if self.total > 0 else None


class RateEstimator:
    """Remaining time from an exponentially smoothed time per unit of work.

    The weight of a new measurement grows with the units it covers, so that many small steps and one large step of
    the same speed leave the same estimate.

    Parameters
    ----------
    smoothing : float in (0, 1]
        Weight of one newly timed unit; 1 trusts the last unit alone.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, smoothing: float = 0.3, clock: Callable[[], float] = time.monotonic) -> None:
        self._smoothing = smoothing
        self._clock = clock
        self._done = 0
        self._at = clock()
        self._seconds_per_unit: float | None = None

    def update(self, done: int, total: int) -> float | None:
        """Take note of ``done`` units and return the seconds left, or None while nothing is known."""
        now = self._clock()
        steps = done - self._done
        if steps < 0:  # the job began again, for instance a second pass: old speed says nothing
            self._done, self._at, self._seconds_per_unit = done, now, None
        elif steps > 0:
            measured = (now - self._at) / steps
            if self._seconds_per_unit is None:
                self._seconds_per_unit = measured
            else:
                weight = 1.0 - (1.0 - self._smoothing) ** steps
                self._seconds_per_unit += weight * (measured - self._seconds_per_unit)
            self._done, self._at = done, now
        if total <= 0:
            return None
        if done >= total:
            return 0.0
        if self._seconds_per_unit is None:
            return None
        # Time already spent on the unit in work counts, but never beyond that unit.
        spent = min(now - self._at, self._seconds_per_unit)
        return self._seconds_per_unit * (total - done) - spent


class JobHandle:
    """The owner's end of one job.

    Attributes
    ----------
    generation : int
        Counts the jobs of one runner; only the newest may still call back.
    state : {"running", "finished", "failed", "cancelled"}
        "cancelled" only once the job has really stopped.
    """

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.state: State = "running"
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._ended = threading.Event()
        self._delivered = False

    def __repr__(self) -> str:
        return f"JobHandle(generation={self.generation}, state={self.state!r})"

    def cancel(self) -> None:
        """Ask the job to stop; returns at once. Until its result has been delivered, cancelling wins."""
        with self._lock:
            if self._delivered:
                return
            self._cancel.set()
            if self.state != "running":
                self.state = "cancelled"

    @property
    def cancel_requested(self) -> bool:
        return self._cancel.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the job has stopped, at most ``timeout`` seconds; return whether it has.

        Callbacks that need the owner's thread arrive when that thread is free again.
        """
        return self._ended.wait(timeout)

    def _end(self, state: State) -> None:
        """The worker has stopped; a cancel asked for meanwhile wins."""
        with self._lock:
            self.state = "cancelled" if self._cancel.is_set() else state

    def _seal(self) -> State:
        """In the owner's thread, just before the last callback: from here on ``cancel`` changes nothing."""
        with self._lock:
            self._delivered = True
            return self.state


class JobContext:
    """What a running job reports through.

    Parameters
    ----------
    handle : JobHandle
    on_progress : callable(done, total, message)
    on_partial : callable(object)
    """

    def __init__(
        self,
        handle: JobHandle,
        on_progress: Callable[[int, int, str], None],
        on_partial: Callable[[Any], None],
    ) -> None:
        self._handle = handle
        self._on_progress = on_progress
        self._on_partial = on_partial

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Report that ``done`` of ``total`` units are finished (``total`` 0: not known). Cheap; call it freely."""
        self._on_progress(int(done), int(total), message)

    def partial(self, result: Any) -> None:
        """Hand over a part of the result; every one arrives, in order, unless the job is cancelled or superseded."""
        self._on_partial(result)

    def cancelled(self) -> bool:
        """Return whether the job shall stop."""
        return self._handle.cancel_requested

    def check(self) -> None:
        """Raise ``Cancelled`` if the job shall stop."""
        if self.cancelled():
            raise Cancelled("Stopped.")
