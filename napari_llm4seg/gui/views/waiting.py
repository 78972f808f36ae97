"""Waiting for a reader that napari calls in the window's thread, without the window standing still."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtWidgets import QApplication, QProgressDialog

from napari_llm4seg.errors import Cancelled
from napari_llm4seg.io import Progress

T = TypeVar("T")

_SHOWN_AFTER_MS = 500
_LOOK_EVERY_MS = 20


def wait_for(work: Callable[[Progress], T], words: str) -> T | None:
    """Return what ``work`` gives, done in a thread; after half a second a dialog says what is waited for.

    The dialog keeps clicks away from the rest of the window, which goes on being drawn. Cancelled, None is returned;
    the thread stops when it next tells how far it is, or is left to end by itself. Errors of ``work`` are raised here.
    """
    done: list[T] = []
    failed: list[BaseException] = []
    far: list[tuple[int, int, str]] = [(0, 0, "")]
    given_up = threading.Event()

    def tell(*step: Any) -> None:
        if given_up.is_set():
            raise Cancelled("Stopped.")
        far[0] = step

    def run() -> None:
        try:
            done.append(work(tell))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="llm4seg-reading", daemon=True)
    thread.start()
    thread.join(_LOOK_EVERY_MS / 1000)
    if thread.is_alive() and not _watch(thread, words, far):
        given_up.set()
        return None
    if failed:
        raise failed[0]
    return done[0]


def _watch(thread: threading.Thread, words: str, far: list[tuple[int, int, str]]) -> bool:
    """Let the window live until ``thread`` has ended; return False if a person cancelled before."""
    parent: Any = QApplication.activeWindow()
    dialog = QProgressDialog(f"{words}…", "Cancel", 0, 0, parent)
    dialog.setWindowTitle("LLM4Seg")
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setMinimumDuration(_SHOWN_AFTER_MS)
    dialog.setAutoClose(False)
    dialog.setAutoReset(False)
    dialog.setValue(0)
    loop, timer = QEventLoop(), QTimer()

    shown: list[Any] = [far[0]]

    def look() -> None:
        if not thread.is_alive() or dialog.wasCanceled():  # which may have been before the loop began
            loop.quit()
        elif far[0] != shown[0] and dialog.isVisible():
            count, total, step = shown[0] = far[0]  # first: setting a value lets the event loop run, and this anew
            dialog.setLabelText(f"{words}… {step}")
            dialog.setMaximum(total)
            dialog.setValue(count)

    timer.timeout.connect(look)
    dialog.canceled.connect(loop.quit)
    timer.start(_LOOK_EVERY_MS)
    loop.exec_()
    timer.stop()
    cancelled = dialog.wasCanceled()
    dialog.canceled.disconnect(loop.quit)
    dialog.close()
    dialog.deleteLater()
    return not cancelled
