"""From a volume to a three-dimensional network's grid, and from its probabilities back to the scan's slices.

The network's grid is upright, its axes running to superior, posterior and left as the world's do, however the scan was
stored; and of one spacing, where the checkpoint asks for it. Both are undone exactly: axes are turned by exchange and
reversal alone, and resampling is a matrix for each axis, built once and known from both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.planes import upright_axes
from napari_llm4seg.preprocess.resample import Band, along, resampling
from napari_llm4seg.preprocess.scale import Float, Scale, Tally, needs_values
from napari_llm4seg.preprocess.slices import Preprocessor
from napari_llm4seg.volume import Volume

Grid = tuple[int, int, int]

# Spacings that differ by less than this fraction are the same: headers round.
_SAME_SPACING = 1e-3


@dataclass(frozen=True)
class VolumeTrace:
    """What ``VolumePreprocessor.apply`` did.

    Attributes
    ----------
    source : (Z, Y, X) of the scan in voxels.
    order : which axis of the scan each axis of the upright grid is.
    flipped : for each axis of the upright grid, whether it runs against the scan's.
    size : (D, H, W) of the network's grid in voxels.
    """

    source: Grid
    order: Grid
    flipped: tuple[bool, bool, bool]
    size: Grid

    @property
    def upright(self) -> Grid:
        """The scan's grid with its axes turned, in voxels."""
        a, b, c = self.order
        return self.source[a], self.source[b], self.source[c]

    def turn(self, array: Tensor) -> Tensor:
        """Return ``array`` (..., Z, Y, X) of the scan with its axes upright."""
        lead = array.ndim - 3
        turned = array.permute(*range(lead), *(lead + axis for axis in self.order))
        return turned.flip([lead + axis for axis in range(3) if self.flipped[axis]])


