"""Batches made on a thread while the network computes, and how long it had to wait for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

_AHEAD = 3
_LOOK_SECONDS = 0.2


class Prefetcher(Generic[T]):
    """Runs through an iterator on a thread of its own, a few items ahead.

    Use it as a context manager; leaving it ends the thread, whatever it is at.

    Parameters
    ----------
    items : iterator
        Touched by the thread alone. What it raises is raised again by ``take``, in its turn.
    ahead : int
        How many items may lie ready.

    Attributes
    ----------
    waited : float
        Seconds that ``take`` has stood still for so far.
    """

    def __init__(self, items: Iterator[T], ahead: int = _AHEAD) -> None:
        self.waited = 0.0
        self._items = items
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(ahead)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="llm4seg-batches", daemon=True)

    def __enter__(self) -> Prefetcher[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def take(self) -> T:
        """Return the next item.

        Raises
        ------
        StopIteration
            When there is none left.
        """
        started = time.perf_counter()
        item, error = self._ready.get()
        self.waited += time.perf_counter() - started
        if error is not None:
            raise error
        return item  # type: ignore[return-value]  # only an error comes without an item

    def _work(self) -> None:
        try:
            while not self._ended.is_set():
                self._put((next(self._items), None))
        except BaseException as error:  # StopIteration among them; whoever takes it decides
            self._put((None, error))

    def _put(self, entry: tuple[T | None, BaseException | None]) -> None:
        while not self._ended.is_set():
            try:
                return self._ready.put(entry, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
