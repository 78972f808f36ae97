"""What carries a job's reports to its owner."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from napari_llm4seg.jobs.job import JobHandle, Progress, RateEstimator

logger = logging.getLogger(__name__)

Callback = Callable[..., Any]
Post = Callable[[Callable[[], None]], Any]


class Reporter:
    """Carries one job's reports to its owner: in order, throttled, and silent once the job is out of date.

    Parameters
    ----------
    handle : JobHandle
    is_current : callable
        Whether ``handle`` is still its runner's newest job.
    post : callable(callable)
        Runs its argument in the owner's thread, first in first out.
    on_progress, on_partial, on_result, on_error, on_cancelled : callable or None
    interval : float
        Seconds between two progress reports.
    trailing : bool
        Whether a timer delivers a withheld report when nothing newer comes; needs a thread-safe ``post``.
    """

    def __init__(
        self,
        handle: JobHandle,
        is_current: Callable[[], bool],
        post: Post,
        *,
        on_progress: Callback | None,
        on_partial: Callback | None,
        on_result: Callback | None,
        on_error: Callback | None,
        on_cancelled: Callback | None,
        interval: float,
        trailing: bool,
        clock: Callable[[], float],
    ) -> None:
        self._handle, self._is_current, self._post = handle, is_current, post
        self._on_progress, self._on_partial = on_progress, on_partial
        self._on_result, self._on_error, self._on_cancelled = on_result, on_error, on_cancelled
        self._interval, self._trailing, self._clock = interval, trailing, clock
        # Re-entrant: with an inline owner a callback may itself report.
        self._lock = threading.RLock()
        self._rate = RateEstimator(clock=clock)
        self._withheld: Progress | None = None
        self._last_sent = -float("inf")
        self._timer: threading.Timer | None = None
        self._closed = False

    def progress(self, done: int, total: int, message: str) -> None:
        if self._on_progress is None:
            return
        with self._lock:
            self._withheld = Progress(done, total, message, self._rate.update(done, total))
            wait = self._last_sent + self._interval - self._clock()
            if wait <= 0 or (total > 0 and done >= total):
                self._flush()
            elif self._trailing and self._timer is None:
                self._timer = threading.Timer(wait, self._on_timer)
                self._timer.daemon = True
                self._timer.start()

    def partial(self, result: Any) -> None:
        with self._lock:
            self._flush()
            self._send(self._on_partial, result)

    def close(self, result: Any, error: BaseException | None) -> None:
        """Deliver what was withheld, then the one last callback."""
        with self._lock:
            self._flush()
            self._closed = True
            self._post(lambda: self._deliver_end(result, error))

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = None
            if not self._closed:
                self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._withheld is not None:
            progress, self._withheld = self._withheld, None
            self._last_sent = self._clock()
            self._send(self._on_progress, progress)

    def _send(self, callback: Callback | None, value: Any) -> None:
        if callback is None:
            return

        def deliver() -> None:
            if self._is_current() and not self._handle.cancel_requested:
                callback(value)

        self._post(deliver)

    def _deliver_end(self, result: Any, error: BaseException | None) -> None:
        state = self._handle._seal()
        if error is not None and self._on_error is None and state == "failed":
            logger.error("A job failed and nobody listened", exc_info=error)
        if not self._is_current():
            return
        if state == "cancelled":
            if self._on_cancelled is not None:
                self._on_cancelled()
        elif error is not None:
            if self._on_error is not None:
                self._on_error(error)
        elif self._on_result is not None:
            self._on_result(result)
