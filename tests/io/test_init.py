"""Dispatch, missing files, whole-file writing and what an import costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import read, tiff, write
from napari_llm4seg.volume import Volume

VOLUME = Volume(np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4), kind="label")


def test_import_is_light() -> None:
    heavy = ("nibabel", "pydicom", "skimage", "tifffile", "torch", "dask", "PIL", "scipy", "SimpleITK", "napari.layers")
    code = f"import sys, napari_llm4seg.io; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_empty_and_unknown(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        read(tmp_path / "absent.png")
    (tmp_path / "empty.tif").touch()
    with pytest.raises(InputError, match="empty file"):
        read(tmp_path / "empty.tif")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="no known format; open NIfTI"):
        read(tmp_path / "notes.txt")
    with pytest.raises(InputError):
        read("a\0b.png")


def test_name_without_suffix_is_opened_by_content(tmp_path: Path) -> None:
    Image.new("L", (5, 4)).save(tmp_path / "scan", format="PNG")
    assert read(tmp_path / "scan").grid == (1, 4, 5)


def test_folder_called_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    with pytest.raises(InputError):
        read(tmp_path / "x.png")
    with pytest.raises(InputError, match="is a folder"):
        write(tmp_path / "x.png", VOLUME)


@pytest.mark.parametrize("name", ["m.ima", "m.txt", "m"])
def test_formats_that_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot write.*use \.nii\.gz"):
        write(tmp_path / name, VOLUME)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b/m.png", "a/m.tif", "m.npy"])
def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path, name: str) -> None:
    assert write(tmp_path / name, VOLUME) == tmp_path / name
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.tif", VOLUME)
    before = path.read_bytes()

    def half(target: Path, *_: object, **__: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tifffile.imwrite", half)
    with pytest.raises(InputError, match="No space left"):
        tiff.write(path, VOLUME)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_place_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file" / "m.png", VOLUME)
