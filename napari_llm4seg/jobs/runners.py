"""Runners: where a job runs and in which thread its owner is called back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from napari_llm4seg.errors import Cancelled
from napari_llm4seg.jobs.job import JobContext, JobHandle
from napari_llm4seg.jobs.reporter import Callback, Post, Reporter

logger = logging.getLogger(__name__)


class _Runner:
    """Numbers its jobs; starting one supersedes (and cancels) the one before."""

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self._interval = interval
        self._clock = clock
        self._generation = 0
        self._newest: JobHandle | None = None

    @property
    def current(self) -> JobHandle | None:
        """The newest job, running or not."""
        return self._newest

    @property
    def busy(self) -> bool:
        return self._newest is not None and self._newest.state == "running"

    def _begin(self, post: Post, trailing: bool, callbacks: dict[str, Callback | None]) -> tuple[JobHandle, Reporter]:
        if self._newest is not None:
            self._newest.cancel()
        self._generation += 1
        handle = JobHandle(self._generation)
        self._newest = handle
        reporter = Reporter(
            handle,
            lambda: handle.generation == self._generation,
            post,
            interval=self._interval,
            trailing=trailing,
            clock=self._clock,
            **callbacks,
        )
        return handle, reporter


def _work(fn: Callable[[JobContext], Any], handle: JobHandle, reporter: Reporter) -> tuple[Any, BaseException | None]:
    """Run ``fn`` and settle the handle's state; the traceback stays on the returned error."""
    context = JobContext(handle, reporter.progress, reporter.partial)
    try:
        result = fn(context)
    except Cancelled:
        # A job may also stop of its own accord, for instance when a lower layer was told to.
        handle.cancel()
        handle._end("cancelled")
    except Exception as error:
        handle._end("failed")
        return None, error
    except BaseException as error:  # KeyboardInterrupt, SystemExit: whoever waits must not wait forever
        handle.cancel()
        handle._end("cancelled")
        return None, error
    else:
        handle._end("finished")
        return result, None
    return None, None


class InlineRunner(_Runner):
    """Runs a job at once in the caller's thread; for the command line and for tests.

    Parameters
    ----------
    interval : float
        Seconds between two progress reports; the last one always arrives.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, interval: float = 0.05, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(interval, clock)

    def start(
        self,
        fn: Callable[[JobContext], Any],
        *,
        on_progress: Callback | None = None,
        on_partial: Callback | None = None,
        on_result: Callback | None = None,
        on_error: Callback | None = None,
        on_cancelled: Callback | None = None,
    ) -> JobHandle:
        """Run ``fn(context)`` to its end and call back; see ``ThreadRunner.start``."""
        callbacks = {
            "on_progress": on_progress,
            "on_partial": on_partial,
            "on_result": on_result,
            "on_error": on_error,
            "on_cancelled": on_cancelled,
        }
        handle, reporter = self._begin(lambda callback: callback(), False, callbacks)
        result, error = _work(fn, handle, reporter)
        handle._ended.set()
        if error is not None and not isinstance(error, Exception):
            raise error
        reporter.close(result, error)
        return handle


class ThreadRunner(_Runner):
    """Runs each job in a thread of its own and calls back through ``post``.

    Parameters
    ----------
    post : callable(callable)
        Runs its argument in the owner's thread, first in first out; callable from any thread. With Qt: emit a queued
        signal.
    interval : float
        Seconds between two progress reports, so that a fast job does not flood the owner's thread.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, post: Post, interval: float = 0.05, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(interval, clock)
        self._post = post

    def start(
        self,
        fn: Callable[[JobContext], Any],
        *,
        on_progress: Callback | None = None,
        on_partial: Callback | None = None,
        on_result: Callback | None = None,
        on_error: Callback | None = None,
        on_cancelled: Callback | None = None,
    ) -> JobHandle:
        """Start ``fn(context)`` and return at once. Call it from the owner's thread.

        Parameters
        ----------
        fn : callable(JobContext) -> result
        on_progress : callable(Progress), optional
            Throttled; the newest report always arrives.
        on_partial : callable(object), optional
            Every partial result, in order.
        on_result : callable(result), optional
        on_error : callable(exception), optional
            The exception with its ``__traceback__``; ``LLM4SegError`` is fit to be shown as it is.
        on_cancelled : callable(), optional
            The job has really stopped.

        Returns
        -------
        JobHandle
            Exactly one of ``on_result``, ``on_error`` and ``on_cancelled`` follows, unless a newer job supersedes this
            one: then it is cancelled and nothing more arrives from it.
        """
        callbacks = {
            "on_progress": on_progress,
            "on_partial": on_partial,
            "on_result": on_result,
            "on_error": on_error,
            "on_cancelled": on_cancelled,
        }
        handle, reporter = self._begin(self._post, True, callbacks)

        def run() -> None:
            result, error = _work(fn, handle, reporter)
            try:
                reporter.close(result, error)
            except Exception:  # the owner is gone (its window was closed): nobody is left to tell
                logger.debug("The owner of a job is gone", exc_info=True)
            finally:
                handle._ended.set()

        # A daemon: a job that hangs must not keep a closed window's process alive.
        threading.Thread(target=run, name=f"llm4seg-job-{handle.generation}", daemon=True).start()
        return handle

    def close(self, timeout: float = 2.0) -> bool:
        """Cancel the running job, drop its callbacks and wait for it; return whether it stopped in time."""
        self._generation += 1
        if self._newest is None:
            return True
        self._newest.cancel()
        return self._newest.wait(timeout)
