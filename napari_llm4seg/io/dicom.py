"""DICOM through pydicom: a single file, or a folder that holds one series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.io._dicom_pixels import functional_groups, pixels_of
from napari_llm4seg.io._files import PathLike, existing, reading
from napari_llm4seg.io._geometry import Slice, plane_affine, stack_affine, ultrasound_spacing
from napari_llm4seg.volume import Unit, Volume

Array = npt.NDArray[Any]

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


@dataclass(frozen=True)
class _Entry:
    """A file of a series: what its header says without its pixels."""

    path: Path
    slice: Slice | None
    number: int
    shape: tuple[int, int, int]
    uid: str


def read(path: PathLike) -> Volume:
    """Read one DICOM file; its frames become slices.

    Rescale slope and intercept are applied, MONOCHROME1 is inverted (not in CT, PET and NM, whose values are
    quantities), palettes and YBR become RGB. Position, orientation and pixel spacing give the affine; an ultrasound
    image without them takes the physical deltas of its largest region.

    Raises
    ------
    InputError
        If the file is missing, damaged, cut off, no scan, or compressed in a way that cannot be decoded here.
    """
    path = existing(path)
    with reading(path, "a DICOM image"):
        dataset = _dataset(path)
        pixels = pixels_of(dataset, path.name)
        affine, unit, order, messages = _frames_grid(dataset, pixels.shape[1])
        pixels = pixels[:, order]
        # inside: a damaged element is found only when it is asked for
        identity = _identity(dataset) | {"slices": _sources(path, str(dataset.get("SOPInstanceUID", "")), order)}
    return Volume(
        data=pixels,
        affine=affine,
        unit=unit,
        name=path.name if path.suffix.lower() not in (".dcm", ".dicom", ".ima") else path.stem,
        metadata={"source_path": str(path), "messages": messages, "dicom": identity},
    )


def read_series(folder: PathLike) -> Volume:
    """Read the one series in a folder, slices ordered by their position along the slice normal.

    Files that are not DICOM are passed over; names and suffixes do not matter. A single file in the folder is read
    as ``read`` would.

    Raises
    ------
    InputError
        If the folder holds no image, several series, slices of different size or direction, or several slices at one
        position.
    """
    folder = existing(folder)
    with reading(folder, "a folder with one DICOM series"):
        series = _find_series(folder)
        if not series:
            raise InputError(
                f"The folder '{folder.name}' holds no DICOM image. Open the folder that holds the files of one "
                "series, or one file."
            )
        if len(series) > 1:
            named = sorted(f"{title} ({len(entries)} files)" for (_, title), entries in series.items())
            listed = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
            raise InputError(
                f"The folder '{folder.name}' holds {len(series)} series: {listed}. Put the one you want into a folder "
                "of its own, or open one file."
            )
        (entries,) = series.values()
        if len(entries) == 1:
            return read(entries[0].path)
        return _stack(folder, entries)


def _find_series(folder: Path) -> dict[tuple[str, str], list[_Entry]]:
    found: dict[tuple[str, str], list[_Entry]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or not _looks_dicom(path):
            continue
        with reading(path, "a DICOM image"):
            header = _load(path, stop_before_pixels=True)
            if "Rows" not in header or str(header.get("Modality", "")) in _NO_SCAN:
                continue
            title = str(header.get("SeriesDescription", "") or header.get("Modality", "") or "unnamed")
            entry = _Entry(
                path,
                Slice.of(header),
                int(header.get("InstanceNumber") or 0),
                _shape(header),
                str(header.get("SOPInstanceUID", "")),
            )
        found[str(header.get("SeriesInstanceUID", "")), title].append(entry)
    return found


def _shape(header: Any) -> tuple[int, int, int]:
    return int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1)


def _stack(folder: Path, entries: list[_Entry]) -> Volume:
    shapes = sorted({entry.shape for entry in entries})
    if len(shapes) > 1 or shapes[0][2] > 1:
        raise InputError(
            f"The files in '{folder.name}' do not form one stack: sizes (rows, columns, frames) "
            f"{', '.join(map(str, shapes[:4]))}. Keep only the files of one size, or open one file."
        )
    messages: list[str] = []
    planes = [entry.slice for entry in entries if entry.slice is not None]
    if len(planes) == len(entries):
        affine, order, messages = stack_affine(planes, folder.name)
    else:
        order = sorted(range(len(entries)), key=lambda i: (entries[i].number, entries[i].path.name))
        messages.append("The files give no position; slices are in the order of their instance numbers.")
    slices: list[Array] = []
    for entry in (entries[i] for i in order):
        with reading(entry.path, "a DICOM image"):
            dataset = _dataset(entry.path)
            slices.append(pixels_of(dataset, entry.path.name)[:, 0])
    if len({piece.shape for piece in slices}) > 1:
        raise InputError(f"'{folder.name}' mixes grey and colour images. Keep one kind in the folder.")
    unit: Unit = "mm"
    if len(planes) != len(entries):
        affine, unit, _ = _plane_grid(dataset)
    sources = [source for i in order for source in _sources(entries[i].path, entries[i].uid, [0])]
    return Volume(
        data=np.stack(slices, axis=1),
        affine=affine,
        unit=unit,
        name=str(dataset.get("SeriesDescription", "") or folder.name),
        metadata={"source_path": str(folder), "messages": messages, "dicom": _identity(dataset) | {"slices": sources}},
    )


def _looks_dicom(path: Path) -> bool:
    if path.name.upper() == "DICOMDIR":
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".ima", ".dicom")


def _load(path: Path, *, stop_before_pixels: bool = False) -> Any:
    import pydicom
    from pydicom.uid import ImplicitVRLittleEndian

    # Old exports lack the preamble; what is no DICOM at all then has no Rows, which the callers check.
    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=stop_before_pixels)
    if not hasattr(dataset, "file_meta") or "TransferSyntaxUID" not in dataset.file_meta:
        if not hasattr(dataset, "file_meta"):
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def _dataset(path: Path) -> Any:
    dataset = _load(path)
    kind = _NO_SCAN.get(str(dataset.get("Modality", "")))
    if kind is not None:
        raise InputError(f"'{path.name}' holds {kind}, not a scan. Open the images it belongs to.")
    if (
        "Rows" not in dataset
        or "Columns" not in dataset
        or not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    ):
        raise InputError(f"'{path.name}' holds no image (or is no DICOM file). Open a DICOM file with pixels in it.")
    return dataset


def _frames_grid(dataset: Any, frames: int) -> tuple[npt.NDArray[np.float64], Unit, Sequence[int], list[str]]:
    if frames > 1:
        planes = [plane for frame in range(frames) if (plane := _frame_plane(dataset, frame)) is not None]
        if len(planes) == frames:
            affine, order, messages = stack_affine(planes, "the file")
            return affine, "mm", order, messages
    affine, unit, messages = _plane_grid(dataset)
    return affine, unit, range(frames), messages


def _frame_plane(dataset: Any, frame: int) -> Slice | None:
    merged: dict[str, Any] = {}
    for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
        for item in functional_groups(dataset, frame, name):
            for element in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
                if element in item:
                    merged.setdefault(element, item[element].value)
    return Slice.of(merged)


def _plane_grid(dataset: Any) -> tuple[npt.NDArray[np.float64], Unit, list[str]]:
    """Return the affine of one slice, or of frames that give no positions of their own."""
    plane = Slice.of(dataset) or _frame_plane(dataset, 0)
    step = float(dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness") or 0)
    if plane is not None:
        return plane_affine(plane, abs(step) or plane.thickness or 1.0), "mm", []
    messages: list[str] = []
    rows_columns = ultrasound_spacing(dataset)
    for name in ("PixelSpacing", "NominalScannedPixelSpacing", "ImagerPixelSpacing"):
        if rows_columns is None and dataset.get(name):
            rows_columns = float(dataset[name].value[0]), float(dataset[name].value[1])
            if name == "ImagerPixelSpacing":
                messages.append("The pixel spacing is that at the detector; in the body it is somewhat smaller.")
    if rows_columns is None or min(rows_columns) <= 0:
        return np.eye(4), "pixel", messages
    return np.diag([abs(step) or 1.0, *rows_columns, 1.0]), "mm", messages


def _sources(path: Path, uid: str, order: Sequence[int]) -> list[dict[str, Any]]:
    """Return where each slice comes from: file, SOP Instance UID and, counted from 1 as in DICOM, the frame in it."""
    return [{"file": str(path.absolute()), "uid": uid, "frame": frame + 1} for frame in order]


def _identity(dataset: Any) -> dict[str, Any]:
    """Return what results must refer to, without anything about the patient."""
    names = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality")
    return {name: str(dataset.get(name, "")) for name in names}
