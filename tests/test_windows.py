from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.windows import CT_WINDOWS, DEFAULT_CT, Window, is_ct, limits_of_name, percentile_limits


def test_limits_lie_half_a_width_around_the_centre() -> None:
    assert CT_WINDOWS["brain"].limits == (0, 80)
    assert CT_WINDOWS["lung"].limits == (-1350, 150)
    assert CT_WINDOWS[DEFAULT_CT].limits == (-160, 240)
    assert Window.of(-160, 240) == CT_WINDOWS["soft tissue"]


@pytest.mark.parametrize("name", ["soft tissue", "Soft-Tissue", "soft_tissue", " SOFT  TISSUE "])
def test_a_model_takes_a_window_by_name_and_keeps_its_numbers(name: str) -> None:
    config = PreprocessConfig.model_validate({"intensity": "window", "window": name})
    assert config.window == (-160, 240) == limits_of_name(name)
    assert json.loads(config.model_dump_json())["window"] == [-160, 240]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="there are soft tissue, lung, bone, brain, liver, or give two numbers"):
        PreprocessConfig.model_validate({"intensity": "window", "window": "spleen"})


def test_what_is_ct() -> None:
    assert is_ct("CT")
    assert is_ct("ct_abdomen")
    assert is_ct("", -1024)
    assert not is_ct("MR", -30)
    assert not is_ct("contact")
    assert not is_ct("")


def test_percentiles_leave_out_the_few_brightest_and_what_is_no_number() -> None:
    values = np.arange(1001, dtype=np.float32)
    assert percentile_limits(values) == (5, 995)
    assert percentile_limits(np.append(values, [np.nan, np.inf])) == (5, 995)
    assert percentile_limits(np.full(9, 3)) is None
    assert percentile_limits(np.full(9, np.nan)) is None
