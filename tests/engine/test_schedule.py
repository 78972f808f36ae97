from __future__ import annotations

import pytest
import torch

from napari_llm4seg.config import FitConfig
from napari_llm4seg.engine.schedule import learning_rate, warmed_average


def test_the_moving_average_forgets_its_untrained_start() -> None:
    update, average = warmed_average(0.998), [torch.zeros(1)]
    for n in range(1, 200):
        update(average, [torch.ones(1)], torch.tensor(n))
    assert float(average[0]) > 0.999  # a plain decay of 0.998 would stand at 0.33


def test_learning_rate_has_its_shape() -> None:
    config = FitConfig(epochs=10, lr=1.0, warmup_epochs=1, schedule="cosine")
    rates = [learning_rate(config, step, 10) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 0.001
    poly = FitConfig(epochs=10, lr=0.01, warmup_epochs=0, schedule="poly")
    assert learning_rate(poly, 50, 10) == pytest.approx(0.01 * 0.5**0.9)
