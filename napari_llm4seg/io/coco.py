"""COCO annotations of two-dimensional masks: every connected part of a class is an instance.

Source: https://cocodataset.org/#format-data. Outlines run along the pixels' edges, so that they enclose exactly the
labelled pixels; instances with holes, which polygons have no means for, are run-length encoded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import write_text
from napari_llm4seg.io._classes import Named, classes_of, named_classes
from napari_llm4seg.io._files import PathLike
from napari_llm4seg.volume import Prediction, Volume

Mask = npt.NDArray[np.bool_]
Point = tuple[int, int]

# Pixels that touch at a corner belong together.
_TOUCHING = np.ones((3, 3), dtype=np.int_)


def write(path: PathLike, volume: Volume) -> Path:
    """Write the labels of one slice as COCO annotations; see ``write_coco``."""
    return write_coco(path, [(volume, volume)])


def write_coco(path: PathLike, cases: Sequence[tuple[Volume, Prediction | Volume]]) -> Path:
    """Write the masks of several images into one COCO file.

    Categories are the classes by their label values, with names and colours; annotations are polygons along the
    pixels' edges, or uncompressed run lengths where an instance has holes.

    Parameters
    ----------
    path : str or path
        Ends in ``.json``.
    cases : sequence of (scan, labels)
        Images of one slice; their files' names are taken, with folders where names repeat.

    Raises
    ------
    InputError
        If a case is a stack, or the place cannot be written to.
    """
    path = Path(path)
    labelled = [(scan, _labels(scan, result, path.name)) for scan, result in cases]
    names = _file_names([scan for scan, _ in labelled])
    classes: dict[int, Named] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, ((_, labels), name) in enumerate(zip(labelled, names, strict=True), start=1):
        _, height, width = labels.grid
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        found = classes_of(labels)
        classes = {each.value: each for each in found} | classes
        for each in found:
            for instance in instances(np.asarray(labels.data[0, 0]) == each.value):
                about = {"id": len(annotations) + 1, "image_id": number, "category_id": each.value, "iscrowd": 0}
                annotations.append(about | instance)
    categories = [
        {"id": each.value, "name": each.name, "supercategory": "", "color": list(each.rgb)}
        for each in named_classes([(each.value, each.name, each.code) for each in classes.values()])
    ]
    document = {
        "info": {"description": "Segmentations by napari-llm4seg", "version": "1.0"},
        "images": images,
        "categories": categories,
        "annotations": annotations,
    }
    write_text(path, json.dumps(document) + "\n")
    return path


def _labels(scan: Volume, result: Prediction | Volume, name: str) -> Volume:
    labels = result.as_volume() if isinstance(result, Prediction) else result
    if labels.n_slices > 1:
        raise InputError(
            f"'{name}': '{scan.name}' has {labels.n_slices} slices, and COCO annotations are of single images. "
            "Use .nii.gz or .seg.nrrd."
        )
    if labels.kind != "label":
        raise InputError(f"'{name}': COCO annotations hold labels, '{labels.name}' is a scan. Use .tif.")
    return labels


def _file_names(scans: Sequence[Volume]) -> list[str]:
    paths = [Path(str(scan.metadata.get("source_path") or scan.name)) for scan in scans]
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    whole = [str(path.absolute()) for path in paths]
    shared = os.path.commonpath([os.path.dirname(path) for path in whole])
    return [Path(os.path.relpath(path, shared)).as_posix() for path in whole]


def instances(mask: Mask) -> Iterator[dict[str, Any]]:
    """Yield bbox (x, y, width, height), area in pixels and segmentation of every connected part of a mask (Y, X)."""
    from scipy.ndimage import find_objects, label

    parts, _ = label(mask, _TOUCHING)
    for number, (rows, columns) in enumerate(find_objects(parts), start=1):
        part = parts[rows, columns] == number
        corner = columns.start, rows.start
        height, width = part.shape
        outlines = _outlines(part, corner)
        yield {
            "bbox": [corner[0], corner[1], width, height],
            "area": int(part.sum()),
            "segmentation": _runs(parts == number) if outlines is None else outlines,
        }


def _outlines(part: Mask, corner: Point) -> list[list[int]] | None:
    """Return one polygon [x, y, x, y, ...] for each piece that hangs together by edges, or None where it has holes."""
    from scipy.ndimage import label

    pieces, count = label(part)
    polygons = []
    for number in range(1, count + 1):
        loops = outline_loops(pieces == number)
        if len(loops) > 1:
            return None
        polygons.append([value + corner[axis] for point in loops[0] for axis, value in enumerate(point)])
    return polygons


def outline_loops(mask: Mask) -> list[list[Point]]:
    """Return the closed outlines along the pixels' edges, corners (x, y) alone: the mask lies on their right hand.

    At a corner where two labelled pixels touch the outline turns right, so that it stays with its pixel: a mask that
    hangs together by edges and has no holes gives one outline.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (inside & ~padded[:-2, 1:-1], (0, 0), (1, 0)),  # above: to the right
        (inside & ~padded[1:-1, 2:], (1, 0), (0, 1)),  # right: down
        (inside & ~padded[2:, 1:-1], (1, 1), (-1, 0)),  # below: to the left
        (inside & ~padded[1:-1, :-2], (0, 1), (0, -1)),  # left: up
    )
    steps: dict[Point, set[Point]] = {}
    for side, (dx, dy), step in sides:
        rows, columns = np.nonzero(side)
        for x, y in zip((columns + dx).tolist(), (rows + dy).tolist(), strict=True):
            steps.setdefault((x, y), set()).add(step)
    loops = []
    while steps:
        loops.append(_loop(steps))
    return loops


def _loop(steps: dict[Point, set[Point]]) -> list[Point]:
    """Take one closed outline out of the steps that lead on from each point."""
    start = place = min(steps)
    step = first = next(iter(steps[start]))
    corners: list[Point] = []
    while True:
        steps[place].discard(step)
        if not steps[place]:
            del steps[place]
        place = place[0] + step[0], place[1] + step[1]
        if place == start and (place not in steps or (-step[1], step[0]) not in steps[place]):
            break
        right = -step[1], step[0]
        onward = right if right in steps[place] else next(iter(steps[place]))
        if onward != step:
            corners.append(place)
        step = onward
    return corners if step == first else [start, *corners]


def _runs(mask: Mask) -> dict[str, Any]:
    """Return uncompressed run lengths: down the columns, beginning with those outside."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}
