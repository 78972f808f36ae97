"""One corrected slice as a file: the image, the mask on it, which pixels count, and who said so when.

A record is a zip of ``record.json``, ``image.npy``, ``labels.npy`` and, where not everything counts, ``annotated.npy``;
``numpy.load`` opens it too. The zip's checksums tell a damaged one. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_llm4seg.config import explain
from napari_llm4seg.digests import voxel_digest
from napari_llm4seg.errors import ConfigError, InputError, one_line

Array = npt.NDArray[Any]
State = Literal["edited", "confirmed"]

SUFFIX = ".npz"
UNANNOTATED, UNANNOTATED_16 = 255, 65535

_INFO, _IMAGE, _LABELS, _ANNOTATED = "record.json", "image.npy", "labels.npy", "annotated.npy"
_MOST_INFO = 1 << 20
_MOST_PIXELS = 1 << 28
_MOST_CHANNELS = 64
_MOST_HEADER = 4096
_MOST_OVERHEAD = 1 << 16
_DIGEST = r"^[0-9a-f]{64}$"


class Damaged(InputError):
    """A record's file is there, but it is not what was written."""


class Record(BaseModel):
    """What is known of a corrected slice without reading its arrays.

    Attributes
    ----------
    scan : str
        Identifier of its scan in the project.
    axis : int
        Axis of the scan's grid (0, 1, 2 of z, y, x) along which the slices follow one another.
    index : int
        Number of the slice along that axis.
    state : {"edited", "confirmed"}
    time : str
        When it was corrected, ISO 8601 in UTC with microseconds: later is greater as text.
    model : str
        Digest of the checkpoint whose mask was corrected; empty where there was none.
    written : str
        ``mask_digest`` of what that checkpoint had written in the slice.
    partial : bool
        Whether some pixels do not count.
    annotated : int
        How many pixels count.
    values : tuple of int
        Label values among them, 0 too, ascending.
    shape : (C, Y, X)
    image_dtype, labels_dtype : str
    image_digest : str
        sha256 over the image alone: by it a slice is known again after it was corrected anew.
    digest : str
        sha256 over everything a training sees of it: two records of the same digest teach the same.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    format: Literal["napari-llm4seg-record/1"] = "napari-llm4seg-record/1"
    scan: str = Field(min_length=1, max_length=120)
    axis: int = Field(ge=0, le=2)
    index: int = Field(ge=0, lt=1 << 31)
    state: State
    time: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$")
    model: str = Field(default="", max_length=64)
    written: str = Field(default="", max_length=64)
    partial: bool = False
    annotated: int = Field(ge=0)
    values: tuple[int, ...] = ()
    shape: tuple[int, int, int]
    image_dtype: str = Field(max_length=8)
    labels_dtype: Literal["|u1", "<u2"]
    image_digest: str = Field(pattern=_DIGEST)
    digest: str = Field(pattern=_DIGEST)

    @property
    def key(self) -> tuple[str, int, int]:
        """Scan, axis and index: what there is one record of."""
        return self.scan, self.axis, self.index

    @property
    def where(self) -> str:
        """The slice in words."""
        return f"slice {self.index}" + ("" if self.axis == 0 else f" along {'zyx'[self.axis]}")


def now() -> str:
    """Return the time of now as records carry it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def unannotated(labels: Array) -> int:
    """Return which value of ``labels`` (uint8 or uint16) marks what was not annotated: 255 or 65535."""
    return UNANNOTATED if labels.dtype == np.uint8 else UNANNOTATED_16


def compact(labels: Array, name: str) -> Array:
    """Return ``labels`` as uint8 where all values are below 255, else as uint16.

    Raises
    ------
    InputError
        If a value is negative, above 65534 or no whole number.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "bui":
        raise InputError(f"The mask of {name} holds {labels.dtype} values; whole label values are needed.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= UNANNOTATED_16:
        raise InputError(f"The mask of {name} holds label {low if low < 0 else high}; labels are 0 to 65534.")
    return np.ascontiguousarray(labels, dtype=np.uint8 if high < UNANNOTATED else np.dtype("<u2"))


def as_trained(labels: Array, annotated: Array | None) -> Array:
    """Return compact ``labels`` with ``unannotated`` wherever ``annotated`` (None: everywhere true) is false."""
    return labels if annotated is None else np.where(annotated, labels, labels.dtype.type(unannotated(labels)))


def describe(
    key: tuple[str, int, int],
    state: State,
    image: Array,
    labels: Array,
    annotated: Array | None,
    *,
    written: str = "",
    model: str = "",
    time: str = "",
) -> Record:
    """Return the record of an image (C, Y, X), compact labels (Y, X) and the mask of what counts (Y, X) or None.

    It is of now, unless ``time`` says otherwise.
    """
    scan, axis, index = key
    counted = labels if annotated is None else labels[annotated]
    seen = voxel_digest(image)
    return Record(
        scan=scan,
        axis=axis,
        index=index,
        state=state,
        partial=annotated is not None,
        annotated=counted.size,
        values=tuple(np.flatnonzero(np.bincount(counted.ravel())).tolist()) if counted.size else (),
        shape=(image.shape[0], image.shape[1], image.shape[2]),
        image_dtype=image.dtype.str,
        labels_dtype="|u1" if labels.dtype == np.uint8 else "<u2",
        image_digest=seen.hex(),
        digest=_taught(seen, labels, annotated),
        written=written,
        model=model,
        time=time or now(),
    )


def _taught(image_digest: bytes, labels: Array, annotated: Array | None) -> str:
    return hashlib.sha256(image_digest + voxel_digest(as_trained(labels, annotated))).hexdigest()


def write_record(file: Path, record: Record, image: Array, labels: Array, annotated: Array | None) -> None:
    """Write a record into ``file``, in place."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_INFO, record.model_dump_json(indent=1))
        # masks shrink to nothing at once; images hardly do, and a person waits for the next stroke
        _put(archive, _IMAGE, image, zipfile.ZIP_STORED)
        _put(archive, _LABELS, labels, zipfile.ZIP_DEFLATED)
        if annotated is not None:
            _put(archive, _ANNOTATED, annotated, zipfile.ZIP_DEFLATED)


