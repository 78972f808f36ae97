from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_llm4seg.errors import InputError
from napari_llm4seg.predict.order import SliceLog, slice_order


@pytest.mark.parametrize(
    ("n", "slices", "first", "expected"),
    [
        (4, None, None, [0, 1, 2, 3]),
        (5, None, 2, [2, 1, 3, 0, 4]),
        (5, None, 4, [4, 3, 2, 1, 0]),
        (9, [7, 1, 3, 3], 2, [1, 3, 7]),
        (9, [5, 0, 8], None, [5, 8, 0]),
        (9, range(2, 4), None, [2, 3]),
    ],
)
def test_order(n: int, slices: list[int] | None, first: int | None, expected: list[int]) -> None:
    assert slice_order(n, slices, first) == expected


@given(n=st.integers(1, 60), data=st.data())
def test_every_slice_once_and_never_nearer_later(n: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, n - 1))
    order = slice_order(n, None, first)
    assert sorted(order) == list(range(n))
    distances = [abs(z - first) for z in order]
    assert distances == sorted(distances)


@pytest.mark.parametrize(("slices", "first"), [([3], None), ([-1], None), (None, 3), ([0], -1)])
def test_absent_slices(slices: list[int] | None, first: int | None) -> None:
    with pytest.raises(InputError, match="does not exist; the scan has slices 0 to 2"):
        slice_order(3, slices, first)


def test_no_slices() -> None:
    with pytest.raises(InputError, match="name at least one"):
        slice_order(3, [], None)


def digest_of(*entries: tuple[int, np.ndarray]) -> str:
    log = SliceLog(9)
    for z, values in entries:
        log.add(z, values)
    return log.digest()


def test_digest_depends_on_the_values_and_their_place_but_not_on_the_order_of_the_run() -> None:
    a, b = np.arange(6, dtype=np.int16).reshape(1, 2, 3), np.ones((1, 2, 3), dtype=np.int16)
    assert digest_of((0, a), (1, b)) == digest_of((1, b), (0, a))
    assert digest_of((0, a), (1, b)) == digest_of((0, a[:, :, ::-1][:, :, ::-1]), (1, b))
    different = {digest_of((0, a), (1, b)), digest_of((0, b), (1, a)), digest_of((0, a)), digest_of((1, a))}
    different |= {digest_of((0, a.astype(np.uint16))), digest_of((0, a.reshape(1, 3, 2)))}
    assert len(different) == 6


def test_sentences_group_slices() -> None:
    log = SliceLog(20)
    for z in range(12, 4, -1):
        log.add(z, np.full((1, 2, 2), 7))
    assert log.sentences() == [
        "8 slices (5, 6, 7, 8, 9, …) have the same value everywhere; nothing can be told from it."
    ]
    single = SliceLog(1)
    single.add(0, np.zeros((1, 1, 1)))
    assert single.sentences()[0].startswith("The scan has the same value everywhere")
    ordinary = SliceLog(20)
    ordinary.add(3, np.array([[[0.0, 1.0]]]))
    assert ordinary.sentences() == []
    ordinary.add(4, np.array([[[0.0, np.nan, 1.0]]]))
    assert [text.split(" values")[0] for text in ordinary.sentences()] == ["Slice 4 has"]
