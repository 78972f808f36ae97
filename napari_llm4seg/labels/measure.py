"""Size, pieces, intensity and diameter of every class of a label map: one place for figures, columns and units."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import write_text
from napari_llm4seg.labels.classes import Class, Classes, complete
from napari_llm4seg.labels.cleanup import Box, Hooks
from napari_llm4seg.labels.diameter import longest_diameter
from napari_llm4seg.labels.size import Scale, affine_scale, volume_words
from napari_llm4seg.volume import Unit, Volume


@dataclass(frozen=True)
class ClassMeasures:
    """What was measured of one class.

    Parameters
    ----------
    value, name, colour
        The class; colour as "#RRGGBB".
    voxels : int
    components : int
        Connected pieces; corners connect.
    volume_ml, area_mm2 : float or None
        Volume of a stack, area of one slice; None where the grid knows no mm.
    mean, sd : float or None
        Of the scan's values in the class, colour averaged over the channels; sd is that of these voxels (divided by
        their number). None without a scan or without voxels.
    diameter : float or None
        Longest, in ``unit``; see ``napari_llm4seg.labels.diameter``. None without voxels.
    box : tuple of (first, past the last) along (z, y, x), or None
    extent : tuple of float along (z, y, x), or None
        Size of the box along the grid's axes in ``unit``.
    unit : {"mm", "pixel"}
    """

    value: int
    name: str
    colour: str
    voxels: int
    components: int
    volume_ml: float | None
    area_mm2: float | None
    mean: float | None
    sd: float | None
    diameter: float | None
    box: tuple[tuple[int, int], ...] | None
    extent: tuple[float, ...] | None
    unit: Unit

    def size_words(self) -> str:
        """Return the size as a person reads it: "1423.10 mL", "7.5 mm³", "31.4 mm²", "12 pixels"."""
        return size_words(self.row())

    def intensity_words(self) -> str:
        """Return mean and standard deviation of the scan's values, "–" where they are not known."""
        if self.mean is None or self.sd is None:
            return "–"
        # as many digits as the spread leaves a meaning to
        spread = self.sd if self.sd > 0 else max(abs(self.mean), 1.0)
        digits = min(4, max(0, 1 - int(np.floor(np.log10(spread)))))
        return f"{self.mean:.{digits}f} ± {self.sd:.{digits}f}"

    def diameter_words(self) -> str:
        """Return the longest diameter's number, "–" where there is nothing."""
        if self.diameter is None:
            return "–"
        return f"{self.diameter:.1f}" if self.diameter < 100 else f"{self.diameter:.0f}"

    def row(self) -> dict[str, Any]:
        """Return the figures by column, with the unit in the column's name; of sizes the one that the grid has."""
        row: dict[str, Any] = size_row((self.value, self.name, self.colour), self.voxels, self.volume_ml, self.area_mm2)
        row |= {"components": self.components, "mean": self.mean, "sd": self.sd, f"diameter_{self.unit}": self.diameter}
        for at, axis in enumerate("zyx"):
            row[f"box_{axis}_first"] = None if self.box is None else self.box[at][0]
            row[f"box_{axis}_last"] = None if self.box is None else self.box[at][1] - 1
            row[f"extent_{axis}_{self.unit}"] = None if self.extent is None else self.extent[at]
        return row


def size_row(of: Class, voxels: int, volume_ml: float | None, area_mm2: float | None) -> dict[str, Any]:
    """Return value, name, number of pixels and size of a class, under the names that tables and JSON have for them."""
    row: dict[str, Any] = {"value": of[0], "name": of[1], "pixels": voxels}
    if area_mm2 is not None:
        row["area_mm2"] = round(area_mm2, 3)
    if volume_ml is not None:
        row["volume_ml"] = round(volume_ml, 4)
    return row


def sizes(labels: Any, affine: npt.NDArray[np.float64], unit: Unit, classes: Classes) -> list[dict[str, Any]]:
    """Return the ``size_row`` of every class, without measuring more; memory does not grow with the slices.

    Parameters
    ----------
    labels : array (Z, Y, X), numpy or lazy
    affine, unit
        As in ``Volume``.
    classes : tuple of (value, name, colour)
    """
    counts = np.zeros(1 + max((value for value, _, _ in classes), default=0), dtype=np.int64)
    for z in range(labels.shape[0]):
        found = np.bincount(np.asarray(labels[z]).ravel(), minlength=len(counts))
        counts += found[: len(counts)]
    scale = affine_scale(affine, unit, labels.shape[0])
    return [size_row(item, int(counts[item[0]]), *_size(int(counts[item[0]]), scale)) for item in classes]


def size_words(row: Mapping[str, Any]) -> str:
    """Return the size in a row of ``sizes`` as a person says it: "1.25 mL", "12.0 mm²" or "340 pixels"."""
    if "volume_ml" in row:
        return volume_words(1000 * row["volume_ml"])
    if "area_mm2" in row:
        return f"{row['area_mm2']:.1f} mm²"
    return f"{row['pixels']} pixels"


