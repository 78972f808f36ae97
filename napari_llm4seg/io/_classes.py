"""Names and colours of label values, as every format that can hold them needs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from napari_llm4seg.config import CLASS_COLOURS
from napari_llm4seg.volume import Volume


class Named(NamedTuple):
    """One label value: its name, free of line breaks, and its colour (red, green, blue), each 0 to 255."""

    value: int
    name: str
    rgb: tuple[int, int, int]

    @property
    def code(self) -> str:
        """The colour as "#RRGGBB"."""
        return "#{:02X}{:02X}{:02X}".format(*self.rgb)

    @property
    def fractions(self) -> tuple[float, float, float]:
        """The colour as shares of 1."""
        red, green, blue = (part / 255 for part in self.rgb)
        return red, green, blue


def named_classes(classes: Iterable[Any], present: Iterable[int] = ()) -> list[Named]:
    """Return the classes by ascending value, and a name and colour for every value present that has none.

    Parameters
    ----------
    classes : iterable of (value, name, "#RRGGBB")
    present : iterable of int
        Label values that occur; 0 is background and left out.
    """
    found = {int(value): Named(int(value), _line(name), rgb_of(colour)) for value, name, colour in classes}
    for value in {int(value) for value in present} - {0}:
        if value not in found:
            colour = CLASS_COLOURS[(value - 1) % len(CLASS_COLOURS)]
            found[value] = Named(value, f"label {value}", rgb_of(colour))
    return [found[value] for value in sorted(found)]


def classes_of(volume: Volume) -> list[Named]:
    """Return the classes of a volume of labels: those its metadata names, and what else occurs in it."""
    present: set[int] = set()
    for z in range(volume.n_slices):  # slice by slice: the whole may be lazy and larger than memory
        present.update(int(value) for value in np.unique(volume.slice_at(z)))
    return named_classes(volume.metadata.get("classes") or (), present)


def as_metadata(classes: Iterable[Named]) -> tuple[tuple[int, str, str], ...]:
    """Return classes as ``Volume.metadata["classes"]`` holds them: (value, name, "#RRGGBB")."""
    return tuple((each.value, each.name, each.code) for each in classes)


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Return "#RRGGBB" as (red, green, blue)."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def code_of(red: float, green: float, blue: float) -> str:
    """Return shares of 1 as "#RRGGBB"; what lies outside of 0 to 1 is clipped."""
    return "#{:02X}{:02X}{:02X}".format(*(round(255 * min(max(part, 0.0), 1.0)) for part in (red, green, blue)))


def _line(name: object) -> str:
    return " ".join(str(name).split()) or "unnamed"
