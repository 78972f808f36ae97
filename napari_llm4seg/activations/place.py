"""Where a network's input and its tokens lie in a scan, to the half pixel.

Indices count centres: pixel i of an axis covers [i - 0.5, i + 0.5]. Two grids of equal extent with n and m cells meet
at their edges, so cell i of the first is at (i + 0.5) m / n - 0.5 of the second. A token covers as many pixels of the
padded input as the bottleneck's stride; its centre is therefore (k + 0.5) stride - 0.5, half a stride less half a pixel
from the first pixel. Strided convolutions see a little further up and left than max-pooling does; the area that a token
is drawn on is the one that the decoder writes from it, which is the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.activations.recorder import Activations
from napari_llm4seg.errors import InputError
from napari_llm4seg.preprocess import Trace, VolumeTrace
from napari_llm4seg.volume import Volume

Matrix = npt.NDArray[np.float64]


def scaled(before: int, after: int, offset: float = 0.0) -> tuple[float, float]:
    """Return (a, b) of a i + b: cell i of ``after`` cells, counted from ``offset``, on ``before`` of equal extent."""
    scale = before / after
    return scale, (0.5 - offset) * scale - 0.5


def slice_to_scan(trace: Trace, z: int) -> Matrix:
    """Return the (4, 4) map of network pixels (0, row, column, 1) onto voxels (z, y, x, 1) of a slice seen whole."""
    top, left, height, width = trace.box
    matrix = np.eye(4)
    matrix[0, 3] = z
    for axis, (size, inner, first) in enumerate(zip(trace.source, (height, width), (top, left), strict=True), start=1):
        matrix[axis, axis], matrix[axis, 3] = scaled(size, inner, first)
    return matrix


def volume_to_scan(trace: VolumeTrace) -> Matrix:
    """Return the (4, 4) map of the upright, resampled grid's voxels onto those of the scan."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for axis, (source, size) in enumerate(zip(trace.upright, trace.size, strict=True)):
        scale, shift = scaled(source, size)
        if trace.flipped[axis]:
            scale, shift = -scale, source - 1 - shift
        matrix[trace.order[axis], axis], matrix[trace.order[axis], 3] = scale, shift
    return matrix


def moved(matrix: Matrix, corner: Sequence[float]) -> Matrix:
    """Return ``matrix`` for indices counted from ``corner`` (the last two or all three axes)."""
    shift = np.eye(4)
    shift[3 - len(corner) : 3, 3] = corner
    return matrix @ shift


