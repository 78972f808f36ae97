"""Overlapping tiles over a slice of any size, blended with Gaussian weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]


def tile_starts(length: int, patch: int, overlap: float) -> list[int]:
    """Return where tiles of ``patch`` begin so that they cover ``length`` evenly.

    Parameters
    ----------
    length : int
        Pixels to cover, at least ``patch``.
    patch : int
        Pixels of one tile.
    overlap : float in [0, 1)
        Least part of a tile shared with the next one.

    Returns
    -------
    list of int
        Ascending, the first 0 and the last ``length - patch``.
    """
    if length <= patch:
        return [0]
    step = max(1, int(patch * (1.0 - overlap)))
    count = math.ceil((length - patch) / step) + 1
    return [round(index * (length - patch) / (count - 1)) for index in range(count)]


def gaussian_weights(patch: tuple[int, int], sigma: float = 0.125) -> Float:
    """Return weights (h, w) in (0, 1]: 1 near the centre, falling off with ``sigma`` as a fraction of the side.

    A floor of 1e-3 keeps every pixel of a tile in play: corners of the scan are seen by one tile alone.
    """
    axes = []
    for side in patch:
        centre = (side - 1) / 2.0
        axes.append(np.exp(-0.5 * ((np.arange(side) - centre) / max(sigma * side, 1e-6)) ** 2))
    weights = np.outer(*axes)
    floored: Float = np.maximum(weights / weights.max(), 1e-3).astype(np.float32)
    return floored


@dataclass(frozen=True)
class Tiling:
    """The tiles of one slice.

    Parameters
    ----------
    shape : (Y, X)
        The slice, in pixels; at least 1 x 1.
    patch : (h, w)
        The network's input, in pixels. A slice smaller than it is padded by reflection, evenly on both sides.
    overlap : float in [0, 1)
        Least part of a tile shared with the next one.
    """

    shape: tuple[int, int]
    patch: tuple[int, int]
    overlap: float = 0.5

    @cached_property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pixels added (before, after) along Y and X."""
        missing = [max(0, side - size) for size, side in zip(self.shape, self.patch, strict=True)]
        (top, bottom), (left, right) = [(gap // 2, gap - gap // 2) for gap in missing]
        return (top, bottom), (left, right)

    @cached_property
    def corners(self) -> list[tuple[int, int]]:
        """Upper left corner (y, x) of every tile on the padded slice, row by row."""
        rows, columns = (
            tile_starts(max(size, side), side, self.overlap) for size, side in zip(self.shape, self.patch, strict=True)
        )
        return [(y, x) for y in rows for x in columns]

    def __len__(self) -> int:
        return len(self.corners)

    def pad(self, image: Float) -> Float:
        """Return ``image`` (C, Y, X) padded to at least one patch."""
        # numpy reflects repeatedly where the padding exceeds the image and repeats a single pixel.
        return np.pad(image, ((0, 0), *self.padding), mode="reflect")

    def tiles(self, padded: Float, first: int, count: int) -> Float:
        """Return ``count`` tiles (n, C, h, w) from number ``first`` of a padded slice."""
        height, width = self.patch
        return np.stack([padded[:, y : y + height, x : x + width] for y, x in self.corners[first : first + count]])


class Blend:
    """Weighted mean of overlapping tiles.

    Parameters
    ----------
    tiling : Tiling
    channels : int
        Channels of the tiles, for instance classes.
    """

    def __init__(self, tiling: Tiling, channels: int) -> None:
        self._tiling = tiling
        self._weights = gaussian_weights(tiling.patch)
        size = tuple(max(a, b) for a, b in zip(tiling.shape, tiling.patch, strict=True))
        self._sum = np.zeros((channels, *size), dtype=np.float32)
        self._weight = np.zeros(size, dtype=np.float32)

    def add(self, first: int, tiles: Float) -> None:
        """Add ``tiles`` (n, channels, h, w), the first of them number ``first`` of the tiling."""
        height, width = self._tiling.patch
        for tile, (y, x) in zip(tiles, self._tiling.corners[first:], strict=False):
            self._sum[:, y : y + height, x : x + width] += self._weights * tile
            self._weight[y : y + height, x : x + width] += self._weights

    def result(self) -> Float:
        """Return the blend (channels, Y, X) on the unpadded slice; every tile must have been added."""
        (top, _), (left, _) = self._tiling.padding
        window = (slice(top, top + self._tiling.shape[0]), slice(left, left + self._tiling.shape[1]))
        blended: Float = self._sum[(slice(None), *window)] / self._weight[window]
        return blended
