"""DICOM files made for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def made(pixels: np.ndarray, series: str = "1.2.3", **elements: Any) -> Dataset:
    """Return a CT slice (or frames, or colour) with ``elements`` set."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = "1.2", series, "CT"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    if pixels.ndim == 3 and not colour:
        dataset.NumberOfFrames = pixels.shape[0]
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = pixels.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def made_series(folder: Path, shape: tuple[int, int, int], turn: np.ndarray, step: float, seed: int = 0) -> np.ndarray:
    """Save a series whose files are named in random order; return its values along the normal."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-1000, 1000, shape).astype(np.int16)
    names = rng.permutation(shape[0])
    for z in range(shape[0]):
        save(
            made(
                values[z],
                ImageOrientationPatient=[*turn[0], *turn[1]],
                ImagePositionPatient=list(np.array([10.0, -20.0, 30.0]) + z * step * turn[2]),
                PixelSpacing=[0.5, 0.75],
                SliceThickness=1.0,
                InstanceNumber=shape[0] - z,
            ),
            folder / f"{names[z]:04d}",
        )
    return values
