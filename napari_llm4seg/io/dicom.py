"""DICOM through pydicom: a file, or a series among those in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.io._dicom_headers import (
    SUFFIXES,
    WHAT,
    Found,
    Frame,
    check_scan,
    find,
    frames_of,
    in_threads,
    load,
    plane_in,
    plane_of,
)
from napari_llm4seg.io._dicom_pixels import pixels_of, read_stored, rescaled, stored_in
from napari_llm4seg.io._dicom_series import Series, chosen, sort_out
from napari_llm4seg.io._files import PathLike, Progress, as_input_error, existing, reading
from napari_llm4seg.io._geometry import plane_affine, stack_affine, ultrasound_spacing
from napari_llm4seg.io._series_info import SeriesInfo
from napari_llm4seg.volume import Unit, Volume

Array = npt.NDArray[Any]

# Segmentation Storage and Label Map Segmentation Storage.
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


def read(path: PathLike, series: str | int | None = None, progress: Progress | None = None) -> Volume:
    """Read one DICOM file; its frames become slices.

    Rescale slope and intercept are applied, MONOCHROME1 is inverted (not in CT, PET and NM, whose values are
    quantities), palettes and YBR become RGB. Position, orientation and pixel spacing give the affine; an ultrasound
    image without them takes the physical deltas of its largest region. A segmentation gives labels.

    Parameters
    ----------
    path : str or path
    series : str or int, optional
        Which part of a file that holds several volumes (time points, echoes, directions), as ``list_series`` numbers
        them.
    progress : callable(done, total, words), optional
        Called as slices are read; an error that it raises stops the reading.

    Returns
    -------
    Volume
        ``metadata["dicom"]`` holds what results refer to and nothing about the patient: UIDs, modality, and in
        ``"slices"`` for each slice its file, SOP Instance UID and frame (from 1).

    Raises
    ------
    InputError
        If the file is missing, damaged, cut off, no scan, compressed in a way that cannot be decoded here, or holds
        several volumes and none was chosen.
    """
    path = _opened(path)
    if path.is_dir():
        return read_series(path, series, progress)
    with reading(path, WHAT):
        if _is_segmentation(path):
            from napari_llm4seg.io import dicom_seg

            return dicom_seg.read(path)
        one = chosen(_in_file(path), series, path.name)
        named = path.stem if path.suffix.lower() in SUFFIXES else path.name
        return _volume(one, path, named, progress)


def read_series(folder: PathLike, series: str | int | None = None, progress: Progress | None = None) -> Volume:
    """Read a series from a folder and the folders in it, slices ordered by their position along the slice normal.

    Files that are not DICOM are passed over; names and suffixes do not matter. Images of other direction, size or
    pixel spacing (localisers), and several images at one position (time points, echoes), count as series of their
    own.

    Parameters
    ----------
    folder : str or path
    series : str or int, optional
        Number as in ``list_series``, or Series Instance UID; needed where there are several.
    progress : callable(done, total, words), optional
        As for ``read``.

    Raises
    ------
    InputError
        If the folder holds no image, or several series and none was chosen.
    """
    folder = existing(folder)
    with reading(folder, "a folder with DICOM images"):
        found = find(folder, progress)
        if not found.frames:
            _raise_for(found, folder)
            raise InputError(
                f"The folder '{folder.name}' holds no DICOM image. Open a folder that holds the files of a series, "
                "or one file."
            )
        one = chosen(sort_out(found.frames), series, folder.name)
        if len({frame.path for frame in one.frames}) == 1:
            path = one.frames[0].path
            named = path.stem if path.suffix.lower() in SUFFIXES else path.name
        else:
            named = one.frames[0].description or folder.name
        volume = _volume(one, folder, named, progress)
    places = {frame.path.parent for frame in one.frames}
    near = [error for path, error in found.errors.items() if path.parent in places]
    if near:
        what = "1 file cannot be read and was" if len(near) == 1 else f"{len(near)} files cannot be read and were"
        volume.metadata["messages"].append(f"{what} passed over: {near[0]}")
    return volume


def list_series(path: PathLike, progress: Progress | None = None) -> list[SeriesInfo]:
    """Return the series in a folder, or the volumes in a file; nothing about the patient.

    Raises
    ------
    InputError
        If there is nothing at ``path``, or it cannot be read.
    """
    path = _opened(path)
    with reading(path, WHAT):
        if path.is_dir():
            found = find(path, progress)
            _raise_for(found, path)
            series = sort_out(found.frames)
        elif _is_segmentation(path):
            return []
        else:
            series = _in_file(path)
    return [one.info(number) for number, one in enumerate(series, start=1)]


def _raise_for(found: Found, folder: Path) -> None:
    """Raise what is wrong with a folder in which no image can be read."""
    if found.frames or not found.errors:
        return
    count, first = len(found.errors), next(iter(found.errors.values()))
    if count == 1:
        raise first
    raise InputError(f"None of the {count} DICOM files in '{folder.name}' can be read; the first: {first}")


def _opened(path: PathLike) -> Path:
    """Return what is meant: whoever opens the table of contents of an export wants what lies beside it."""
    found = existing(path)
    return found.parent if found.name.upper() == "DICOMDIR" and found.is_file() else found


def _in_file(path: Path) -> list[Series]:
    with path.open("rb") as file:
        header = load(file)
        stored = stored_in(file, header) if "Rows" in header and "Columns" in header else None
    if stored is None:
        header = load(path, pixels=True)
    check_scan(header, path, pixels=stored is not None)
    return sort_out(frames_of(path, header, stored))


def _is_segmentation(path: Path) -> bool:
    return str(load(path, ["SOPClassUID"]).get("SOPClassUID", "")) in SEGMENTATIONS


def _volume(one: Series, source: Path, name: str, progress: Progress | None) -> Volume:
    frames = one.frames
    header = load(frames[0].path)
    affine, unit, order, messages = _grid(frames, header)
    frames = [frames[index] for index in order]
    read_frames = _fast if all(frame.stored is not None for frame in frames) else _decoded
    data = read_frames(frames, progress)
    metadata: dict[str, Any] = {"source_path": str(source), "messages": [*one.messages, *messages]}
    if one.part:
        metadata["series"] = one.part
    if frames[0].slice is None and len(frames) > 1 and _is_film(header):
        metadata["stack_axis"] = "t"
    metadata["dicom"] = _identity(header) | {
        "slices": [{"file": str(frame.path.absolute()), "uid": frame.uid, "frame": frame.index + 1} for frame in frames]
    }
    return Volume(data=data, affine=affine, unit=unit, name=name, metadata=metadata)


def _fast(frames: list[Frame], progress: Progress | None) -> Array:
    """Read uncompressed values straight into place, (1, Z, Y, X)."""
    kinds = sorted({frame.stored.dtype for frame in frames if frame.stored is not None})
    if len(kinds) > 1:
        return _decoded(frames, progress)
    out = np.empty((len(frames), *frames[0].size), dtype=kinds[0])

    def fill(z: int) -> tuple[int, int]:
        stored = frames[z].stored
        assert stored is not None
        try:
            return read_stored(frames[z].path, stored, out[z])
        except Exception as error:
            raise as_input_error(error, frames[z].path, WHAT) from error

    spans = list(in_threads(fill, range(len(frames)), progress, "slice"))
    pairs = [frame.stored.rescale for frame in frames if frame.stored is not None]
    span = min(low for low, _ in spans), max(high for _, high in spans)
    return rescaled(out, pairs, span)[None]


def _decoded(frames: list[Frame], progress: Progress | None) -> Array:
    """Decode files one by one in threads and put their frames in place, (C, Z, Y, X)."""
    places: dict[Path, list[int]] = {}
    for z, frame in enumerate(frames):
        places.setdefault(frame.path, []).append(z)
    out: Array | None = None
    for path, pixels in zip(places, in_threads(_file_pixels, list(places), progress, "file"), strict=True):
        if out is None:
            out = np.empty((pixels.shape[0], len(frames), *pixels.shape[2:]), dtype=pixels.dtype)
        if pixels.shape[::2] != out.shape[::2] or pixels.shape[3] != out.shape[3]:
            raise InputError(f"'{path.name}' has other channels or another size than the rest. Keep one kind of image.")
        if np.result_type(out, pixels) != out.dtype:
            out = out.astype(np.result_type(out, pixels))
        for z in places[path]:
            out[:, z] = pixels[:, frames[z].index]
    assert out is not None
    return out


def _file_pixels(path: Path) -> Array:
    try:
        dataset = load(path, pixels=True)
        check_scan(dataset, path)
        return pixels_of(dataset, path.name)
    except Exception as error:
        raise as_input_error(error, path, WHAT) from error


def _grid(frames: list[Frame], header: Any) -> tuple[npt.NDArray[np.float64], Unit, Sequence[int], list[str]]:
    planes = [frame.slice for frame in frames if frame.slice is not None]
    if len(planes) == len(frames) > 1:
        affine, order, messages = stack_affine(planes)
        return affine, "mm", order, messages
    affine, unit, messages = _plane_grid(header)
    if len(frames) == 1 or frames[0].count > 1:
        return affine, unit, range(len(frames)), messages
    order = sorted(range(len(frames)), key=lambda i: (frames[i].number, frames[i].path.name))
    messages.append("The files give no position; slices are in the order of their instance numbers.")
    return affine, unit, order, messages


def _is_film(header: Any) -> bool:
    """Return whether frames without positions follow each other in time."""
    return any(header.get(name) for name in ("FrameTime", "FrameTimeVector", "CineRate"))


def _plane_grid(dataset: Any) -> tuple[npt.NDArray[np.float64], Unit, list[str]]:
    """Return the affine of one slice, or of frames that give no positions of their own."""
    plane = plane_in(dataset) or plane_of(dataset, 0)
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


def _identity(dataset: Any) -> dict[str, Any]:
    """Return what results must refer to, without anything about the patient."""
    names = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality")
    return {name: str(dataset.get(name, "")) for name in names}
