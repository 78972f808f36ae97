"""Carry calls from worker threads into the thread that owns the window."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from qtpy.QtCore import QObject, Qt, Signal


class Dispatcher(QObject):
    """``post(callable)`` runs it in the thread that made the dispatcher, in order, when that thread is free.

    Make it in the window's thread. After ``close`` (or once Qt has taken the object down) what is posted is dropped.
    """

    _posted = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._open = True
        self._posted.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def post(self, call: Callable[[], None]) -> None:
        """Queue ``call``; callable from any thread."""
        # RuntimeError: Qt deleted its half of the object while a job was still ending.
        if self._open:
            with suppress(RuntimeError):
                self._posted.emit(call)

    def close(self) -> None:
        self._open = False

    def _run(self, call: Callable[[], None]) -> None:
        if self._open:
            call()
