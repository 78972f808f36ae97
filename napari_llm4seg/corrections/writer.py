"""Corrections on their way to the disk: taken at once, written soon, kept and tried again while the disk refuses."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from napari_llm4seg.corrections.manifest import ScanEntry
from napari_llm4seg.corrections.records import Array, Record, State, describe, now
from napari_llm4seg.corrections.store import SampleStore
from napari_llm4seg.errors import one_line

Key = tuple[str, int, int]
ImageSource = Callable[[], Array]


@dataclass(frozen=True)
class _Job:
    """What is to become of a slice: a correction, or without an image none any more."""

    scan: ScanEntry
    index: int
    axis: int
    due: float
    image: Array | ImageSource | None = None
    mask: tuple[Array, Array | None] | None = None
    state: State = "edited"
    written: str = ""
    model: str = ""
    time: str = ""

    @property
    def key(self) -> Key:
        return self.scan.id, self.axis, self.index


class Writer:
    """Writes into a store from a thread of its own. ``close`` it; the end of the program does so too.

    Several changes of a slice within ``delay`` are written once, the last of them; none waits longer than that. What
    the disk refuses stays in memory and is tried again.

    Parameters
    ----------
    store : SampleStore
        Open for writing.
    delay : float
        Seconds from a change to its writing.
    retry : float
        Seconds after a refusal.
    on_written : callable(Record or None), optional
        Called in the writer's thread once a correction is on the disk, or, with None, once one was taken back there.
    on_trouble : callable(str), optional
        Called in the writer's thread with a sentence when the disk begins to refuse, and "" when that is over.
    """

    def __init__(
        self,
        store: SampleStore,
        *,
        delay: float = 0.3,
        retry: float = 2.0,
        on_written: Callable[[Record | None], Any] | None = None,
        on_trouble: Callable[[str], Any] | None = None,
    ) -> None:
        self._store, self._delay, self._retry = store, delay, retry
        self._on_written, self._on_trouble = on_written, on_trouble
        self._changed = threading.Condition()
        self._jobs: OrderedDict[Key, _Job] = OrderedDict()
        self._busy: _Job | None = None
        self._telling = False
        self._trouble = ""
        self._failures = 0
        self._not_before = 0.0
        self._hurried = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="corrections", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def pending(self) -> int:
        """Number of slices whose last change is not on the disk yet."""
        with self._changed:
            return len(self._jobs.keys() | ({self._busy.key} if self._busy else set()))

    @property
    def trouble(self) -> str:
        """Why the disk refuses, in one sentence; empty while it does not."""
        return self._trouble

    def put(
        self,
        scan: ScanEntry,
        index: int,
        axis: int,
        image: Array | ImageSource,
        labels: Array,
        state: State,
        *,
        annotated: Array | None = None,
        written: str = "",
        model: str = "",
    ) -> None:
        """Take a correction as ``SampleStore.put`` does and return at once; the arrays may change afterwards.

        Parameters
        ----------
        image : array (C, Y, X), or callable that returns it
            Called in the writer's thread: what lies on a disk is not waited for here.
        others
            As in ``SampleStore.put``.

        Raises
        ------
        InputError
            If the arrays do not fit the scan, or the project is open for reading only.
        """
        labels, annotated = self._store.check_labels(scan, index, axis, labels, annotated)
        mask = labels.copy(), None if annotated is None else annotated.copy()
        if not callable(image):
            image = self._store.check_image(scan, axis, image).copy()
        self._take(_Job(scan, index, axis, self._due(), image, mask, state, written, model, now()))

    def drop(self, scan: ScanEntry, index: int, axis: int = 0) -> None:
        """Take a slice's correction back, also one that is not written yet."""
        self._take(_Job(scan, index, axis, self._due()))

    def _due(self) -> float:
        return time.monotonic() + self._delay

    def _take(self, job: _Job) -> None:
        with self._changed:
            if self._stopped:
                raise RuntimeError("the writer was closed")
            waiting = self._jobs.get(job.key)
            if waiting is not None:  # however often a slice changes, it is written in time
                job = replace(job, due=waiting.due)
            self._jobs[job.key] = job
            self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Write everything now; return whether it is on the disk. False after a refusal or ``timeout`` seconds.

        Whoever listens has been told by then.
        """

        def settled() -> bool:
            return not self._telling and (not (self._jobs or self._busy) or self._failures > failures)

        with self._changed:
            failures = self._failures
            self._hurried += 1
            self._not_before = 0.0
            self._changed.notify_all()
            try:
                self._changed.wait_for(settled, timeout)
            finally:
                self._hurried -= 1
            return not (self._jobs or self._busy)

    def close(self, timeout: float = 10.0) -> bool:
        """Write what is left and end the thread; return whether everything is on the disk."""
        atexit.unregister(self.close)
        written = self.flush(timeout)
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return written

    def _run(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                while job is None:
                    if self._stopped:
                        return
                    self._changed.wait(self._pause())
                    job = self._next()
                self._busy = job
            record, error = self._do(job)
            trouble = self._settle(job, error)
            if trouble is not None:
                _call(self._on_trouble, trouble)
            if error is None:
                _call(self._on_written, record)
            with self._changed:
                self._telling = False
                self._changed.notify_all()

    def _next(self) -> _Job | None:
        """Take the first job that is due out of the queue."""
        moment = time.monotonic()
        for key, job in self._jobs.items():
            if self._hurried or (moment >= self._not_before and moment >= job.due):
                return self._jobs.pop(key)
        return None

    def _pause(self) -> float | None:
        """Return the seconds until a job is due, None while there is none."""
        if not self._jobs:
            return None
        due = min(job.due for job in self._jobs.values())
        return max(0.0, max(due, self._not_before) - time.monotonic())

    def _do(self, job: _Job) -> tuple[Record | None, Exception | None]:
        try:
            if job.image is None or job.mask is None:
                self._store.drop(job.scan, job.index, job.axis)
                return None, None
            image = job.image() if callable(job.image) else job.image
            arrays = self._store.check_image(job.scan, job.axis, image), *job.mask
            record = describe(job.key, job.state, *arrays, written=job.written, model=job.model, time=job.time)
            self._store.put_record(job.scan, record, *arrays)
            return record, None
        except Exception as error:  # whatever it is: the correction is kept and the thread lives on
            return None, error

    def _settle(self, job: _Job, error: Exception | None) -> str | None:
        """Note how a job went; one that failed goes back to the front, unless the slice has changed since.

        Return the trouble there is now, where that is news.
        """
        with self._changed:
            self._busy, self._telling = None, True
            before = self._trouble
            self._trouble = ""
            if error is not None:
                self._failures += 1
                self._not_before = time.monotonic() + self._retry
                if job.key not in self._jobs:
                    self._jobs[job.key] = job
                    self._jobs.move_to_end(job.key, last=False)
                self._trouble = _sentence(len(self._jobs), error)
            return self._trouble if self._trouble != before else None


def _call(listener: Callable[[Any], Any] | None, value: Any) -> None:
    """Tell ``listener``; whatever goes wrong there must not keep the next correction from the disk."""
    if listener is not None:
        try:
            listener(value)
        except Exception:
            logging.getLogger(__name__).exception("a listener of the corrections' writer failed")


def _sentence(count: int, error: Exception) -> str:
    reason = one_line(error).removesuffix(" Choose another place.").rstrip(".")
    slices = "1 corrected slice is" if count == 1 else f"{count} corrected slices are"
    return f"{slices} not on the disk yet: {reason}. Nothing is lost while this window is open; it is tried again."
