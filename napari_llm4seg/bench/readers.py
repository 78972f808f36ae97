"""How long a DICOM series takes to read, beside SimpleITK on the same files in the same process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_llm4seg.bench.figures import BenchError, Figure, Measurement, Say, median

SLICES, SIDE = 500, 512


def measure_readers(say: Say, slices: int = SLICES, side: int = SIDE, repeats: int = 5) -> Measurement:
    """Read a made CT series with both, in turn, after one round that warms imports and the page cache.

    Raises
    ------
    BenchError
        If the two do not find the same values at the same places.
    """
    with tempfile.TemporaryDirectory(prefix="llm4seg-bench-") as name:
        folder = Path(name)
        make_series(folder, slices, side)
        _check_equal(folder)
        ours, theirs = [], []
        for _ in range(repeats):
            ours.append(_seconds(lambda: _read(folder)))
            theirs.append(_seconds(lambda: _read_simpleitk(folder)))
    ratio = median(ours) / median(theirs)
    say(f"readers: {slices} DICOM slices in {median(ours):.2f} s, SimpleITK {median(theirs):.2f} s")
    return Measurement(
        {"read_series_to_simpleitk": Figure(ratio, "times SimpleITK's time", 1.5)},
        {"read_series_runs_s": ours, "read_series_simpleitk_runs_s": theirs, "read_series_slices": slices},
    )


def make_series(folder: Path, slices: int, side: int) -> None:
    """Write an uncompressed CT series of ``side`` x ``side`` pixels, the file names in no order."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    rng = np.random.default_rng(0)
    values = rng.integers(0, 2000, (side, side)).astype(np.int16)
    names = rng.permutation(slices)
    series = generate_uid()
    for z in range(slices):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = series + ".1", series, "CT"
        dataset.SeriesDescription, dataset.InstanceNumber = "made for timing", z + 1
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-180, -180, 1.5 * z]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1.5
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.Rows = dataset.Columns = side
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.PixelData = (values + z).astype(np.int16).tobytes()
        dataset.save_as(folder / f"{names[z]:05d}", enforce_file_format=True)


def _check_equal(folder: Path) -> None:
    volume, image = _read(folder), _read_simpleitk(folder)
    import SimpleITK as sitk

    corner = tuple(int(length) - 1 for length in image.GetSize())
    place = image.TransformIndexToPhysicalPoint(corner)[::-1]
    same = np.array_equal(volume.data[0], sitk.GetArrayViewFromImage(image))
    if not same or not np.allclose((volume.affine @ (*corner[::-1], 1.0))[:3], place, atol=1e-3):
        raise BenchError("SimpleITK reads other values, or at other places, from the made series.")


def _read(folder: Path) -> Any:
    from napari_llm4seg.io import read

    return read(folder)


def _read_simpleitk(folder: Path) -> Any:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    result = work()
    taken = time.perf_counter() - started
    del result
    return taken
