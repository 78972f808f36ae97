"""A DICOM series as a person chooses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SeriesInfo:
    """What a person needs to choose a series; nothing about the patient.

    Attributes
    ----------
    number : int
        Place in the list, from 1: what ``read(path, series=...)`` takes.
    uid : str
        Series Instance UID; several entries share it where one series holds time points, echoes or directions.
    description, modality : str
    part : str
        Which part of its series this is, in words, or "".
    slices : int
    size : (rows, columns)
    """

    number: int
    uid: str
    description: str
    modality: str
    part: str
    slices: int
    size: tuple[int, int]

    def __str__(self) -> str:
        """Return it in words: "2: CT, thorax, 120 slices of 512 × 512"."""
        what = f"{self.slices} slices of" if self.slices > 1 else "1 image of"
        named = [self.modality, self.description, self.part]
        return f"{self.number}: " + ", ".join([*filter(None, named), f"{what} {self.size[1]} × {self.size[0]}"])


def largest(found: Sequence[SeriesInfo]) -> int:
    """Return the place of the series with the most slices: what a person most probably wants."""
    return max(range(len(found)), key=lambda index: found[index].slices)
