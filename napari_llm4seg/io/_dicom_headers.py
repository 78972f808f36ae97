"""Which files of a folder are DICOM images, and what their headers say, read once and without pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from napari_llm4seg.errors import InputError
from napari_llm4seg.io._dicom_elements import number, numbers, short, text
from napari_llm4seg.io._dicom_pixels import Stored, functional_groups, stored_in
from napari_llm4seg.io._files import Progress, as_input_error
from napari_llm4seg.io._geometry import Slice

SUFFIXES = (".dcm", ".dicom", ".ima")
WHAT = "a DICOM image"

# Objects that carry pixels or none, but are no scan.
_NO_SCAN = {
    "SEG": "a segmentation",
    "RTDOSE": "a radiotherapy dose",
    "RTPLAN": "a radiotherapy plan",
    "RTSTRUCT": "radiotherapy contours",
    "SR": "a report",
    "PR": "a display setting",
    "KO": "a list of key images",
    "ECG": "a curve",
}
# What sorts files into series and finds their pixels; the rest of a header is not even parsed.
_TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "Modality", "SeriesDescription", "SeriesInstanceUID"),
    *(
        "SOPClassUID",
        "SOPInstanceUID",
        "InstanceNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
    ),
    *("SliceThickness", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "SharedFunctionalGroupsSequence"),
    "PerFrameFunctionalGroupsSequence",
)
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_BUNCH = 16  # files a thread takes at a time

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Frame:
    """One frame of a file, a file of one image having one: what its header says without its pixels.

    Attributes
    ----------
    index, count : int
        Number of the frame in its file, from 0, and of all frames there.
    uid, series : str
        SOP Instance UID and Series Instance UID.
    number : int
        Instance number.
    size : (rows, columns)
    slice : Slice or None
        Where it lies; None where the header does not say enough.
    stored : Stored or None
        Where its values lie in the file; None where a decoder is needed.
    """

    path: Path
    index: int
    count: int
    uid: str
    series: str
    modality: str
    description: str
    number: int
    size: tuple[int, int]
    samples: int
    slice: Slice | None
    stored: Stored | None


@dataclass(frozen=True)
class Found:
    """What a folder holds: the frames of all images, and why files cannot be read."""

    frames: list[Frame]
    errors: dict[Path, InputError]


def in_threads(
    work: Callable[[T], R], items: Sequence[T], progress: Progress | None = None, doing: str = ""
) -> Iterator[R]:
    """Yield ``work(item)`` in order; reading and decoding wait for disks and leave Python free."""
    if len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(min(8, max(2, os.cpu_count() or 1))) as pool:
        try:
            for done, result in enumerate(pool.map(work, items), start=1):
                if progress is not None:
                    progress(done, len(items), f"{doing} {done}/{len(items)}")
                yield result
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def find(folder: Path, progress: Progress | None = None) -> Found:
    """Read the headers of all DICOM images in ``folder`` and the folders in it; other files are passed over."""
    paths = list(_files(folder))
    bunches = [paths[first : first + _BUNCH] for first in range(0, len(paths), _BUNCH)]
    found = Found([], {})

    def examine(some: list[Path]) -> list[tuple[Path, list[Frame] | InputError]]:
        return [(path, _examined(path)) for path in some]

    for bunch in in_threads(examine, bunches, progress, f"looking through {len(paths)} files, part"):
        for path, answer in bunch:
            if isinstance(answer, InputError):
                found.errors[path] = answer
            else:
                found.frames.extend(answer)
    return found


def holds_dicom(folder: Path, at_most: int = 200) -> bool:
    """Return whether one of the first files in ``folder`` is DICOM; quick, for deciding who opens it."""
    for _, path in zip(range(at_most), _files(folder), strict=False):
        try:
            with path.open("rb") as file:
                if _looks_dicom(path, file.read(132)):
                    return True
        except OSError:
            continue
    return False


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".zarr"))
        for name in sorted(names):
            if not name.startswith(".") and name.upper() != "DICOMDIR":
                yield Path(place, name)


def _examined(path: Path) -> list[Frame] | InputError:
    """Return the frames of a file, none if it is no DICOM image, or the reason why it cannot be read."""
    certain = path.suffix.lower() in SUFFIXES
    try:
        if not path.is_file():  # a pipe would never end
            return []
        with path.open("rb") as file:
            head = file.read(132)
            certain = certain or head[128:] == b"DICM"
            if not _looks_dicom(path, head):
                return []
            if not head:
                return InputError(f"'{path.name}' is an empty file (0 bytes). Copy or export it again.")
            file.seek(0)
            header = load(file, _TAGS)
            if "Rows" not in header or "Columns" not in header:
                if certain and _should_be_image(header):
                    raise ValueError("it ends before its pixels")
                return []
            if text(header, "Modality") in _NO_SCAN:
                return []
            return frames_of(path, header, stored_in(file, header))
    except Exception as error:
        return as_input_error(error, path, WHAT) if certain else []


def _should_be_image(header: Any) -> bool:
    """Return whether a header without an image is what is left of one; reports and plans name other kinds."""
    from pydicom.uid import UID

    kind = text(header, "SOPClassUID") or str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    return not kind or "Image Storage" in UID(kind).name


def _looks_dicom(path: Path, head: bytes) -> bool:
    if head[128:] == b"DICM" or path.suffix.lower() in SUFFIXES:
        return True
    # Files of the time before that mark begin at once with an element of group 2 or 8, little endian.
    return head[:2] in (b"\x02\0", b"\x08\0") and head[3:4] == b"\0" and head[2] < 0x20 and not path.suffix


def load(source: Path | BinaryIO, tags: Iterable[str] | None = None, *, pixels: bool = False) -> Any:
    """Parse a file; ``tags`` alone if given. What is no DICOM at all comes back without Rows, which callers check."""
    import pydicom
    from pydicom.uid import ImplicitVRLittleEndian

    chosen: Any = list(tags) if tags is not None else None
    dataset = pydicom.dcmread(source, force=True, stop_before_pixels=not pixels, specific_tags=chosen)
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def check_scan(dataset: Any, path: Path, *, pixels: bool = False) -> None:
    """Refuse what is no image; ``pixels`` tells that they were seen in the file, if not in ``dataset``.

    Raises
    ------
    InputError
    """
    kind = _NO_SCAN.get(str(dataset.get("Modality", "")))
    if kind is not None:
        raise InputError(f"'{path.name}' holds {kind}, not a scan. Open the images it belongs to.")
    if "Rows" not in dataset or "Columns" not in dataset or not (pixels or any(name in dataset for name in _PIXELS)):
        raise InputError(f"'{path.name}' holds no image (or is no DICOM file). Open a DICOM file with pixels in it.")


def frames_of(path: Path, header: Any, stored: Sequence[Stored] | None) -> list[Frame]:
    """Return the frames of one file by its header; ``stored`` as ``stored_in`` found it."""
    count = max(1, int(number(header, "NumberOfFrames", 1)))
    whole = plane_in(header) if count == 1 else None
    shared: dict[str, Any] = {
        "count": count,
        "uid": text(header, "SOPInstanceUID"),
        "series": text(header, "SeriesInstanceUID"),
        "modality": text(header, "Modality"),
        "description": " ".join(str(header.get("SeriesDescription", "") or "").split()),
        "number": int(number(header, "InstanceNumber")),
        "size": (short(header, "Rows"), short(header, "Columns")),
        "samples": short(header, "SamplesPerPixel", 1),
    }
    return [
        Frame(
            path=path,
            index=index,
            slice=whole or plane_of(header, index),
            stored=stored[index] if stored is not None else None,
            **shared,
        )
        for index in range(count)
    ]


def plane_in(header: Any) -> Slice | None:
    """Return where the one image of a file lies, or None."""
    return Slice.of({name: numbers(header, name) for name in _PLACE})


def plane_of(dataset: Any, frame: int) -> Slice | None:
    """Return where a frame lies by its functional groups, or None."""
    merged: dict[str, Any] = {}
    for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
        for item in functional_groups(dataset, frame, name):
            for element in _PLACE:
                if element in item:
                    merged.setdefault(element, numbers(item, element))
    return Slice.of(merged)
