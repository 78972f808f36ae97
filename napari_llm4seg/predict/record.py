"""What made a result, as a JSON file beside it, complete enough to make it again.

Nothing about the patient is in it but what the scan's own file name may tell; places are relative to the record.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_llm4seg.config import LayerRef, explain
from napari_llm4seg.errors import InputError
from napari_llm4seg.files import read_json, sha256, write_text
from napari_llm4seg.io._files import stem_of
from napari_llm4seg.volume import Prediction, Volume

FORMAT: Literal["napari-llm4seg-record/1"] = "napari-llm4seg-record/1"
ENDING = ".record.json"
_LIMIT = 16 << 20
# Files of a scan beyond this are not read a second time for a digest; their values have one in any case.
_MOST_BYTES = 4 << 30


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class InputPart(_Part):
    """The scan: its file or folder, seen from the record's folder, what was chosen in it, and its digests.

    ``sha256`` is over the values of the slices that were segmented, ``files_sha256`` over the files themselves: one
    file's own digest, else that over the digests of all, in the order of the slices.
    """

    name: str
    path: str
    series: str | None = None
    time: int | None = None
    files: int = 0
    files_sha256: str | None = None
    sha256: str
    grid: tuple[int, int, int]
    dtype: str
    unit: Literal["mm", "pixel"]
    affine: tuple[tuple[float, ...], ...]


class ModelPart(_Part):
    """The checkpoint and how it was run; ``reference`` is what finds it again: a name, hf:ORG/REPO or a place."""

    name: str
    sha256: str
    reference: str | None = None
    frozen_layers: tuple[LayerRef, ...] = ()
    block_state: str | None = None
    model: dict[str, Any]
    preprocess: dict[str, Any]
    predict: dict[str, Any]


class RunPart(_Part):
    """On what, when and over what it ran; ``slices`` None means all, ``first`` is the one that ran alone."""

    device: str
    torch_device: str = "cpu"
    threads: int | None = None
    cpu: str | None = None
    versions: dict[str, str]
    date: str
    seconds: float
    axis: int = 0
    slices: tuple[int, ...] | None = None
    first: int | None = None


class ResultPart(_Part):
    """The labels: ``sha256`` with and ``labels_sha256`` without their affine, and voxels per label value.

    ``edited`` tells that a person changed what the model gave, which no run repeats, and ``clean_up`` which automatic
    steps did, in words.
    """

    name: str | None = None
    sha256: str
    labels_sha256: str
    voxels: dict[int, int]
    edited: bool = False
    clean_up: tuple[str, ...] = ()


class Record(_Part):
    """What made one result."""

    format: Literal["napari-llm4seg-record/1"] = FORMAT
    input: InputPart
    model: ModelPart
    run: RunPart
    result: ResultPart
    messages: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, result: Prediction | Volume, source: Volume, output: Path | None = None, *, edited: bool = False
    ) -> Record:
        """Return the record of a prediction, or of a volume of labels that carries its provenance.

        Parameters
        ----------
        result : Prediction or Volume
        source : Volume
            The scan it was made from.
        output : Path, optional
            Where the labels are written; places in the record are relative to its folder.
        edited : bool
            Whether a person changed the labels.

        Raises
        ------
        InputError
            If nothing is known about what made the labels.
        """
        labels = result.as_volume() if isinstance(result, Prediction) else result
        provenance: Any = labels.metadata.get("provenance")
        if not is_complete(provenance):
            raise InputError(f"What made the labels '{labels.name}' is not known, so there is nothing to record.")
        folder = output.parent if output is not None else None
        return cls(
            input=_input(source, provenance, folder),
            model=_model(provenance, folder),
            run=_run(provenance),
            result=_result(labels, output, edited),
            messages=tuple(str(message) for message in provenance.get("messages") or ()),
        )

    def save(self, path: Path) -> Path:
        """Write the record, whole or not at all."""
        write_text(path, self.model_dump_json(indent=1) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a record.

        Raises
        ------
        InputError
            One line where it is missing or no record.
        """
        try:
            value = read_json(path, "Record", _LIMIT)
            if value.get("format") != FORMAT:
                raise InputError(f"'{path}' is no record of this program (its format is not {FORMAT}).")
            return cls.model_validate(value)
        except ValidationError as error:
            raise InputError(str(explain(error, f"Record '{path}'"))) from error


def is_complete(provenance: Any) -> bool:
    """Return whether a result's provenance tells enough for a record."""
    needed = {"checkpoint", "model", "preprocess", "predict", "device", "versions", "date", "seconds"}
    return isinstance(provenance, Mapping) and needed <= set(provenance)


