"""Affines from what DICOM headers say about planes and ultrasound regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_UNEVEN = 0.05


@dataclass(frozen=True)
class Slice:
    """Where one slice lies in the DICOM patient system (left, posterior, superior), in mm.

    ``along_x`` is the direction in which the column index grows, ``along_y`` that of the row index.
    """

    origin: Vector
    along_x: Vector
    along_y: Vector
    spacing: tuple[float, float]
    thickness: float = 0.0

    @classmethod
    def of(cls, header: Any) -> Slice | None:
        """Return the slice that a header (dataset or mapping) describes, or None where it does not say enough."""
        position, orientation = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
        spacing = header.get("PixelSpacing")
        if not position or not orientation or not spacing:
            return None
        origin, cosines = np.array(position, dtype=np.float64), np.array(orientation, dtype=np.float64)
        if origin.shape != (3,) or cosines.shape != (6,) or len(spacing) != 2 or min(map(float, spacing)) <= 0:
            return None
        if np.linalg.norm(np.cross(cosines[:3], cosines[3:])) < 0.5:
            return None
        thickness = abs(float(header.get("SliceThickness") or 0))
        return cls(origin, cosines[:3], cosines[3:], (float(spacing[0]), float(spacing[1])), thickness)

    @property
    def normal(self) -> Vector:
        cross = np.cross(self.along_x, self.along_y)
        return np.asarray(cross / np.linalg.norm(cross))


def plane_affine(plane: Slice, step: float) -> Matrix:
    """Return the affine of slices ``step`` mm apart along the normal, the first one at ``plane``."""
    return _affine(plane, plane.normal * step)


def _affine(plane: Slice, step: Vector) -> Matrix:
    """Fill a (z, y, x) to (superior, posterior, left) affine from vectors in (left, posterior, superior)."""
    down, across = plane.spacing
    affine = np.eye(4)
    for column, vector in enumerate((step, plane.along_y * down, plane.along_x * across, plane.origin)):
        affine[:3, column] = vector[::-1]
    return affine


def stack_affine(planes: Sequence[Slice], name: str) -> tuple[Matrix, list[int], list[str]]:
    """Order parallel slices along their normal and return (affine, order, messages).

    The step is taken from the positions themselves, so that a tilted gantry gives the sheared grid it has.

    Raises
    ------
    InputError
        If the slices differ in direction or pixel spacing, or two lie at one place.
    """
    first = planes[0]
    for plane in planes:
        turned = max(np.abs(plane.along_x - first.along_x).max(), np.abs(plane.along_y - first.along_y).max())
        if turned > 1e-3 or not np.allclose(plane.spacing, first.spacing, rtol=1e-3):
            raise InputError(
                f"The slices of '{name}' differ in direction or pixel spacing (a localiser among them?). "
                "Keep only parallel slices of one kind."
            )
    depth = np.array([float(plane.origin @ first.normal) for plane in planes])
    order = [int(index) for index in np.argsort(depth, kind="stable")]
    gaps = np.diff(depth[order])
    typical = float(np.median(gaps))
    if gaps.min() < 1e-3 or gaps.min() < 0.01 * typical:
        raise InputError(
            f"'{name}' has several slices at one position (time points, phases or echoes?). "
            "Put the slices of one of them into a folder of their own."
        )
    messages: list[str] = []
    if gaps.max() - gaps.min() > _UNEVEN * typical:
        messages.append(
            f"The slices are unevenly spaced, {gaps.min():.3g} to {gaps.max():.3g} mm: one may be missing. "
            "Measures along the stack use the mean distance."
        )
    low, high = planes[order[0]], planes[order[-1]]
    return _affine(low, (high.origin - low.origin) / (len(planes) - 1)), order, messages


def ultrasound_spacing(header: Any) -> tuple[float, float] | None:
    """Return the (row, column) spacing in mm of the largest two-dimensional ultrasound region, if one is given in cm.

    Source: DICOM PS3.3 C.8.5.5, US Region Calibration; spatial format 1 is 2D, unit 3 is cm.
    """
    best: tuple[float, float] | None = None
    largest = 0.0
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
        down, across = region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX")
        if units != (3, 3) or region.get("RegionSpatialFormat") != 1 or not down or not across:
            continue
        width = float(region.get("RegionLocationMaxX1") or 0) - float(region.get("RegionLocationMinX0") or 0)
        height = float(region.get("RegionLocationMaxY1") or 0) - float(region.get("RegionLocationMinY0") or 0)
        if width * height > largest:
            largest, best = width * height, (abs(float(down)) * 10, abs(float(across)) * 10)
    return best
