"""Linear interpolation along one axis of a grid as a matrix, built once and known from both sides."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def resampling(before: int, after: int, antialias: bool) -> Tensor:
    """Return the (after, before) matrix of linear interpolation between two grids of equal extent.

    Cell edges coincide, as in ``torch.nn.functional.interpolate`` without aligned corners; ``antialias`` widens the
    kernel while shrinking. Every row adds up to 1.
    """
    identity = torch.eye(before)[None, None]
    matrix: Tensor = F.interpolate(identity, (after, before), mode="bilinear", antialias=antialias)[0, 0]
    return matrix


class Band:
    """The rows of ``resampling``, kept without their zeros: along the slices of a long scan the whole would be large.

    Parameters
    ----------
    before, after : int
    antialias : bool
    reverse : bool
        The rows in the opposite order.
    """

    _BLOCK = 256

    def __init__(self, before: int, after: int, antialias: bool, reverse: bool = False) -> None:
        self._columns = np.full((after, 2), (before, 0))  # first and the one after the last
        entries: list[tuple[Tensor, Tensor]] = []
        starts = list(range(0, max(1, before - 1), self._BLOCK))  # no block of one column: torch 2.13 gives zeros then
        for start, stop in zip(starts, [*starts[1:], before], strict=True):
            identity = torch.zeros(before, stop - start)
            identity[start:stop] = torch.eye(stop - start)
            part: Tensor = F.interpolate(
                identity[None, None], (after, stop - start), mode="bilinear", antialias=antialias
            )[0, 0]
            place = part.nonzero()
            entries.append((place + torch.tensor([0, start]), part[place[:, 0], place[:, 1]]))
        where = torch.cat([place for place, _ in entries])
        if reverse:
            where[:, 0] = after - 1 - where[:, 0]
        self._rows, self._at_column = where[:, 0], where[:, 1]
        self._values = torch.cat([values for _, values in entries])
        rows, columns = self._rows.numpy(), self._at_column.numpy()
        np.minimum.at(self._columns[:, 0], rows, columns)
        np.maximum.at(self._columns[:, 1], rows, columns + 1)

    def sources(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first column that rows ``start`` to ``stop`` (exclusive) have, and the one after the last."""
        return int(self._columns[start:stop, 0].min()), int(self._columns[start:stop, 1].max())

    def part(self, start: int, stop: int) -> Tensor:
        """Return rows ``start`` to ``stop`` of their ``sources``."""
        first, last = self.sources(start, stop)
        kept = (self._rows >= start) & (self._rows < stop)
        found = torch.zeros(stop - start, last - first)
        found[self._rows[kept] - start, self._at_column[kept] - first] = self._values[kept]
        return found


def along(values: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """Return ``values`` with ``matrix`` (after, before) applied along ``axis``."""
    applied: Tensor = torch.tensordot(values, matrix, dims=([axis], [1])).movedim(-1, axis)
    return applied
