"""Affines from what DICOM headers say about planes and ultrasound regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

_UNEVEN = 0.05
_SAME_PLACE_MM = 1e-3
_TILT_DEGREES = 0.5
_PLACES = 4


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
    def of(cls, place: Mapping[str, Sequence[float]]) -> Slice | None:
        """Return the slice that the values of four elements describe, or None where they do not say enough.

        Parameters
        ----------
        place : mapping of str to numbers
            ImagePositionPatient, ImageOrientationPatient, PixelSpacing and, if there, SliceThickness.
        """
        names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        position, cosines, spacing = (np.array(place.get(name, ()), dtype=np.float64) for name in names)
        if position.shape != (3,) or cosines.shape != (6,) or spacing.shape != (2,) or spacing.min() <= 0:
            return None
        if not np.isfinite([*position, *cosines, *spacing]).all():
            return None
        if np.linalg.norm(np.cross(cosines[:3], cosines[3:])) < 0.5:
            return None
        thickness = abs(next(iter(place.get("SliceThickness", ())), 0.0))
        return cls(position, cosines[:3], cosines[3:], (float(spacing[0]), float(spacing[1])), thickness)

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


def parallel(a: Slice, b: Slice) -> bool:
    """Return whether two slices have the same direction and pixel spacing, so that one stack can hold both."""
    turned = max(np.abs(a.along_x - b.along_x).max(), np.abs(a.along_y - b.along_y).max())
    return bool(turned < 1e-3 and np.allclose(a.spacing, b.spacing, rtol=1e-3))


def levels(planes: Sequence[Slice]) -> list[int]:
    """Return for each of parallel slices the number of its position along the normal, equal for equal positions."""
    depth = _depth(planes)
    order = np.argsort(depth, kind="stable")
    gaps = np.diff(depth[order])
    apart = gaps[gaps > _SAME_PLACE_MM]
    new = gaps > max(_SAME_PLACE_MM, 0.01 * float(np.median(apart)) if len(apart) else 0.0)
    found = np.zeros(len(planes), dtype=int)
    found[order[1:]] = np.cumsum(new)
    return [int(level) for level in found]


def _depth(planes: Sequence[Slice]) -> Vector:
    return np.asarray(np.stack([plane.origin for plane in planes]) @ planes[0].normal)


def stack_affine(planes: Sequence[Slice]) -> tuple[Matrix, list[int], list[str]]:
    """Order at least two parallel slices, each at its own position, and return (affine, order, messages).

    The step is taken from the positions themselves, so that a tilted gantry gives the sheared grid it has.
    """
    depth = _depth(planes)
    order = [int(index) for index in np.argsort(depth, kind="stable")]
    low, high = planes[order[0]], planes[order[-1]]
    step = (high.origin - low.origin) / (len(planes) - 1)
    messages = [*_about_gaps(depth[order]), *_about_shifts([planes[index] for index in order], step)]
    return _affine(low, step), order, messages


def _about_gaps(depth: Vector) -> list[str]:
    """Say in words where slices are missing or unevenly spaced; ``depth`` in mm, ascending."""
    gaps = np.diff(depth)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    uneven = np.flatnonzero(np.abs(gaps - usual) > _UNEVEN * usual)
    if not len(uneven):
        return []
    mean = f"Measures along the stack use the mean distance, {float(gaps.mean()):.3g} mm."
    steps = np.round(gaps / usual).astype(int)
    holes = [int(z) for z in uneven if steps[z] > 1 and abs(gaps[z] / usual - steps[z]) < 0.15]
    missing = sum(int(steps[z]) - 1 for z in holes)
    if len(holes) < len(uneven) or missing > len(depth):  # more gap than slices: a selection, not a loss
        widest = int(np.argmax(gaps))
        return [
            f"The slices are unevenly spaced, {gaps.min():.3g} to {gaps.max():.3g} mm; the widest gap is between "
            f"slices {widest + 1} and {widest + 2}. {mean}"
        ]
    places = [
        f"{steps[z] - 1} between slices {z + 1} and {z + 2} ({depth[z]:.4g} to {depth[z + 1]:.4g} mm)" for z in holes
    ]
    where = ", ".join(places[:_PLACES]) + (
        f" and at {len(places) - _PLACES} more places" if len(places) > _PLACES else ""
    )
    return [f"{missing} slice{'s are' if missing > 1 else ' is'} probably missing: {where}. {mean}"]


def _about_shifts(planes: Sequence[Slice], step: Vector) -> list[str]:
    """Say in words that the gantry was tilted, or that slices do not lie on one straight line."""
    normal = planes[0].normal
    along = float(step @ normal)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(step - along * normal), along)))
    messages = []
    if tilt > _TILT_DEGREES:
        messages.append(
            f"The gantry was tilted by {tilt:.1f}°: each slice is shifted against the one before, and the grid is "
            "sheared to follow them."
        )
    offsets = np.stack([plane.origin for plane in planes]) - planes[0].origin
    straight = (offsets @ normal)[:, None] * (step / along)
    astray = float(np.linalg.norm(offsets - straight, axis=1).max())
    if astray > max(0.1, 0.5 * min(planes[0].spacing)):
        messages.append(
            f"Some slices are shifted sideways by up to {astray:.2g} mm, which one grid cannot follow: there the "
            "position is off by as much."
        )
    return messages


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