def sizes_words(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows of ``sizes`` as "liver 1423.00 mL, spleen 210.50 mL", or "nothing found"."""
    found = [f"{row['name']} {size_words(row)}" for row in rows if row.get("pixels")]
    return ", ".join(found) or "nothing found"


def _size(voxels: int, scale: Scale) -> tuple[float | None, float | None]:
    """Return (mL, mm²) of so many voxels, one of them or both None."""
    if scale.unit != "mm":
        return None, None
    size = voxels * scale.voxel
    return (size / 1000, None) if scale.ndim == 3 else (None, size)


def measure(
    labels: Volume, scan: Volume | None = None, classes: Classes | None = None, hooks: Hooks | None = None
) -> tuple[ClassMeasures, ...]:
    """Measure every class of a label map, those of no voxel too.

    Parameters
    ----------
    labels : Volume of kind "label"
    scan : Volume, optional
        On the same grid; for mean and standard deviation.
    classes : tuple of (value, name, colour), optional
        Those of the volume's own metadata if not given; a label that is none of them is called "label 7".
    hooks : Hooks, optional
        Counts classes.

    Raises
    ------
    InputError
        Where the scan is of another size.
    Cancelled
    """
    if scan is not None and scan.grid != labels.grid:
        raise InputError(
            f"The scan '{scan.name}' has {_words(scan.grid)} but the mask {_words(labels.grid)}; "
            "measure with the scan that the mask was made on."
        )
    hooks = hooks or Hooks()
    array = labels.data[0]
    boxes = boxes_of(array, hooks)
    known = complete(labels.metadata.get("classes", ()) if classes is None else classes, boxes)
    found = []
    for number, item in enumerate(known):
        hooks.step(number, len(known), item[1])
        found.append(_measure(array, boxes.get(item[0]), item, labels, scan, hooks))
    return tuple(found)


def boxes_of(labels: Any, hooks: Hooks | None = None) -> dict[int, Box]:
    """Return the box around every label above 0, found in one pass slice by slice: the whole may be on disk.

    Parameters
    ----------
    labels : array (Z, Y, X), numpy or lazy
    """
    from scipy import ndimage

    ends: dict[int, list[list[int]]] = {}
    for z in range(labels.shape[0]):
        if hooks is not None:
            hooks.step(z, labels.shape[0], "looking for classes")
        for value, found in enumerate(ndimage.find_objects(np.asarray(labels[z])), 1):
            if found is None:
                continue
            here = [[z, z + 1], *([part.start, part.stop] for part in found)]
            known = ends.setdefault(value, here)
            for axis, (low, high) in enumerate(here):
                known[axis] = [min(known[axis][0], low), max(known[axis][1], high)]
    return {value: tuple(slice(low, high) for low, high in ends[value]) for value in sorted(ends)}


def _measure(
    array: Any, box: Box | None, item: Class, labels: Volume, scan: Volume | None, hooks: Hooks
) -> ClassMeasures:
    from scipy import ndimage

    scale = affine_scale(labels.affine, labels.unit, labels.n_slices)
    if box is None:
        return ClassMeasures(*item, 0, 0, *_size(0, scale), None, None, None, None, None, labels.unit)
    mask = np.asarray(array[box] == item[0])
    voxels = int(np.count_nonzero(mask))
    _, components = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    mean, sd = _intensity(scan, box, mask, hooks) if scan is not None else (None, None)
    axes = [1, 2] if labels.n_slices == 1 else [0, 1, 2]
    steps = labels.affine[:3, axes]
    return ClassMeasures(
        *item,
        voxels,
        components,
        *_size(voxels, scale),
        mean,
        sd,
        longest_diameter(mask[0] if len(axes) == 2 else mask, steps),
        tuple((part.start, part.stop) for part in box),
        tuple(count * step for count, step in zip(mask.shape, labels.spacing, strict=True)),
        labels.unit,
    )


def _intensity(scan: Volume, box: Box, mask: npt.NDArray[np.bool_], hooks: Hooks) -> tuple[float | None, float | None]:
    """Return mean and standard deviation of the scan's finite values, slice by slice so that a lazy scan stays lazy.

    Source: Chan, Golub and LeVeque (1979), the update of mean and squares by a further sample.
    """
    number, mean, squares = 0, 0.0, 0.0
    for values in _slices(scan, box, mask, hooks):
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        here, more = float(values.mean()), values.size
        squares += float(((values - here) ** 2).sum()) + (here - mean) ** 2 * number * more / (number + more)
        mean += (here - mean) * more / (number + more)
        number += more
    return (mean, float(np.sqrt(squares / number))) if number else (None, None)


def _slices(scan: Volume, box: Box, mask: npt.NDArray[np.bool_], hooks: Hooks) -> Iterator[npt.NDArray[np.float64]]:
    for at, z in enumerate(range(box[0].start, box[0].stop)):
        if hooks.cancel is not None:
            Hooks(None, hooks.cancel).step(0, 0, "")
        if mask[at].any():
            plane = np.asarray(scan.data[:, z, box[1], box[2]])
            yield plane[:, mask[at]].mean(axis=0, dtype=np.float64)


def _words(grid: tuple[int, int, int]) -> str:
    return " × ".join(str(size) for size in reversed(grid)) + " voxels"


def joined(rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each class's two rows as one; a class that only one table has keeps what that says."""
    by_value = {row["value"]: dict(row) for row in rows}
    for other in others:
        by_value[other["value"]] = by_value.get(other["value"], {}) | other
    return [by_value[value] for value in sorted(by_value)]


def absent_words(found: Sequence[ClassMeasures]) -> str:
    """Return a sentence about the classes without a voxel, or nothing: tables for people leave them out."""
    names = [item.name for item in found if not item.voxels]
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"Not in the mask: {', '.join(names[:3])}{more}."


def columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the columns of a table of ``rows``, in the order in which they first come."""
    return list(dict.fromkeys(key for row in rows for key in row))


def table_text(rows: Sequence[dict[str, Any]], delimiter: str = ",") -> str:
    """Return ``rows`` as a table with a heading; what is not known is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(rows), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: "" if value is None else value for key, value in row.items()} for row in rows])
    return text.getvalue()


def write_csv(path: str | Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write ``rows`` as CSV, whole or not at all, and return ``path``."""
    write_text(Path(path), table_text(rows))
    return Path(path)
