from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_llm4seg.errors import InputError
from napari_llm4seg.lock import hold


def test_one_holder_at_a_time_who_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "new {} folder"
    lock = hold(folder, "")
    with pytest.raises(InputError) as caught:
        hold(folder, f"Held by {{}}: '{folder}'.")
    assert str(caught.value).startswith(f"Held by process {os.getpid()} on ")
    assert str(caught.value).endswith(f": '{folder}'.")
    lock.release()
    hold(folder, "").release()


def test_the_same_process_may_hold_it_again_where_that_is_meant(tmp_path: Path) -> None:
    first, second = hold(tmp_path, "", again=True), hold(tmp_path, "", again=True)
    second.release()
    with pytest.raises(InputError):
        hold(tmp_path, "taken by {}")
    first.release()
    hold(tmp_path, "").release()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        hold(tmp_path / "file" / "folder", "")