def record_place(output: Path) -> Path:
    """Return where the record of an exported file lies: ``mask.nii.gz`` has ``mask.record.json``."""
    return output.with_name(stem_of(output) + ENDING)


def labels_digest(labels: Any, affine: npt.NDArray[np.float64] | None = None) -> str:
    """Return the sha256 of labels (Z, Y, X), whatever integer type holds them, and of their affine if given."""
    digest = hashlib.sha256(repr(tuple(int(n) for n in labels.shape)).encode())
    for slab in _slabs(labels):
        digest.update(np.ascontiguousarray(slab, dtype="<u2").data)
    if affine is not None:
        digest.update(np.ascontiguousarray(affine, dtype="<f8").data)
    return digest.hexdigest()


def _slabs(labels: Any) -> Iterator[npt.NDArray[Any]]:
    """Yield labels in slabs: as thick as the chunks of an array that is stored in chunks."""
    chunks = getattr(labels, "chunks", None)
    thick = max(1, int(np.max(chunks[0]))) if chunks else 1
    for z in range(0, labels.shape[0], thick):
        yield np.asarray(labels[z : z + thick])


def _input(source: Volume, provenance: Mapping[str, Any], folder: Path | None) -> InputPart:
    metadata = source.metadata
    path = Path(str(metadata.get("source_path") or source.name))
    files, digest = _files(source, path)
    seen = provenance.get("source") or {}
    return InputPart(
        name=path.name,
        path=_seen_from(folder, path),
        series=metadata.get("series_choice"),
        time=metadata.get("time"),
        files=files,
        files_sha256=digest,
        sha256=str(seen.get("sha256", "")),
        grid=source.grid,
        dtype=np.dtype(source.data.dtype).name,
        unit=source.unit,
        affine=tuple(tuple(float(part) for part in row) for row in source.affine),
    )


def _files(source: Volume, path: Path) -> tuple[int, str | None]:
    """Return how many files the scan lies in, and their digest unless they are gone or very many bytes."""
    dicom = source.metadata.get("dicom")
    slices = dicom.get("slices") or () if isinstance(dicom, Mapping) else ()
    files = list(dict.fromkeys(Path(str(each["file"])) for each in slices)) or [path]
    try:
        if not all(file.is_file() for file in files) or sum(file.stat().st_size for file in files) > _MOST_BYTES:
            return 0, None
        digests = [sha256(file) for file in files]
    except OSError:
        return 0, None
    joined = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return len(files), joined


def _seen_from(folder: Path | None, path: Path) -> str:
    """Return ``path`` relative to ``folder``; its name alone where there is no way between the two."""
    if folder is None:
        return path.name
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive
        return path.name


def _model(provenance: Mapping[str, Any], folder: Path | None) -> ModelPart:
    checkpoint = provenance["checkpoint"]
    reference = checkpoint.get("reference")
    if reference and not reference.startswith("hf:") and Path(reference).exists():
        reference = _seen_from(folder, Path(reference))
    return ModelPart(
        name=checkpoint["name"],
        sha256=checkpoint["sha256"],
        reference=reference,
        frozen_layers=provenance.get("frozen_layers") or (),
        block_state=provenance.get("block_state"),
        model=provenance["model"],
        preprocess=provenance["preprocess"],
        predict=provenance["predict"],
    )


def _run(provenance: Mapping[str, Any]) -> RunPart:
    slices, axis = provenance.get("slices"), int(provenance.get("axis", 0))
    grid = (provenance.get("source") or {}).get("grid") or ()
    whole = slices is not None and len(grid) == 3 and len(slices) == grid[axis]
    names = ("device", "torch_device", "threads", "cpu", "versions", "date", "seconds", "first")
    known = {name: provenance[name] for name in names if provenance.get(name) is not None}
    return RunPart(**known, axis=axis, slices=None if whole or slices is None else tuple(slices))


def _result(labels: Volume, output: Path | None, edited: bool) -> ResultPart:
    voxels: dict[int, int] = {}
    for slab in _slabs(labels.data[0]):
        values, counts = np.unique(slab, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            voxels[value] = voxels.get(value, 0) + count
    return ResultPart(
        name=output.name if output is not None else None,
        sha256=labels_digest(labels.data[0], labels.affine),
        labels_sha256=labels_digest(labels.data[0]),
        voxels={value: count for value, count in sorted(voxels.items()) if value},
        edited=edited,
        clean_up=tuple(str(step) for step in labels.metadata.get("clean_up") or ()),
    )