class VolumePreprocessor:
    """Converts volumes by a ``PreprocessConfig`` with a ``patch``; holds no state of any scan.

    Parameters
    ----------
    config : PreprocessConfig

    Attributes
    ----------
    slices : Preprocessor
        Maps the values, by the same configuration.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        assert config.patch is not None  # CheckpointConfig's own check
        self.config = config
        self.patch: Grid = config.patch
        self.slices = Preprocessor(config)

    def check(self, volume: Volume) -> None:
        """Raise InputError where ``volume`` cannot be segmented at all; costs no voxel access."""
        self.slices.check(volume)

    def notes(self, volume: Volume) -> list[str]:
        """Return sentences about what will be converted, for the person to read."""
        notes = self.slices.notes(volume)
        if volume.n_slices == 1:
            notes.append("This checkpoint was made for volumes; a single slice shows it too little to be trusted.")
        if self.config.spacing is not None and volume.unit != "mm":
            steps = " x ".join(f"{step:g}" for step in self.config.spacing)
            notes.append(
                f"The scan does not say how large its voxels are; they were taken as {steps} mm, the checkpoint's own."
            )
        return notes

    def trace(self, volume: Volume) -> VolumeTrace:
        """Return how the scan's grid lies in the network's."""
        order, flipped = upright_axes(volume)
        source, steps = volume.grid, volume.spacing
        size = [source[axis] for axis in order]
        if self.config.spacing is not None and volume.unit == "mm":
            for axis, wanted in enumerate(self.config.spacing):
                factor = steps[order[axis]] / wanted
                if abs(factor - 1) > _SAME_SPACING:
                    size[axis] = max(1, round(size[axis] * factor))
        return VolumeTrace(source, order, flipped, (size[0], size[1], size[2]))

    def scale(self, volume: Volume, read: Callable[[int], npt.NDArray[Any]]) -> Scale:
        """Return how the volume's values are mapped, reading it once, slice by slice, where that depends on them.

        Parameters
        ----------
        volume : Volume
        read : callable(int) -> array (C, Y, X)
            Gives a slice.
        """
        dtype = np.dtype(volume.data.dtype)
        tally = Tally(self.config, dtype, int(np.prod(volume.grid)))
        if needs_values(self.config, dtype):
            for z in range(volume.n_slices):
                self.slices.tally(tally, read(z))
        return tally.scale()

    def apply(self, volume: Volume) -> tuple[Tensor, VolumeTrace]:
        """Return the whole scan on the network's grid.

        Returns
        -------
        tensor (C, D, H, W), float32, normalised over the volume
        VolumeTrace

        Raises
        ------
        InputError
            If the values are not real numbers or the channels cannot be converted.
        """
        self.check(volume)
        trace = self.trace(volume)
        values = trace.turn(torch.from_numpy(self.slices.normalise(np.asarray(volume.data))))
        for axis, (before, after) in enumerate(zip(trace.upright, trace.size, strict=True)):
            if before != after:
                values = along(values, axis + 1, resampling(before, after, self.config.antialias))
        return values.contiguous(), trace

    def labels_to_grid(self, labels: npt.NDArray[np.integer], trace: VolumeTrace, unknown: int | None = None) -> Tensor:
        """Return labels (Z, Y, X) on the network's grid (D, H, W) as int64, by nearest neighbour.

        Where the nearest is ``unknown``, the next in the same voxel of a coarser grid that is not: the few slices that
        a person has annotated would fall between its voxels otherwise.
        """
        grid = trace.turn(torch.from_numpy(labels.astype(np.int64)))
        for axis, (before, after) in enumerate(zip(trace.upright, trace.size, strict=True)):
            if before != after:
                centres = ((torch.arange(after, dtype=torch.float64) + 0.5) * before / after).long()
                found = grid.index_select(axis, centres)
                if unknown is not None and after < before:
                    _fill(found, grid, axis, centres, unknown)
                grid = found
        return grid.contiguous()


def _fill(found: Tensor, grid: Tensor, axis: int, centres: Tensor, unknown: int) -> None:
    """Put what ``grid`` knows beside the planes ``centres`` along ``axis`` where these, in ``found``, know nothing."""
    before, after = grid.shape[axis], found.shape[axis]
    planes = torch.arange(before)
    cells = ((planes.double() + 0.5) * after / before).long()
    away = (planes - centres[cells]).abs()
    for plane in away.argsort(stable=True).tolist():
        known = grid.select(axis, plane)
        if away[plane] and bool((known != unknown).any()):
            cell = found.select(axis, int(cells[plane]))
            cell.copy_(torch.where(cell == unknown, known, cell))


class SliceReader:
    """Gives probabilities on a network's grid back as slices of the scan, each on its own.

    Parameters
    ----------
    trace : VolumeTrace

    Attributes
    ----------
    axis : int
        Axis of the network's grid along which the scan's slices follow one another.
    """

    def __init__(self, trace: VolumeTrace) -> None:
        self.trace = trace
        self._back = [trace.order.index(axis) for axis in range(3)]
        self.axis = self._back[0]
        down, rows, columns = self._back
        self._down = None
        if trace.size[down] != trace.upright[down]:
            shrinks = trace.upright[down] < trace.size[down]
            self._down = Band(trace.size[down], trace.upright[down], shrinks, trace.flipped[down])
        self._plane = [self._matrix(axis) for axis in (rows, columns)]

    def _matrix(self, axis: int) -> Tensor | None:
        """Return the (scan, network) matrix of an axis of the network's grid; None where nothing is resampled."""
        before, after = self.trace.size[axis], self.trace.upright[axis]
        return None if before == after else resampling(before, after, antialias=after < before)

    def planes(self, z: int) -> slice:
        """Return which planes of the network's grid, along ``axis``, slice ``z`` of the scan is made of."""
        if self._down is None:
            at = self.trace.source[0] - 1 - z if self.trace.flipped[self.axis] else z
            return slice(at, at + 1)
        return slice(*self._down.sources(z, z + 1))

    def read(self, z: int, planes: Tensor) -> Float:
        """Return slice ``z`` of the scan.

        Parameters
        ----------
        z : int
        planes : tensor (K, D, H, W) in [0, 1]
            The network's probabilities, of ``planes(z)`` alone along ``axis``.

        Returns
        -------
        array (K, Y, X), float32 in [0, 1]
        """
        turned = planes.float().permute(0, *(1 + axis for axis in self._back))
        down = self._down
        flat = turned[:, 0] if down is None else torch.tensordot(down.part(z, z + 1)[0], turned, dims=([0], [1]))
        for axis, matrix in enumerate(self._plane, start=1):
            if matrix is not None:
                flat = along(flat, axis, matrix)
        flat = flat.flip([axis for axis in (1, 2) if self.trace.flipped[self._back[axis]]])
        result: Float = flat.clamp(0, 1).contiguous().numpy()
        return result
