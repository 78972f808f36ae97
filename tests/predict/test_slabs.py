"""Chunks are read and written once, however many slices they hold."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.errors import InputError
from napari_llm4seg.predict import slabs
from napari_llm4seg.predict.order import slice_order
from napari_llm4seg.predict.slabs import LabelSink, SliceSource, check_target, slab_edges


class Chunked:
    """An array that is set like zarr's and notes how."""

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any = np.uint8) -> None:
        self.values, self.chunks, self.sets = np.zeros(shape, dtype), chunks, 0
        self.shape, self.dtype = shape, self.values.dtype

    def __setitem__(self, index: Any, values: Any) -> None:
        self.values[index] = values
        self.sets += 1


def test_slabs_are_chunks_or_parts_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slab_edges(7, (3, 3, 1), 100) == [0, 3, 6, 7]
    monkeypatch.setattr(slabs, "SLAB_BYTES", 200)
    assert slab_edges(7, (3, 3, 1), 100) == [0, 2, 3, 5, 6, 7]
    assert slab_edges(2, (2,), 1000) == [0, 1, 2]


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_lazy_slices_are_the_stored_ones(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    chunks = tuple(data.draw(st.integers(1, side)) for side in shape)
    axis = data.draw(st.integers(0, 2))
    values = np.random.default_rng(0).integers(0, 255, (2, *shape), dtype=np.int16)
    source = SliceSource(da.from_array(values, chunks=(1, *chunks)), 1 + axis)
    for z in slice_order(shape[axis], None, data.draw(st.integers(0, shape[axis] - 1))):
        np.testing.assert_array_equal(source.read(z), np.take(values, z, axis=1 + axis))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_chunk_is_read_once_outward_from_any_slice(axis: int) -> None:
    read: list[Any] = []

    def load(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(tuple(block_info[0]["chunk-location"]))
        return block

    lazy = da.map_blocks(load, da.zeros((1, 12, 12, 12), chunks=(1, 4, 4, 6)), meta=np.empty((0,) * 4))
    source = SliceSource(lazy, 1 + axis)
    for z in slice_order(12, None, 5):
        source.read(z)
    assert len(read) == len(set(read)) == 3 * 3 * 2


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_every_chunk_is_set_once_when_all_its_slices_came(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    chunks = tuple(data.draw(st.integers(1, side)) for side in shape)
    axis = data.draw(st.integers(0, 2))
    wanted = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    array = Chunked(shape, chunks)
    order = slice_order(shape[axis], None, data.draw(st.integers(0, shape[axis] - 1)))
    sink = LabelSink(array, axis, order)
    for z in order:
        sink.write(z, np.take(wanted, z, axis=axis))
    np.testing.assert_array_equal(array.values, wanted)
    assert array.sets == -(-shape[axis] // chunks[axis])


def test_of_a_slab_only_the_slices_asked_for_are_set() -> None:
    array = Chunked((6, 2, 2), (4, 2, 2))
    array.values[:] = 7
    sink = LabelSink(array, 0, [1, 3])
    for z in (3, 1):
        sink.write(z, np.ones((2, 2), np.uint8))
    assert array.values[:, 0, 0].tolist() == [7, 1, 7, 1, 7, 7]


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 3, 4\); the scan's grid is \(2, 3, 5\)"):
        check_target(np.zeros((2, 3, 4), np.uint8), (2, 3, 5), 1)
    for dtype in (np.uint8, np.float32, bool):
        with pytest.raises(InputError, match="label values go up to 300"):
            check_target(np.zeros((2, 3, 4), dtype), (2, 3, 4), 300)
    check_target(np.zeros((2, 3, 4), np.uint16), (2, 3, 4), 300)
