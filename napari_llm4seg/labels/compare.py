"""Two label maps of one thing held against each other, class by class: Dice, IoU, HD95, surface Dice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.labels.classes import Classes, complete
from napari_llm4seg.labels.cleanup import Box, Hooks
from napari_llm4seg.labels.measure import boxes_of
from napari_llm4seg.metrics import dice, hd95, iou, surface_dice, warm_up
from napari_llm4seg.volume import Unit, Volume

Labels = npt.NDArray[Any]
Matrix = npt.NDArray[np.floating[Any]]

# Largest shift between two grids, in voxels, at which they still are the same one.
_SAME = 1e-3
# Part of the other mask that may be lost outside of the grid without a word.
_LOST = 0.01
_SLAB = 16


@dataclass(frozen=True)
class ClassAgreement:
    """How well two label maps agree on one class.

    Parameters
    ----------
    value, name
    voxels, other_voxels : int
        On the first one's grid.
    dice, iou : float in [0, 1]
    hd95 : float or None
        95th percentile Hausdorff distance in ``unit``; None where only one of the two has the class.
    surface_dice : float in [0, 1]
        Part of both surfaces within ``tolerance`` of the other.
    tolerance : float
        In ``unit``.
    unit : {"mm", "pixel"}
    """

    value: int
    name: str
    voxels: int
    other_voxels: int
    dice: float
    iou: float
    hd95: float | None
    surface_dice: float
    tolerance: float
    unit: Unit

    def hd95_words(self) -> str:
        """Return the distance's number, "–" where there is none."""
        return "–" if self.hd95 is None else f"{self.hd95:.2f}"

    def row(self) -> dict[str, Any]:
        """Return the figures by column, with the unit in the column's name."""
        return {
            "value": self.value,
            "name": self.name,
            "dice": self.dice,
            "iou": self.iou,
            f"hd95_{self.unit}": self.hd95,
            "surface_dice": self.surface_dice,
            f"tolerance_{self.unit}": self.tolerance,
            "other_pixels": self.other_voxels,
        }


@dataclass(frozen=True)
class Comparison:
    """All classes that either label map has, and sentences about how they were brought together."""

    classes: tuple[ClassAgreement, ...]
    messages: tuple[str, ...]


def compare(
    labels: Volume, other: Volume, tolerance: float, classes: Classes | None = None, hooks: Hooks | None = None
) -> Comparison:
    """Compare every class that occurs in either label map; equal values are the same class.

    Parameters
    ----------
    labels, other : Volume of kind "label"
        Of another grid in space, ``other`` is read at the nearest voxel of ``labels``.
    tolerance : float
        For the surface Dice, in the unit of ``labels``, 0 or more.
    classes : tuple of (value, name, colour), optional
        Names; those of the volumes' metadata if not given.
    hooks : Hooks, optional

    Raises
    ------
    InputError
        If the two do not overlap in space, or differ in size and do not say where they lie.
    Cancelled
    """
    if not tolerance >= 0:
        raise InputError(f"The tolerance is {tolerance:g} {labels.unit}; it must be 0 or more.")
    hooks = hooks or Hooks()
    hooks.step(0, 0, "bringing the masks together")
    mine = np.asarray(labels.data[0])
    theirs, messages = onto(other, labels, hooks)
    boxes, other_boxes = boxes_of(mine), boxes_of(theirs)
    present = sorted({*boxes, *other_boxes})
    given = classes
    if given is None:
        given = tuple(
            {item[0]: item for from_ in (other, labels) for item in from_.metadata.get("classes", ())}.values()
        )
    names = {value: name for value, name, _ in complete(given, present)}
    if present:
        hooks.step(0, 1, "loading the metrics")
        warm_up()
        hooks.step(1, 1, "loading the metrics")
    rows = []
    for number, value in enumerate(present):
        hooks.step(number, len(present), names[value])
        box = _around([part[value] for part in (boxes, other_boxes) if value in part], mine.shape)
        rows.append(_agreement(value, names[value], mine[box] == value, theirs[box] == value, labels, tolerance))
    return Comparison(tuple(rows), tuple(messages))


