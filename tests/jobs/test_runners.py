from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.jobs import InlineRunner, JobContext, Progress, ThreadRunner


class Owner:
    """An owner's thread: callbacks wait in a queue until the test handles them, as in an event loop."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Callable[[], None]] = queue.Queue()
        self.seen: list[tuple[str, Any]] = []
        self.threads: set[int] = set()

    def post(self, callback: Callable[[], None]) -> None:
        self.queue.put(callback)

    def drain(self) -> None:
        while not self.queue.empty():
            self.queue.get()()

    def note(self, what: str) -> Callable[..., None]:
        def callback(*args: Any) -> None:
            self.threads.add(threading.get_ident())
            self.seen.append((what, args[0] if args else None))

        return callback

    @property
    def callbacks(self) -> dict[str, Callable[..., None]]:
        names = ("progress", "partial", "result", "error", "cancelled")
        return {f"on_{name}": self.note(name) for name in names}

    def of(self, what: str) -> list[Any]:
        return [value for name, value in self.seen if name == what]


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture(params=["inline", "thread"])
def runner(request: pytest.FixtureRequest, owner: Owner) -> InlineRunner | ThreadRunner:
    return InlineRunner() if request.param == "inline" else ThreadRunner(owner.post)


def finish(owner: Owner, handle: Any) -> None:
    assert handle.wait(10)
    owner.drain()


def test_result_arrives_once_after_everything_else(runner: Any, owner: Owner) -> None:
    def job(context: JobContext) -> int:
        for step in range(3):
            context.partial(step)
            context.progress(step + 1, 3, f"step {step + 1}")
        return 42

    handle = runner.start(job, **owner.callbacks)
    finish(owner, handle)
    assert handle.state == "finished"
    assert owner.of("partial") == [0, 1, 2]
    assert owner.seen[-1] == ("result", 42)
    assert owner.of("error") == owner.of("cancelled") == []
    last = owner.of("progress")[-1]
    assert (last.done, last.total, last.message, last.seconds_left) == (3, 3, "step 3", 0.0)
    assert owner.threads == {threading.get_ident()}


@pytest.mark.parametrize("error", [InputError("The scan is empty."), ZeroDivisionError("division by zero")])
def test_errors_come_with_their_traceback(runner: Any, owner: Owner, error: Exception) -> None:
    def job(context: JobContext) -> None:
        raise error

    handle = runner.start(job, **owner.callbacks)
    finish(owner, handle)
    assert handle.state == "failed"
    assert owner.of("error") == [error]
    assert "in job" in "".join(traceback.format_tb(owner.of("error")[0].__traceback__))
    assert owner.of("result") == owner.of("cancelled") == []


def test_an_error_nobody_listens_to_is_logged(runner: Any, owner: Owner, caplog: pytest.LogCaptureFixture) -> None:
    def job(context: JobContext) -> None:
        raise InputError("The scan is empty.")

    finish(owner, runner.start(job))
    assert "The scan is empty." in caplog.text


def test_a_job_that_says_cancelled_counts_as_cancelled(runner: Any, owner: Owner) -> None:
    def job(context: JobContext) -> None:
        raise Cancelled("Stopped.")

    handle = runner.start(job, **owner.callbacks)
    finish(owner, handle)
    assert handle.state == "cancelled"
    assert owner.seen == [("cancelled", None)]


def test_a_fast_job_floods_nobody_and_its_last_report_arrives(runner: Any, owner: Owner) -> None:
    runner._interval = 1e6  # nothing but the first and the last report may pass

    def job(context: JobContext) -> None:
        for step in range(10_000):
            context.progress(step, 20_000, "counting")

    finish(owner, runner.start(job, **owner.callbacks))
    reports: list[Progress] = owner.of("progress")
    assert [report.done for report in reports] == [0, 9_999]


def test_a_withheld_report_arrives_although_the_job_goes_on_silently(owner: Owner) -> None:
    go_on = threading.Event()

    def job(context: JobContext) -> None:
        context.progress(0, 2, "reading")
        context.progress(1, 2, "segmenting")
        assert go_on.wait(10)

    handle = ThreadRunner(owner.post, interval=0.02).start(job, **owner.callbacks)
    owner.queue.get(timeout=10)()
    owner.queue.get(timeout=10)()
    assert [report.message for report in owner.of("progress")] == ["reading", "segmenting"]
    go_on.set()
    finish(owner, handle)
    assert handle.state == "finished"


def test_cancel_stops_a_running_job_and_drops_its_late_reports(owner: Owner) -> None:
    started, may_stop = threading.Event(), threading.Event()

    def job(context: JobContext) -> str:
        context.partial("before")
        started.set()
        assert may_stop.wait(10)
        context.partial("after")
        return "too late"

    handle = ThreadRunner(owner.post).start(job, **owner.callbacks)
    assert started.wait(10)
    handle.cancel()
    assert handle.state == "running"
    may_stop.set()
    finish(owner, handle)
    assert handle.state == "cancelled"
    assert owner.seen == [("cancelled", None)]


def test_cancel_wins_until_the_result_has_been_delivered(owner: Owner) -> None:
    handle = ThreadRunner(owner.post).start(lambda context: 1, **owner.callbacks)
    assert handle.wait(10)
    assert handle.state == "finished"
    handle.cancel()
    owner.drain()
    assert handle.state == "cancelled"
    assert owner.seen == [("cancelled", None)]


def test_cancel_after_delivery_changes_nothing(runner: Any, owner: Owner) -> None:
    handle = runner.start(lambda context: 1, **owner.callbacks)
    finish(owner, handle)
    handle.cancel()
    assert handle.state == "finished"
    assert owner.seen == [("result", 1)]


def test_a_newer_job_supersedes_the_older_and_silences_it(owner: Owner) -> None:
    runner = ThreadRunner(owner.post)
    may_stop = threading.Event()

    def old(context: JobContext) -> str:
        context.partial("old")
        assert may_stop.wait(10)
        return "old"

    first = runner.start(old, **owner.callbacks)
    second = runner.start(lambda context: "new", **owner.callbacks)
    assert (first.generation, second.generation) == (1, 2)
    may_stop.set()
    finish(owner, first)
    finish(owner, second)
    assert first.state == "cancelled"
    assert owner.seen == [("result", "new")]


def test_partial_results_queue_up_completely_behind_a_busy_owner(owner: Owner) -> None:
    def job(context: JobContext) -> None:
        for step in range(500):
            context.partial(step)

    finish(owner, ThreadRunner(owner.post).start(job, **owner.callbacks))
    assert owner.of("partial") == list(range(500))


def test_close_cancels_and_silences(owner: Owner) -> None:
    runner = ThreadRunner(owner.post)
    assert runner.close()

    def job(context: JobContext) -> None:
        while True:
            context.check()
            threading.Event().wait(0.005)

    handle = runner.start(job, **owner.callbacks)
    assert runner.busy
    assert runner.close(timeout=10)
    owner.drain()
    assert handle.state == "cancelled"
    assert owner.seen == []


def test_an_owner_that_is_gone_leaves_no_waiter_hanging() -> None:
    def post(callback: Callable[[], None]) -> None:
        raise RuntimeError("wrapped C/C++ object has been deleted")

    assert ThreadRunner(post).start(lambda context: 1).wait(10)


def test_keyboard_interrupt_leaves_an_inline_job_as_it_came(owner: Owner) -> None:
    def job(context: JobContext) -> None:
        raise KeyboardInterrupt

    runner = InlineRunner()
    with pytest.raises(KeyboardInterrupt):
        runner.start(job, **owner.callbacks)
    assert runner.current is not None
    assert runner.current.state == "cancelled"
    assert owner.seen == []
