"""What picture formats have no field for, as JSON in a comment of theirs: affine, unit, kind, classes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_llm4seg.io._classes import as_metadata, classes_of
from napari_llm4seg.volume import Kind, Unit, Volume

KEY = "napari_llm4seg"
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True)
class Own:
    """What a file that this package wrote says of itself; whatever is missing or damaged is None or empty."""

    affine: Any = None
    unit: Unit | None = None
    kind: Kind | None = None
    classes: tuple[tuple[int, str, str], ...] = ()

    def onto(self, volume: Volume) -> Volume:
        """Return ``volume`` with all that is known here."""
        label = self.kind == "label" and np.dtype(volume.data.dtype).kind in "ui" and volume.channels == 1
        metadata = {**volume.metadata, "classes": self.classes} if label and self.classes else volume.metadata
        return replace(
            volume,
            affine=volume.affine if self.affine is None else self.affine,
            unit=self.unit or volume.unit,
            kind="label" if label else volume.kind,
            metadata=metadata,
        )


def to_text(volume: Volume) -> str:
    """Return what ``from_text`` reads."""
    own: dict[str, Any] = {"affine": volume.affine.tolist(), "unit": volume.unit, "kind": volume.kind}
    if volume.kind == "label" and (classes := classes_of(volume)):
        own["classes"] = as_metadata(classes)
    return json.dumps(own)


def from_text(text: Any) -> Own:
    """Return what a comment says; what is not ours, or was damaged, says nothing."""
    try:
        found = json.loads(text) if isinstance(text, str) and len(text) < 1 << 22 else {}
    except (ValueError, RecursionError):
        found = {}
    if not isinstance(found, dict):
        return Own()
    return Own(
        affine=_affine(found.get("affine")),
        unit=found["unit"] if found.get("unit") in ("mm", "pixel") else None,
        kind="label" if found.get("kind") == "label" else None,
        classes=_classes(found.get("classes")),
    )


def _affine(value: Any) -> Any:
    try:
        affine = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return affine if affine.shape == (4, 4) else None


def _classes(value: Any) -> tuple[tuple[int, str, str], ...]:
    rows = value if isinstance(value, list) else []
    return tuple(
        (row[0], row[1], row[2])
        for row in rows
        if isinstance(row, list)
        and [type(part) for part in row] == [int, str, str]
        and 0 < row[0] < 65536
        and _COLOUR.fullmatch(row[2])
    )