def _agreement(
    value: int, name: str, mine: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_], labels: Volume, tolerance: float
) -> ClassAgreement:
    counts = int(np.count_nonzero(mine)), int(np.count_nonzero(theirs))
    pair, spacing = (mine, theirs), labels.spacing[-2:] if labels.n_slices == 1 else labels.spacing
    if labels.n_slices == 1:  # a 2-D image has no distance along z
        pair = mine[0], theirs[0]
    return ClassAgreement(
        value=value,
        name=name,
        voxels=counts[0],
        other_voxels=counts[1],
        dice=dice(*pair),
        iou=iou(*pair),
        hd95=hd95(*pair, spacing) if all(counts) else None,
        surface_dice=surface_dice(*pair, spacing, tolerance),
        tolerance=tolerance,
        unit=labels.unit,
    )


def _around(boxes: list[Box], shape: tuple[int, ...]) -> Box:
    """Return the box around several, one voxel wider where the array goes on, so that surfaces have an outside."""
    return tuple(
        slice(max(0, min(part.start for part in parts) - 1), min(size, max(part.stop for part in parts) + 1))
        for parts, size in zip(zip(*boxes, strict=True), shape, strict=True)
    )


def onto(other: Volume, grid: Volume, hooks: Hooks | None = None) -> tuple[Labels, list[str]]:
    """Return the labels of ``other`` on the voxels of ``grid``, and sentences about what that took.

    Raises
    ------
    InputError
        As ``compare``.
    Cancelled
    """
    array = np.asarray(other.data[0])
    if grid.unit != "mm" or other.unit != "mm":
        if other.grid != grid.grid:
            raise InputError(
                f"'{other.name}' has {_size(other)} voxels and '{grid.name}' {_size(grid)}, and not both say where "
                "they lie in mm; compare masks of one size."
            )
        return array, []
    relative = np.linalg.inv(other.affine) @ grid.affine
    if other.grid == grid.grid and _shift(relative, grid.grid) < _SAME:
        return array, []
    found = _nearest(array, relative, grid.grid, hooks or Hooks())
    inside = _inside(array, np.linalg.inv(relative), grid.grid)
    if not inside:
        raise InputError(
            f"'{other.name}' lies elsewhere in space than '{grid.name}': nothing of it is inside. "
            "Choose masks of the same scan."
        )
    messages = [f"'{other.name}' has another grid ({_size(other)}): read at the nearest voxels of '{grid.name}'."]
    if inside < 1 - _LOST:
        messages.append(f"{100 * (1 - inside):.0f} % of '{other.name}' lie outside of '{grid.name}' and do not count.")
    return found, messages


def _size(volume: Volume) -> str:
    return " × ".join(str(size) for size in reversed(volume.grid))


def _shift(relative: Matrix, grid: tuple[int, int, int]) -> float:
    """Return how far the farthest corner of the grid is moved, in voxels."""
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in grid], [1], indexing="ij")).reshape(4, -1)
    return float(np.abs((relative @ corners - corners)[:3]).max())


def _nearest(array: Labels, relative: Matrix, grid: tuple[int, int, int], hooks: Hooks) -> Labels:
    """Return ``array`` at the voxels of a grid whose indices ``relative`` maps to its own; 0 outside."""
    from scipy import ndimage

    # A border of background: scipy calls what is less than half a voxel outside of the array outside.
    padded = np.pad(array, 1)
    found = np.zeros(grid, dtype=array.dtype)
    for z in range(0, grid[0], _SLAB):
        hooks.step(z, grid[0], "bringing the masks together")
        ndimage.affine_transform(
            padded,
            relative[:3, :3],
            relative[:3, 3] + relative[:3, 0] * z + 1,
            output=found[z : z + _SLAB],
            output_shape=found[z : z + _SLAB].shape,
            order=0,
            mode="nearest",
        )
    return found


def _inside(array: Labels, back: Matrix, grid: tuple[int, int, int]) -> float:
    """Return which part of the labelled voxels of ``array`` lies on the grid that ``back`` maps its indices to."""
    count = inside = 0
    for z, plane in enumerate(array):
        y, x = np.nonzero(plane)
        if y.size:
            where = back[:3, :3] @ np.stack([np.full(y.shape, z), y, x]) + back[:3, 3:]
            limits = np.array(grid)[:, None] - 0.5
            inside += int(np.count_nonzero(((where >= -0.5 - 1e-6) & (where <= limits + 1e-6)).all(axis=0)))
            count += y.size
    return inside / count if count else 1.0
