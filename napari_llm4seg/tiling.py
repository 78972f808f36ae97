"""Overlapping tiles over a slice or volume of any size, blended with Gaussian weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

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


def gaussian_weights(patch: tuple[int, ...], sigma: float = 0.125) -> Float:
    """Return weights of the patch's shape in (0, 1]: 1 near the centre, falling off with ``sigma`` times the side.

    A floor of 1e-3 keeps every pixel of a tile in play: corners of the scan are seen by one tile alone.
    """
    axes = []
    for side in patch:
        centre = (side - 1) / 2.0
        axes.append(np.exp(-0.5 * ((np.arange(side) - centre) / max(sigma * side, 1e-6)) ** 2))
    weights = reduce(np.multiply.outer, axes)
    floored: Float = np.maximum(weights / weights.max(), 1e-3).astype(np.float32)
    return floored


@dataclass(frozen=True)
class Tiling:
    """The tiles of one slice or volume.

    Parameters
    ----------
    shape : (Y, X) or (Z, Y, X)
        The slice or volume, in pixels or voxels; at least 1 along each axis.
    patch : (h, w) or (d, h, w)
        The network's input. What is smaller is padded by reflection, evenly on both sides.
    overlap : float in [0, 1)
        Least part of a tile shared with the next one, along each axis.
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]
    overlap: float = 0.5

    @cached_property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Pixels added (before, after) along each axis."""
        missing = [max(0, side - size) for size, side in zip(self.shape, self.patch, strict=True)]
        return tuple((gap // 2, gap - gap // 2) for gap in missing)

    @cached_property
    def padded_shape(self) -> tuple[int, ...]:
        return tuple(max(size, side) for size, side in zip(self.shape, self.patch, strict=True))

    @cached_property
    def corners(self) -> list[tuple[int, ...]]:
        """First corner of every tile on the padded grid, the last axis fastest."""
        starts = [
            tile_starts(size, side, self.overlap) for size, side in zip(self.padded_shape, self.patch, strict=True)
        ]
        return list(itertools.product(*starts))

    def __len__(self) -> int:
        return len(self.corners)

    def window(self, number: int) -> tuple[slice, ...]:
        """Return where tile ``number`` lies on the padded grid, with a leading axis for channels."""
        return (slice(None), *(slice(at, at + side) for at, side in zip(self.corners[number], self.patch, strict=True)))

    def pad(self, image: Float) -> Float:
        """Return ``image`` (C, *shape) padded to at least one patch."""
        # numpy reflects repeatedly where the padding exceeds the image and repeats a single pixel.
        return np.pad(image, ((0, 0), *self.padding), mode="reflect")

    def tiles(self, padded: Float, numbers: Sequence[int]) -> Float:
        """Return the tiles (n, C, *patch) of these numbers of a padded slice or volume."""
        return np.stack([padded[self.window(number)] for number in numbers])


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
        self._sum = np.zeros((channels, *tiling.padded_shape), dtype=np.float32)
        self._weight = np.zeros(tiling.padded_shape, dtype=np.float32)

    def add(self, numbers: Sequence[int], tiles: Float) -> None:
        """Add ``tiles`` (n, channels, *patch), which have these numbers."""
        for tile, number in zip(tiles, numbers, strict=True):
            window = self._tiling.window(number)
            self._sum[window] += self._weights * tile
            self._weight[window[1:]] += self._weights

    def result(self, part: tuple[slice, ...] | None = None) -> Float:
        """Return the blend (channels, *part) without its padding; every tile that touches it must have been added.

        Parameters
        ----------
        part : tuple of slice, optional
            A box of the unpadded slice or volume, with explicit ends; all of it by default.
        """
        total, weight = self.sums(part)
        blended: Float = total / weight
        return blended

    def sums(self, part: tuple[slice, ...] | None = None) -> tuple[Float, Float]:
        """Return the weighted sums (channels, *part) and the weights (*part) so far, without the padding."""
        part = part or tuple(slice(0, size) for size in self._tiling.shape)
        window = tuple(
            slice(before + box.start, before + box.stop)
            for box, (before, _) in zip(part, self._tiling.padding, strict=True)
        )
        return self._sum[(slice(None), *window)], self._weight[window]
