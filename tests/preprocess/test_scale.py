"""A volume's values are mapped slice by slice as they would be in one piece."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.preprocess import Preprocessor, Tally, needs_values, scale

RULES = ("minmax", "percentile", "uint8", "window", "zscore")


def preprocessor(rule: str, channels: str = "grey") -> Preprocessor:
    n = 1 if channels == "grey" else 3
    fields = {"intensity": rule, "window": (-100, 300) if rule == "window" else None, "patch": (8, 8, 8)}
    return Preprocessor(
        PreprocessConfig.model_validate(fields | {"channels": channels, "mean": (0.2,) * n, "sd": (0.5,) * n})
    )


def by_slices(made: Preprocessor, data: np.ndarray) -> np.ndarray:
    tally = Tally(made.config, data.dtype, data[0].size)
    if needs_values(made.config, data.dtype):
        for z in range(data.shape[1]):
            made.tally(tally, data[:, z])
    found = tally.scale()
    return np.stack([made.normalise_part(data[:, z], found) for z in range(data.shape[1])], axis=1)


@settings(deadline=None, max_examples=60)
@given(
    rule=st.sampled_from(RULES),
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8", "?"]),
    channels=st.sampled_from([(1, "grey"), (3, "grey"), (1, "rgb"), (3, "bgr"), (2, "grey")]),
    odd=st.sets(st.sampled_from([np.nan, np.inf, -np.inf])),
    seed=st.integers(0, 99),
)
def test_slices_are_mapped_as_the_whole(rule: str, dtype: str, channels: Any, odd: set[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(rng.choice([0, 50, 1000]), rng.choice([0, 1, 30]), (channels[0], 4, 5, 6))
    data = (values > 0 if dtype == "?" else values.clip(0 if dtype[0] == "u" else None)).astype(dtype)
    if data.dtype.kind == "f" and channels[0] == 1:
        for value in odd:
            data.flat[rng.integers(0, data.size, 5)] = value
    made = preprocessor(rule, channels[1])
    np.testing.assert_allclose(by_slices(made, data), made.normalise(data), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_moments_do_not_overflow(size: float) -> None:
    data = np.random.default_rng(0).normal(2, 1, (1, 5, 6, 7)) * size
    made = preprocessor("zscore")
    np.testing.assert_allclose(by_slices(made, data), made.normalise(data), rtol=1e-5, atol=1e-5)


def test_percentiles_of_a_large_volume_come_of_a_sample_of_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "_SAMPLE", 2000)
    data = np.tile(np.linspace(0, 1000, 64), (1, 8, 64, 1)).astype(np.int16)
    made = preprocessor("percentile")
    tally = Tally(made.config, data.dtype, data.size)
    for z in range(8):
        made.tally(tally, data[:, z])
    low, high = tally.scale().limits or (0, 0)
    wanted = np.percentile(data, (0.5, 99.5))
    np.testing.assert_allclose((low, high), wanted, atol=16)  # a step between two columns


def test_what_needs_no_pass_over_the_volume() -> None:
    for rule, dtype, needed in (
        ("uint8", "u1", False),
        ("uint8", "i2", True),
        ("window", "i2", False),
        ("window", "f4", True),
        ("minmax", "?", False),
        ("minmax", "u1", True),
        ("zscore", "u1", True),
        ("percentile", "?", True),
    ):
        assert needs_values(preprocessor(rule).config, np.dtype(dtype)) == needed, (rule, dtype)
