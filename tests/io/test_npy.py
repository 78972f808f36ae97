"""Numpy arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import read, write
from napari_llm4seg.volume import Volume

FILES = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = st.sampled_from([np.dtype(code) for code in ("bool", "u1", "i2", ">u2", "i8", "f2", "f4", "f8")])


@FILES
@given(DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5))))
def test_round_trip(tmp_path: Path, array: np.ndarray) -> None:
    back = read(write(tmp_path / "a.npy", Volume(array)))
    np.testing.assert_array_equal(back.data, array)
    assert back.data.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 7), (1, 1, 6, 7)),
        ((5, 6, 7), (1, 5, 6, 7)),
        ((3, 6, 7), (1, 3, 6, 7)),
        ((6, 7, 3), (3, 1, 6, 7)),
        ((6, 7, 4), (4, 1, 6, 7)),
        ((2, 5, 6, 7), (2, 5, 6, 7)),
    ],
)
def test_axes(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    volume = read(tmp_path / "a.npy")
    assert volume.data.shape == expected
    assert bool(volume.metadata["messages"]) == (len(shape) == 3)


@pytest.mark.parametrize("shape", [(), (4,), (1, 2, 3, 4, 5)])
def test_other_numbers_of_axes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(InputError, match="axes"):
        read(tmp_path / "a.npy")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "boom"),)

    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        read(tmp_path / "a.npy")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("array", [np.zeros((3, 3), complex), np.full((3, 3), "a"), np.zeros((3, 3), "f4,f4")])
def test_values_that_are_no_numbers(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match="needed"):
        read(tmp_path / "a.npy")


def test_empty_axis_archive_and_cut_off(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 5)))
    with pytest.raises(InputError, match="empty"):
        read(tmp_path / "a.npy")
    with (tmp_path / "z.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(InputError, match="several arrays"):
        read(tmp_path / "z.npy")
    np.save(tmp_path / "w.npy", np.arange(100.0).reshape(10, 10))
    for part in (5, 40, 500):
        (tmp_path / "c.npy").write_bytes((tmp_path / "w.npy").read_bytes()[:part])
        with pytest.raises(InputError):
            read(tmp_path / "c.npy")
