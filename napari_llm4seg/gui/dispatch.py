"""Carry calls from worker threads into the thread that owns the window."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from qtpy.QtCore import QObject, Qt, QTimer, Signal

# Qt delivers posted events before it looks at mouse, timers and drawing: after this long they get their turn.
_TURN_SECONDS = 0.015


class Dispatcher(QObject):
    """``post(callable)`` runs it in the thread that made the dispatcher, in order, when that thread is free.

    Make it in the window's thread. However many calls wait, the event loop gets its turn in between, and always before
    what a call itself has posted. After ``close`` (or once Qt has taken the object down) what is posted is dropped.
    """

    _posted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._open = True
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._run)
        self._posted.connect(self._wake, Qt.ConnectionType.QueuedConnection)

    def post(self, call: Callable[[], None]) -> None:
        """Queue ``call``; callable from any thread."""
        if self._open:
            self._waiting.append(call)
            # RuntimeError: Qt deleted its half of the object while a job was still ending.
            with suppress(RuntimeError):
                self._posted.emit()

    def close(self) -> None:
        self._open = False
        self._waiting.clear()

    def _wake(self) -> None:
        if self._open and not self._timer.isActive():
            self._timer.start()

    def _run(self) -> None:
        until, left = time.monotonic() + _TURN_SECONDS, len(self._waiting)
        try:
            while self._open and self._waiting and left:  # a call may have run a dialogue, and that the others
                left -= 1
                self._waiting.popleft()()
                if time.monotonic() > until:
                    break
        finally:
            if self._open and self._waiting:
                self._timer.start()
