"""Which slice comes when, and what its values look like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.digests import joined_digest, voxel_digest
from napari_llm4seg.errors import InputError


def slice_order(n_slices: int, slices: Iterable[int] | None = None, first: int | None = None) -> list[int]:
    """Return the slices to run: ``first``, then outward from it, nearest first.

    Parameters
    ----------
    n_slices : int
        Slices of the scan.
    slices : iterable of int, optional
        Which to run; all by default. Repetitions count once.
    first : int, optional
        What the person is looking at; by default the first of ``slices``.

    Raises
    ------
    InputError
        If a slice does not exist or none is asked for.
    """
    wanted = list(range(n_slices)) if slices is None else [int(z) for z in slices]
    if not wanted:
        raise InputError("No slice was asked for; name at least one.")
    start = wanted[0] if first is None else int(first)
    for z in (*wanted, start):
        if not 0 <= z < n_slices:
            raise InputError(f"Slice {z} does not exist; the scan has slices 0 to {n_slices - 1}.")
    return sorted(set(wanted), key=lambda z: (abs(z - start), z))


class SliceLog:
    """Notes what came in, slice by slice: odd values for the person, digests for the provenance."""

    def __init__(self, n_slices: int) -> None:
        self._n_slices = n_slices
        self._digests: dict[int, bytes] = {}
        self._odd: dict[str, list[int]] = {}

    def add(self, z: int, values: npt.NDArray[Any], alone: bool = True) -> None:
        """Take note of slice ``z`` (C, Y, X), which the network sees ``alone`` or as a part of its volume."""
        self._digests[z] = voxel_digest(values)
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            of = "the slice's" if alone else "the volume's"
            if not finite.any() and alone:
                self.note(z, "no finite value at all; zeros were put in their place")
                return
            if not finite.all():
                self.note(
                    z,
                    f"values that are not numbers or infinite; {of} smallest and largest finite values "
                    "were put in their place",
                )
                values = values[finite]
        if alone and values.min() == values.max():
            self.note(z, "the same value everywhere; nothing can be told from it")

    def note(self, z: int, what: str) -> None:
        """Remember that slice ``z`` has ``what``."""
        self._odd.setdefault(what, []).append(z)

    def sentences(self) -> list[str]:
        """Return one sentence for each kind of oddity."""
        return [f"{self._who(slices)} {what}." for what, slices in self._odd.items()]

    def _who(self, slices: list[int]) -> str:
        if self._n_slices == 1:
            return "The scan has"
        if len(slices) == 1:
            return f"Slice {slices[0]} has"
        some = ", ".join(map(str, sorted(slices)[:5]))
        return f"{len(slices)} slices ({some}{', …' if len(slices) > 5 else ''}) have"

    def digest(self) -> str:
        """Return the sha256 over the slices' own sha256 digests (dtype, shape, bytes), in ascending order."""
        return joined_digest(self._digests)