def _put(archive: zipfile.ZipFile, name: str, array: Array, compression: int) -> None:
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    archive.writestr(name, buffer.getbuffer(), compression, compresslevel=1)


def read_info(path: Path) -> Record:
    """Read what a record says of itself.

    Raises
    ------
    Damaged
        One line where the file is cut short, altered or no record.
    InputError
        One line where it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            value = json.loads(_member(archive, _INFO, _MOST_INFO))
            names = archive.namelist()
        record = Record.model_validate(value)
        wanted = {_INFO, _IMAGE, _LABELS} | ({_ANNOTATED} if record.partial else set())
        if len(names) != len(set(names)) or not wanted <= set(names):
            raise ValueError("a part is missing")
        _check_sizes(record)
    except ValidationError as error:
        raise _damaged(path, explain(error, "its description")) from error
    except Exception as error:  # whatever a library makes of bytes that are not what it expects
        raise _damaged(path, error) from error
    return record


def read_arrays(path: Path, record: Record) -> tuple[Array, Array, Array | None]:
    """Read a record's image (C, Y, X), labels (Y, X) and which pixels count (Y, X) bool, None where all do.

    Raises
    ------
    Damaged
        One line where the file is cut short, altered or holds something else than ``record`` says.
    InputError
        One line where it cannot be read.
    """
    grid = record.shape[1:]
    try:
        with zipfile.ZipFile(path) as archive:
            image = _array(archive, _IMAGE, record.shape, record.image_dtype)
            labels = _array(archive, _LABELS, grid, record.labels_dtype)
            annotated = _array(archive, _ANNOTATED, grid, "|b1") if record.partial else None
    except Exception as error:
        raise _damaged(path, error) from error
    seen = voxel_digest(image)
    if (seen.hex(), _taught(seen, labels, annotated)) != (record.image_digest, record.digest):
        raise _damaged(path, ValueError("its content is not what was written"))
    return image, labels, annotated


def most_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Return how large the file of a record of an image (C, Y, X) can be."""
    return math.prod(shape) * itemsize + math.prod(shape[1:]) * 4 + _MOST_OVERHEAD


def _check_sizes(record: Record) -> None:
    channels, *sides = record.shape
    if not 1 <= channels <= _MOST_CHANNELS or min(sides) < 1 or math.prod(sides) > _MOST_PIXELS:
        raise ValueError(f"no slice has the shape {record.shape}")
    dtype = np.dtype(record.image_dtype)
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise ValueError(f"no image holds {record.image_dtype}")


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return a member's bytes, of which there may be ``most``; its checksum is looked at."""
    if archive.getinfo(name).file_size > most:
        raise ValueError(f"{name} is too large")
    return archive.read(name)


def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: str) -> Array:
    wanted = np.dtype(dtype)
    stream: IO[bytes] = io.BytesIO(_member(archive, name, math.prod(shape) * wanted.itemsize + _MOST_HEADER))
    version = npy.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{name} is of npy version {version}")
    found, fortran, found_dtype = npy.read_array_header_1_0(stream)
    if found != shape or fortran or found_dtype != wanted:
        raise ValueError(f"{name} holds {found_dtype} {found} for {wanted} {shape}")
    data = stream.read()
    if len(data) != math.prod(shape) * wanted.itemsize:
        raise ValueError(f"{name} is cut short")
    return np.frombuffer(data, wanted).reshape(shape).copy()


def _damaged(path: Path, error: Exception) -> InputError:
    where = f"'{path.name}' in '{path.parent.parent}'"
    if isinstance(error, OSError):
        return InputError(f"The correction {where} cannot be read: {error.strerror or one_line(error, 100)}.")
    reason = str(error) if isinstance(error, ConfigError) else one_line(error, 100)
    return Damaged(f"The correction {where} is damaged: {reason.rstrip('.')}.")
