"""The scans of a folder, one case each: files, DICOM series, zarr folders, sub-folders included."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.io import FORMATS, read, series
from napari_llm4seg.io._files import PathLike, is_zarr, sniff, stem_of, suffix_of
from napari_llm4seg.volume import Volume

# What this program writes beside scans; a result is no case.
_RESULT = "_seg"


@dataclass(frozen=True)
class CaseFile:
    """One case of a folder.

    Attributes
    ----------
    path : Path
        What ``napari_llm4seg.io.read`` takes: a file, or the folder of a DICOM series or a zarr.
    name : str
        Its place in the folder without suffix, with "/" between folders; no two cases of a folder have the same.
    series : int, str or None
        Which DICOM series, as ``napari_llm4seg.io.read`` takes it, where the folder holds several.
    time : int or None
        Which time point, from 1, where the file holds several.
    """

    path: Path
    name: str
    series: int | str | None = None
    time: int | None = None

    def read(self) -> Volume:
        """Return the scan; raises as ``napari_llm4seg.io.read`` does."""
        return read(self.path, series=self.series, time=self.time)


def find_cases(
    folder: PathLike, leave_out: PathLike | None = None, cancel: Callable[[], bool] | None = None
) -> list[CaseFile]:
    """Return the cases of a folder and its sub-folders, in name order.

    Parameters
    ----------
    folder : str or path
    leave_out : str or path, optional
        A folder whose content is no case: where the results go.
    cancel : callable -> bool, optional
        Asked at every sub-folder.

    Returns
    -------
    list of CaseFile
        Without what a name's end (``_seg``) says to be a result, and without hidden files.

    Raises
    ------
    InputError
        If there is no such folder, or no scan in it.
    Cancelled
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"There is no folder '{root}'. Check the path.")
    out = Path(leave_out).expanduser().resolve() if leave_out is not None else None
    if is_zarr(root):
        return [CaseFile(root, stem_of(root.resolve()))]
    found = list(_walk(root, root, out, cancel))
    if not found:
        raise InputError(f"No scan was found in '{root}'. Choose a folder with DICOM, NIfTI, TIFF, PNG or other scans.")
    return _distinct(found)


def _walk(
    root: Path, folder: Path, out: Path | None, cancel: Callable[[], bool] | None, in_dicom: bool = False
) -> Iterator[CaseFile]:
    """Yield the cases below ``folder``; ``in_dicom`` where a folder above has taken its DICOM files already."""
    if cancel is not None and cancel():
        raise Cancelled("Stopped.")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"The folder '{folder}' cannot be listed: {error.strerror}.") from error
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    formats = {entry.path: _format(Path(entry.path)) for entry in entries if entry.is_file()}
    if "dicom" in formats.values() and not in_dicom:
        in_dicom = True
        yield from _series(root, folder)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_file():
            if formats[entry.path] not in (None, "dicom"):
                yield from _case(root, path)
        elif is_zarr(path):
            yield from _case(root, path)
        elif entry.is_dir() and path.resolve() != out:
            yield from _walk(root, path, out, cancel, in_dicom)


def _format(path: Path) -> str | None:
    """Return the module that reads a file; an unknown suffix is looked behind: DICOM files are often named by UID."""
    known = FORMATS.get(suffix_of(path))
    if known is None and path.stat().st_size:
        return "dicom" if sniff(path) == "dicom" else None
    return known


def _case(root: Path, path: Path) -> Iterator[CaseFile]:
    name = (path.parent / stem_of(path)).relative_to(root).as_posix()
    if not name.endswith(_RESULT) and f"{_RESULT}_" not in name.rsplit("/", 1)[-1]:
        yield CaseFile(path, name)


def _series(root: Path, folder: Path) -> Iterator[CaseFile]:
    """Yield the DICOM series of a folder; a single one is called as the folder is."""
    name = folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
    try:
        found = series(folder)
    except InputError:  # what is wrong is said when its turn comes, beside what became of the others
        found = []
    if len(found) < 2:
        yield CaseFile(folder, name)
        return
    for one in found:
        words = re.sub(r"[^\w-]+", "_", f"{one.description} {one.part}").strip("_")[:40]
        yield CaseFile(folder, f"{name}/{one.number:02}{'_' if words else ''}{words}", one.number)


def _distinct(cases: list[CaseFile]) -> list[CaseFile]:
    """Number equal names apart, as of ``a.png`` beside ``a.tif``; a name without a number is never taken away."""
    names = [case.name for case in cases]
    taken, kept = set(names), []
    for index, case in enumerate(cases):
        name, number = case.name, 2
        while name in names[:index] or (name != case.name and name in taken):
            name, number = f"{case.name}_{number}", number + 1
        taken.add(name)
        names[index] = name
        kept.append(replace(case, name=name))
    return sorted(kept, key=lambda case: case.name)
