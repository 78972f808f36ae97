"""Measurements as the dock shows them: short cells, units in the headings. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_llm4seg.gui.views.abstract.measure import Table
from napari_llm4seg.labels.size import number_words

if TYPE_CHECKING:
    from napari_llm4seg.labels.compare import ClassAgreement
    from napari_llm4seg.labels.measure import ClassMeasures


def measures_table(found: tuple[ClassMeasures, ...]) -> Table | None:
    """Return one row per class that is there: size, pieces, intensity, longest diameter; None where none is."""
    found = tuple(item for item in found if item.voxels)
    if not found:
        return None
    unit = "mm" if found[0].unit == "mm" else "px"
    first = found[0]
    size = "mL" if first.volume_ml is not None else "mm²" if first.area_mm2 is not None else "px"
    return Table(
        heading=("Class", size, "n", "Mean ± sd", f"Ø {unit}"),
        tooltips=(
            "The class and its colour",
            "Volume of a stack in mL, area of one slice in mm²; pixels where the file gives no mm",
            "Number of connected pieces; corners connect",
            "Mean and standard deviation of the scan's values in the class",
            "Longest diameter in space (maximum Feret diameter)",
        ),
        rows=tuple(
            (item.name, _size(item), str(item.components), item.intensity_words(), item.diameter_words())
            for item in found
        ),
        colours=tuple(item.colour for item in found),
    )


def _size(item: ClassMeasures) -> str:
    size = item.volume_ml if item.volume_ml is not None else item.area_mm2
    return str(item.voxels) if size is None else number_words(size)


def agreement_table(found: tuple[ClassAgreement, ...]) -> Table | None:
    """Return one row per class: Dice, IoU, HD95 and surface Dice; None where neither mask has a class."""
    if not found:
        return None
    unit = "mm" if found[0].unit == "mm" else "px"
    return Table(
        heading=("Class", "Dice", "IoU", f"HD95 {unit}", "NSD"),
        tooltips=(
            "The class",
            "Dice coefficient, 0 to 1",
            "Intersection over union, 0 to 1",
            "95th percentile Hausdorff distance of the surfaces; – where one mask lacks the class",
            f"Normalised surface Dice: part of both surfaces within {found[0].tolerance:g} {unit} of the other",
        ),
        rows=tuple(
            (item.name, f"{item.dice:.3f}", f"{item.iou:.3f}", item.hd95_words(), f"{item.surface_dice:.3f}")
            for item in found
        ),
        colours=(),
    )


def summary(found: tuple[ClassMeasures, ...], out_of_date: bool) -> str:
    """Return the largest classes' sizes in a few words: "liver 1423.10 mL, spleen 210.00 mL"."""
    largest = sorted((item for item in found if item.voxels), key=lambda item: -item.voxels)
    said = ", ".join(f"{item.name} {item.size_words()}" for item in largest[:2])
    more = " …" if len(largest) > 2 else ""
    return f"{said or 'nothing'}{more}{', edited since' if out_of_date else ''}"
