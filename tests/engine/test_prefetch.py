"""Items come in order, ahead of their turn, and the thread ends with its owner."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from napari_llm4seg.engine.prefetch import Prefetcher


def test_items_come_in_order_and_then_stop() -> None:
    with Prefetcher(iter(range(20))) as ready:
        assert [ready.take() for _ in range(20)] == list(range(20))
        with pytest.raises(StopIteration):
            ready.take()


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more paper")

    with Prefetcher(items()) as ready:
        assert ready.take() == 1
        with pytest.raises(ValueError, match="no more paper"):
            ready.take()


def test_it_works_ahead_as_far_as_asked_and_no_further() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    with Prefetcher(items(), ahead=2) as ready:
        deadline = time.monotonic() + 5
        while len(made) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert len(made) == 3  # two lie ready, one waits for a place
        assert ready.take() == 0


def test_leaving_ends_the_thread_whatever_is_left() -> None:
    before = threading.active_count()
    with Prefetcher(iter(range(1000))) as ready:
        ready.take()
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_waiting_is_counted() -> None:
    def slow() -> Iterator[int]:
        while True:
            time.sleep(0.05)
            yield 0

    with Prefetcher(slow()) as ready:
        ready.take(), ready.take()
        assert 0.05 < ready.waited < 5
        time.sleep(0.4)
        before = ready.waited
        ready.take()
        assert ready.waited - before < 0.04
