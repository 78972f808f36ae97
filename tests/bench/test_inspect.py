"""The figures of inspecting come of real runs."""

from __future__ import annotations

import pytest

from napari_llm4seg.bench import inspect as bench
from tests.activations.test_interventions import predictor_of, scan
from tests.activations.test_recorder import network


def test_every_step_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIDE", 28)
    found = bench.time_inspection(predictor_of(network()), scan(), 1)
    assert found["heads"] == 4
    assert 0 < found["click_s"] < 10
    assert found["slice_s"] > 0
    assert found["proof"] < 1e-5
    assert 0.2 < found["idle"] < 5


@pytest.mark.slow
def test_a_recording_of_256_tokens_and_32_heads_is_bounded() -> None:
    found = bench.recording_memory(bench.large_network())
    assert found["attention"] == [1, 32, 256, 256]
    assert found["attention"][1] * 256 * 256 * 4 < found["recorded"] < 150e6
    assert found["peak"] < 150e6
