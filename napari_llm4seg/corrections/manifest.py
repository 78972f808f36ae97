"""What a project folder says of itself in plain JSON: its name and classes, and each scan that was corrected in it.

```
project.json                       format, name, classes, since when
scans/<name>-<digest>/scan.json    name, where its file was, grid, affine, digest of its voxels
                     /slices/z0041.npz        one file per corrected slice; see ``records``
                     /history/...             what was replaced or taken back
                     /voxels.npy              the whole scan, for three-dimensional models
versions/v1/...                    checkpoints that were trained here; see ``versions``
```
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_llm4seg.config import ClassSpec, explain
from napari_llm4seg.corrections.records import Record, now
from napari_llm4seg.errors import InputError
from napari_llm4seg.files import read_json, write_text
from napari_llm4seg.modalities import stated
from napari_llm4seg.volume import Unit, Volume

PROJECT, SCAN = "project.json", "scan.json"
SCANS, SLICES, HISTORY, VOXELS = "scans", "slices", "history", "voxels.npy"

_ID = r"^[a-z0-9][a-z0-9_-]{0,60}-[0-9a-f]{12}$"
_Row = tuple[float, float, float, float]


class Manifest(BaseModel):
    """A JSON file of a project; keys that a later program has written are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ProjectInfo(Manifest):
    """``project.json``; ``held_back`` are the image digests of the slices that judge and never train."""

    format: Literal["napari-llm4seg-project/1"] = "napari-llm4seg-project/1"
    name: str = Field(min_length=1, max_length=200)
    created: str = Field(default_factory=now, max_length=40)
    classes: tuple[ClassSpec, ...] = ()
    held_back: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> ProjectInfo:
        if len({spec.value for spec in self.classes}) != len(self.classes):
            raise ValueError("classes: every class needs its own label value")
        return self


class ScanEntry(Manifest):
    """``scan.json``: a scan, known by its voxels wherever its file lies.

    Attributes
    ----------
    id : str
        The scan's folder in the project.
    digest : str
        See ``napari_llm4seg.digests.scan_digest``.
    grid : (Z, Y, X)
    channels : int
    dtype : str
    affine, unit
        As in ``Volume``.
    modality : str
        As the file's header has it; empty where it says nothing.
    source, source_relative : str
        Where its file was, and the same as seen from the project's folder; empty where it had none.
    """

    id: str = Field(pattern=_ID)
    name: str = Field(max_length=200)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    grid: tuple[int, int, int]
    channels: int = Field(ge=1, le=64)
    dtype: str = Field(max_length=8)
    affine: tuple[_Row, _Row, _Row, _Row]
    spacing: tuple[float, float, float]
    unit: Unit
    modality: str = Field(default="", max_length=80)
    source: str = Field(default="", max_length=4096)
    source_relative: str = Field(default="", max_length=4096)
    added: str = Field(default_factory=now, max_length=40)

    @model_validator(mode="after")
    def _plausible(self) -> ScanEntry:
        if any(not 1 <= side <= 1 << 20 for side in self.grid):
            raise ValueError("grid: needs three sides of 1 to 1048576 voxels")
        # a class of its own for every name that numpy knows would be more than a scan ever holds
        if not re.fullmatch(r"[<|][buif][1248]", self.dtype):
            raise ValueError("dtype: needs a plain number type such as <i2")
        return self

    def shapes(self, axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes (C, Y, X) and (Y, X) of an image and a mask along ``axis``."""
        plane = tuple(side for other, side in enumerate(self.grid) if other != axis)
        return (self.channels, *plane), plane

    def fits(self, record: Record) -> bool:
        """Return whether ``record`` can be of this scan."""
        return record.index < self.grid[record.axis] and record.shape == self.shapes(record.axis)[0]


def describe_scan(volume: Volume, digest: str, folder: Path) -> ScanEntry:
    """Return the entry of ``volume`` in the project in ``folder``."""
    source = str(volume.metadata.get("source_path") or "")
    source = os.path.abspath(source) if source else ""
    slug = re.sub(r"[^a-z0-9]+", "-", volume.name.lower()).strip("-")[:40].strip("-") or "scan"
    rows: Any = tuple(tuple(row) for row in volume.affine.tolist())
    return ScanEntry(
        id=f"{slug}-{digest[:12]}",
        name=volume.name[:200],
        digest=digest,
        grid=volume.grid,
        channels=volume.channels,
        dtype=plain_dtype(volume.data.dtype).str,
        affine=rows,
        spacing=volume.spacing,
        unit=volume.unit,
        modality=stated(volume.metadata)[:80],
        source=source,
        source_relative=_relative(source, folder),
    )


def plain_dtype(dtype: Any) -> np.dtype[Any]:
    """Return ``dtype`` in little-endian order, as records hold it."""
    little: np.dtype[Any] = np.dtype(dtype).newbyteorder("<")
    return little


def _relative(source: str, folder: Path) -> str:
    try:
        return Path(os.path.relpath(source, folder)).as_posix() if source else ""
    except ValueError:  # on another drive
        return ""


_Model = TypeVar("_Model", bound=Manifest)


def read_manifest(path: Path, model: type[_Model], what: str) -> _Model:
    """Read ``path`` as ``model``.

    Raises
    ------
    InputError
        One line naming ``what`` and what is wrong with it.
    """
    value = read_json(path, what)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"'{path}': {explain(error, f'this {what}')}") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest whole, and onto the disk."""
    write_text(path, manifest.model_dump_json(indent=2) + "\n", durable=True)


def joined_classes(ours: Sequence[ClassSpec], theirs: Sequence[ClassSpec]) -> tuple[ClassSpec, ...]:
    """Return our classes and those of theirs that we have not.

    Raises
    ------
    InputError
        Where the same label value means something else there.
    """
    known = {spec.value: spec for spec in ours}
    for spec in theirs:
        mine = known.setdefault(spec.value, spec)
        if mine.name.casefold() != spec.name.casefold():
            raise InputError(
                f"Label {spec.value} is '{mine.name}' in this project and '{spec.name}' in the other. "
                "Rename or renumber it in one of them."
            )
    return tuple(known[value] for value in sorted(known))
