from __future__ import annotations

from unittest import mock

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_llm4seg.preprocess.resample import Band, resampling


@settings(deadline=None, max_examples=40)
@given(
    before=st.integers(1, 40),
    after=st.integers(1, 40),
    antialias=st.booleans(),
    reverse=st.booleans(),
    cut=st.tuples(st.integers(0, 39), st.integers(1, 40)),
)
@example(before=22, after=2, antialias=True, reverse=False, cut=(0, 2))
@example(before=8, after=3, antialias=True, reverse=True, cut=(0, 3))
def test_a_band_is_the_matrix_without_its_zeros(
    before: int, after: int, antialias: bool, reverse: bool, cut: tuple[int, int]
) -> None:
    with mock.patch.object(Band, "_BLOCK", 7):
        band = Band(before, after, antialias, reverse)
    whole = resampling(before, after, antialias)
    whole = whole.flip(0) if reverse else whole
    start = min(cut[0], after - 1)
    stop = min(after, start + cut[1])
    first, last = band.sources(start, stop)
    torch.testing.assert_close(band.part(start, stop), whole[start:stop, first:last])
    outside = whole[start:stop].clone()
    outside[:, first:last] = 0
    assert not outside.any()
