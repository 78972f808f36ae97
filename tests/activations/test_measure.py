"""The measures of an image, on activations made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_llm4seg.activations import Activations, spectrum_of
from napari_llm4seg.activations.measure import AFTER, BEFORE, OVERLAPS, SPECTRA, measure


@pytest.mark.parametrize("axes", [2, 3])
def test_before_and_after_a_block_that_finds_the_structure(axes: int) -> None:
    grid, image = (4,) * axes, (16,) * axes
    truth = np.zeros((2, *image), dtype=bool)
    truth[0, 4:8, 4:8] = True  # one cell wide, along every axis that a third one leaves; the second image is empty
    before = 0.01 * torch.rand(2, 5, *grid, generator=torch.Generator().manual_seed(0))
    after = before.clone()
    before[:, 0, 3, 3] = 1.0
    after[:, 0, 1, 1] = -1.0  # strong by its size, whatever its sign
    seen = Activations({BEFORE: before, AFTER: after}, grid, image, image)
    rows = {point: measure(seen, point, truth) for point in (BEFORE, AFTER)}
    assert set(rows[AFTER][0]) == {*OVERLAPS, *SPECTRA}
    assert set(rows[AFTER][1]) == set(SPECTRA)
    for name in OVERLAPS:
        assert rows[AFTER][0][name] > rows[BEFORE][0][name] + 0.1
    assert rows[AFTER][0]["activation_auc"] > 0.95
    tokens = seen.tokens(AFTER)
    assert rows[AFTER][1]["effective_rank"] == pytest.approx(float(spectrum_of(tokens).effective_rank[1]))
    centred = spectrum_of(tokens, centred=True)
    assert rows[AFTER][1]["entropy_centred"] == pytest.approx(float(centred.entropy[1]))
    assert rows[AFTER][0]["log_inverse_top_share_centred"] == pytest.approx(float(centred.log_inverse_top_share[0]))
