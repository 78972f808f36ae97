"""The comparison runs both blocks on the same input."""

from __future__ import annotations

import pytest

from napari_llm4seg.bench.folded import compare
from tests.bench.test_layer import SMALL


@pytest.mark.slow
def test_both_blocks_are_timed_and_equal() -> None:
    found = compare(SMALL, (4, 4, 8, 8, 16), 64, repeats=3)
    assert len(found["whole_s"]) == len(found["folded_s"]) == 3
    assert 0 <= found["difference"] < 1e-4
    assert found["effect"] > 0.01
    assert found["threads"] >= 1
