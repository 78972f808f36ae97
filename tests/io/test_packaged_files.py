"""Every file that pydicom and nibabel carry for their own tests, and damaged ones: they open or give one line, soon."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.io import FORMATS, TimeStack, read, read_stack, series
from napari_llm4seg.volume import Volume

PYDICOM = Path(pydicom.__file__).parent / "data"
NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"
SECONDS = 10  # on a busy machine; each takes a fraction of one


def files_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.parent.name != "__pycache__")


def opened(path: Path) -> Volume | TimeStack | str:
    """Return what ``path`` holds, values read, or the one line that says why not; anything else is an error."""
    started = time.monotonic()
    try:
        found = read_stack(path)
        np.asarray(found.data)
    except LLM4SegError as error:
        line = str(error)
        assert "\n" not in line
        assert path.name in line or path.parent.name in line
        assert len(line) < 700
        return line
    finally:
        assert time.monotonic() - started < SECONDS
    assert found.data.size
    return found


@pytest.mark.parametrize("root", [PYDICOM, NIBABEL], ids=["pydicom", "nibabel"])
@pytest.mark.timeout(120)
def test_every_file_opens_or_gives_one_line(root: Path) -> None:
    if not root.is_dir():
        pytest.skip(f"{root} is not part of this installation")
    paths = files_in(root)
    answers = {path: opened(path) for path in paths}
    images = [path for path, answer in answers.items() if not isinstance(answer, str)]
    # pydicom: 78 DICOM files there, images without suffix in the folders, and those with other alphabets
    assert len(images) >= (95 if root == PYDICOM else 8)
    for path, answer in answers.items():
        if isinstance(answer, str) and "no known format" in answer:
            assert path.suffix.lower() not in FORMATS


@pytest.mark.parametrize("name", ["", "dicomdirtests", "dicomdirtests/77654033", "dicomdirtests/TINY_ALPHA"])
def test_every_folder_lists_its_series_or_gives_one_line(name: str) -> None:
    folder = PYDICOM / "test_files" / name
    try:
        found = series(folder)
    except LLM4SegError as error:
        assert "\n" not in str(error)  # noqa: PT017 - one of them holds headers without pixels
        assert name.endswith("TINY_ALPHA")
        return
    assert found
    for one in found[:: 4 if name else 12]:  # the first folder holds much else to look through each time
        try:
            assert read(folder, series=one.number).grid == (one.slices, *one.size)
        except LLM4SegError as error:
            assert "\n" not in str(error)  # noqa: PT017 - some of the files are damaged


def test_a_table_of_contents_opens_what_lies_beside_it() -> None:
    folder = PYDICOM / "test_files" / "dicomdirtests"
    assert [str(one) for one in series(folder / "DICOMDIR")] == [str(one) for one in series(folder)]
    assert any(one.description == "Routine Brain" and one.slices == 4 for one in series(folder))


def some_files() -> Iterator[Path]:
    for name in (
        "CT_small.dcm",
        "MR_small_jp2klossless.dcm",
        "examples_palette.dcm",
        "SC_rgb_rle.dcm",
        "image_dfl.dcm",
    ):
        yield PYDICOM / "test_files" / name
    for name in ("anatomical.nii", "standard.nii.gz", "example_nifti2.nii.gz", "functional.nii"):
        yield NIBABEL / name


@pytest.mark.parametrize("source", list(some_files()), ids=lambda path: path.name)
def test_truncated_copies(tmp_path: Path, source: Path) -> None:
    if not source.is_file():
        pytest.skip(f"{source} is not part of this installation")
    whole = source.read_bytes()
    for share in (0.0, 0.001, 0.01, 0.1, 0.3, 0.6, 0.9):
        path = tmp_path / f"cut-{source.name}"
        path.write_bytes(whole[: int(share * len(whole))])
        assert isinstance(opened(path), str)


@pytest.mark.parametrize("suffix", [*sorted(FORMATS), ""])
def test_other_content_under_every_suffix(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    for number, content in enumerate((b"", b"hello, this is text\n" * 30, noise, bytes(2000))):
        path = tmp_path / f"x{number}{suffix}"
        path.write_bytes(content)
        assert isinstance(opened(path), str)


def test_what_may_not_be_read(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / "x.nii"
    path.write_bytes(b"x" * 400)
    path.chmod(0)
    assert "permissions" in str(opened(path))
