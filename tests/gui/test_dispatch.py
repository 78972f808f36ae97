from __future__ import annotations

import threading

import pytest

pytestmark = pytest.mark.gui


def test_calls_arrive_in_the_window_s_thread_in_order(qtbot):
    from napari_llm4seg.gui.dispatch import Dispatcher

    dispatcher, arrived = Dispatcher(), []

    def work():
        for number in range(50):
            dispatcher.post(lambda number=number: arrived.append((number, threading.current_thread())))

    thread = threading.Thread(target=work)
    thread.start()
    qtbot.waitUntil(lambda: len(arrived) == 50)
    thread.join()
    assert arrived == [(number, threading.main_thread()) for number in range(50)]


def test_what_a_call_posts_waits_for_the_event_loop_s_next_turn(qtbot):
    from qtpy.QtCore import QTimer

    from napari_llm4seg.gui.dispatch import Dispatcher

    dispatcher, arrived = Dispatcher(), []

    def first():
        arrived.append("first")
        QTimer.singleShot(0, lambda: arrived.append("the event loop"))
        dispatcher.post(lambda: arrived.append("second"))

    dispatcher.post(first)
    qtbot.waitUntil(lambda: len(arrived) == 3)
    assert arrived == ["first", "the event loop", "second"]


def test_after_closing_everything_is_dropped(qtbot):
    from napari_llm4seg.gui.dispatch import Dispatcher

    dispatcher, arrived = Dispatcher(), []
    dispatcher.post(lambda: arrived.append(1))
    dispatcher.close()
    dispatcher.post(lambda: arrived.append(2))
    qtbot.wait(20)
    assert not arrived


def test_a_deleted_dispatcher_takes_calls_silently(qtbot):
    from napari_llm4seg.gui.dispatch import Dispatcher

    dispatcher = Dispatcher()
    dispatcher.deleteLater()
    qtbot.wait(20)
    dispatcher.post(lambda: None)
