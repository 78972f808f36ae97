from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_llm4seg import scratch
from napari_llm4seg.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path))
    return tmp_path


def test_small_arrays_are_in_memory_and_large_ones_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(scratch.room((3, 4, 5), np.uint8)) is np.ndarray
    monkeypatch.setattr(scratch, "LARGE", 60)
    assert type(scratch.room((3, 4, 5), np.uint8)) is np.memmap
    assert type(scratch.room((2, 4, 5), np.uint8)) is np.ndarray


def test_a_scratch_array_starts_at_zero_and_leaves_no_file(cache: Path) -> None:
    array = scratch.scratch_array((3, 4, 5), np.uint16)
    assert array.shape == (3, 4, 5)
    assert not array.any()
    array[:, 2] = 7
    assert np.count_nonzero(array == 7) == 15
    del array
    assert list((cache / "scratch").iterdir()) == []


def test_a_full_disk_is_said_before_anything_is_written(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**6))
    with pytest.raises(InputError, match=r"takes 2.0 GB and '.*scratch' has 0.0 GB free. Make room"):
        scratch.scratch_array((2000, 1000, 1000), np.uint8)
    assert list((cache / "scratch").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").write_text("")
    monkeypatch.setenv("LLM4SEG_CACHE", str(cache / "file"))
    with pytest.raises(InputError, match="cannot hold the result"):
        scratch.scratch_array((2, 2), np.uint8)
