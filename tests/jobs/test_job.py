from __future__ import annotations

import pytest

from napari_llm4seg.errors import Cancelled
from napari_llm4seg.jobs import JobContext, JobHandle, Progress
from napari_llm4seg.jobs.job import RateEstimator


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_steady_work_leaves_exactly_the_remaining_time() -> None:
    clock = Clock()
    rate = RateEstimator(clock=clock)
    assert rate.update(0, 10) is None
    for done in range(1, 10):
        clock.now += 2.0
        assert rate.update(done, 10) == pytest.approx(2.0 * (10 - done))
    clock.now += 2.0
    assert rate.update(10, 10) == 0.0


def test_rate_does_not_depend_on_the_size_of_the_steps() -> None:
    fine, coarse = Clock(), Clock()
    rate_fine, rate_coarse = RateEstimator(clock=fine), RateEstimator(clock=coarse)
    for clock, rate in ((fine, rate_fine), (coarse, rate_coarse)):
        clock.now += 1.0
        rate.update(1, 100)
    for done in range(2, 6):
        fine.now += 3.0
        left_fine = rate_fine.update(done, 100)
    coarse.now += 12.0
    assert rate_coarse.update(5, 100) == pytest.approx(left_fine)


def test_one_slow_step_moves_the_estimate_only_partly() -> None:
    clock = Clock()
    rate = RateEstimator(smoothing=0.3, clock=clock)
    for done in range(1, 6):
        clock.now += 1.0
        rate.update(done, 10)
    clock.now += 11.0
    assert rate.update(6, 10) == pytest.approx(4 * (1.0 + 0.3 * 10.0))


def test_time_within_a_unit_counts_down_but_never_below_the_units_after_it() -> None:
    clock = Clock()
    rate = RateEstimator(clock=clock)
    clock.now += 4.0
    assert rate.update(1, 3) == 8.0
    clock.now += 1.0
    assert rate.update(1, 3) == 7.0
    clock.now += 100.0
    assert rate.update(1, 3) == 4.0


def test_unknown_total_and_a_restart_give_no_guess() -> None:
    clock = Clock()
    rate = RateEstimator(clock=clock)
    clock.now += 1.0
    assert rate.update(1, 0) is None
    assert rate.update(0, 5) is None


def test_fraction() -> None:
    assert Progress(1, 4, "").fraction == 0.25
    assert Progress(1, 0, "").fraction is None
    assert Progress(9, 4, "").fraction == 1.0


def test_context_passes_reports_on_and_check_raises_once_cancelled() -> None:
    handle = JobHandle(1)
    seen: list[object] = []
    context = JobContext(handle, lambda *args: seen.append(args), seen.append)
    context.progress(1, 2, "half")
    context.partial("slice")
    context.check()
    assert seen == [(1, 2, "half"), "slice"]
    assert not context.cancelled()
    handle.cancel()
    assert context.cancelled()
    assert handle.state == "running", "cancelled only once the job has stopped"
    with pytest.raises(Cancelled):
        context.check()


def test_wait_times_out_while_the_job_runs() -> None:
    assert JobHandle(1).wait(0.01) is False