@dataclass(frozen=True, eq=False)
class TokenGrid:
    """The tokens of one forward on the scan.

    Attributes
    ----------
    grid : (h, w) or (d, h, w), cells of the bottleneck
    stride : pixels or voxels of the network's input per cell, for each of these axes
    to_scan : (4, 4), pixels of the network's input onto voxels (z, y, x) of the scan
    affine : (4, 4) of the scan, voxels onto the world
    unit : "mm" or "pixel", of the world
    """

    grid: tuple[int, ...]
    stride: tuple[float, ...]
    to_scan: Matrix
    affine: Matrix
    unit: Any = "pixel"

    @classmethod
    def of(cls, activations: Activations, to_scan: Matrix, scan: Volume) -> TokenGrid:
        """Return the grid of a recorded forward whose input lay in ``scan`` as ``to_scan`` says."""
        sides = zip(activations.padded_grid, activations.grid, strict=True)
        return cls(activations.grid, tuple(full / n for full, n in sides), to_scan, scan.affine, scan.unit)

    def __len__(self) -> int:
        return math.prod(self.grid)

    @property
    def flat(self) -> bool:
        """Whether the tokens are those of one slice."""
        return len(self.grid) == 2

    @property
    def cells_to_scan(self) -> Matrix:
        """(4, 4) map of cells (0 or plane, row, column, 1) onto voxels of the scan."""
        cells = np.eye(4)
        for axis, stride in enumerate(self.stride, start=3 - len(self.grid)):
            cells[axis, axis], cells[axis, 3] = stride, (stride - 1) / 2
        matrix: Matrix = self.to_scan @ cells
        return matrix

    @property
    def cells_to_world(self) -> Matrix:
        """(4, 4) affine of a map with one voxel for each token."""
        matrix: Matrix = self.affine @ self.cells_to_scan
        return matrix

    def token_at(self, position: Sequence[float]) -> int:
        """Return the token that covers a place of the scan.

        Parameters
        ----------
        position : (z, y, x) in voxels of the scan, or (y, x) in its recorded slice

        Raises
        ------
        InputError
            If no token covers it: it lies outside the scan, or of the tile that was recorded.
        """
        full = (self.to_scan[0, 3], *position) if len(position) == 2 and self.flat else tuple(position)
        if len(full) != 3:
            raise InputError(f"A place of {len(full)} numbers came; give (z, y, x), or (y, x) in a slice.")
        token = int(self._tokens(np.asarray([full], dtype=np.float64))[0])
        if token < 0:
            said = ", ".join(f"{value:g}" for value in position)
            raise InputError(f"No token covers ({said}): it lies outside of what was recorded. Record around it.")
        return token

    def token_at_world(self, point: Sequence[float]) -> int:
        """Return the token that covers a place (z, y, x) of the world, as ``token_at`` does."""
        place = np.linalg.inv(self.affine) @ np.asarray([*point, 1.0])
        return self.token_at(tuple(float(value) for value in place[:3]))

    def tokens_of_slice(self, shape: tuple[int, int], z: float) -> npt.NDArray[np.intp]:
        """Return which token covers each pixel (Y, X) of slice ``z`` of the scan; -1 where none does."""
        rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        places = np.stack([np.full_like(rows, z), rows, columns], axis=-1).reshape(-1, 3)
        return self._tokens(places).reshape(shape)

    def tokens_in(self, region: npt.ArrayLike, z: float | None = None) -> tuple[int, ...]:
        """Return the tokens that cover any pixel of ``region`` (Y, X), non-zero inside, drawn on slice ``z``."""
        drawn = np.asarray(region).astype(bool)
        if drawn.ndim != 2:
            raise InputError(f"A region of {drawn.ndim} axes came; draw it on one slice (Y, X).")
        here = self.tokens_of_slice((drawn.shape[0], drawn.shape[1]), self.to_scan[0, 3] if z is None else z)
        return tuple(int(token) for token in np.unique(here[drawn]) if token >= 0)

    def centre(self, token: int) -> tuple[float, float, float]:
        """Return the token's centre in voxels (z, y, x) of the scan."""
        cell = np.unravel_index(token, self.grid)
        z, y, x, _ = self.cells_to_scan @ np.asarray([*(0,) * (3 - len(cell)), *cell, 1.0])
        return float(z), float(y), float(x)

    def _tokens(self, places: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        """Return the token of each place (n, 3), or -1."""
        homogeneous = np.concatenate((places, np.ones((len(places), 1))), axis=1)
        cells = (homogeneous @ np.linalg.inv(self.cells_to_scan).T)[:, :3]
        # half a cell around its centre; a hair so that rounding does not lift a border over
        index = np.floor(cells + 0.5 + 1e-9).astype(np.intp)
        sides = np.asarray((*(1,) * (3 - len(self.grid)), *self.grid))
        inside = ((index >= 0) & (index < sides)).all(axis=1)
        tokens = np.full(len(places), -1, dtype=np.intp)
        tokens[inside] = np.ravel_multi_index(tuple(index[inside].T), tuple(sides))
        return tokens

    def volume(self, values: Any, name: str, **metadata: Any) -> Volume:
        """Return one value for each token as a volume that lies on the scan in the world.

        Parameters
        ----------
        values : array (N,), or (C, N) for several channels
        name : str
        metadata
            Kept with the volume.
        """
        array = np.asarray(values)
        array = array[None] if array.ndim == 1 else array
        grid = (*(1,) * (3 - len(self.grid)), *self.grid)
        if array.shape[1:] != (len(self),):
            raise InputError(f"{array.shape[1:]} values came for {len(self)} tokens.")
        return Volume(
            array.reshape(len(array), *grid), self.cells_to_world, unit=self.unit, name=name, metadata=metadata
        )
