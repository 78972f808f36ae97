"""Patches of a volume in layers, blended plane by plane: planes that are done with leave memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_llm4seg.tiling import Blend, Float, Tiling, tile_starts

Planes = tuple[int, int]
Infer = Callable[[Float, int], Float]


class Layers:
    """The patches of one volume, those of one depth along ``axis`` together, and what they add up to.

    The weighted sums are those of a ``Blend`` over the whole volume; only the planes that some layer still lies over,
    or that nobody has taken yet, are kept.

    Parameters
    ----------
    shape : (D, H, W)
        The network's grid in voxels.
    patch : (d, h, w)
    overlap : float in [0, 1)
    axis : int
        Along which layers follow one another.
    channels : int
        Of the network's answer.

    Attributes
    ----------
    tiling : Tiling
        The patches of one layer.
    """

    def __init__(
        self, shape: tuple[int, int, int], patch: tuple[int, int, int], overlap: float, axis: int, channels: int
    ) -> None:
        self._axis, self._length, self._channels = axis, shape[axis], channels
        self._thick = min(shape[axis], patch[axis])
        thick = (*shape[:axis], self._thick, *shape[axis + 1 :])
        self.tiling = Tiling(thick, patch, overlap)
        self.all: list[Planes] = [
            (start, start + self._thick) for start in tile_starts(max(self._length, patch[axis]), patch[axis], overlap)
        ]
        self._open: dict[int, tuple[Float, Float]] = {}

    def run(self, layer: Planes, planes: Float, infer: Infer, at_once: Callable[[], int]) -> None:
        """Run the patches of ``layer`` and add what they say.

        Parameters
        ----------
        layer : (start, stop)
            One of ``all``.
        planes : array (C, D, H, W)
            The network's input there.
        infer : callable(tiles (n, C, *patch), n) -> array (n, channels, *patch)
        at_once : callable -> int
            How many patches to run together, asked before each time.
        """
        padded = self.tiling.pad(planes)
        blend = Blend(self.tiling, self._channels)
        done = 0
        while done < len(self.tiling):
            numbers = range(done, min(done + at_once(), len(self.tiling)))
            blend.add(numbers, infer(self.tiling.tiles(padded, numbers), len(numbers)))
            done += len(numbers)
        self._add(layer, blend)

    def _add(self, layer: Planes, blend: Blend) -> None:
        total, weight = blend.sums()
        for plane in range(*layer):
            values = np.take(total, plane - layer[0], axis=1 + self._axis)
            weights = np.take(weight, plane - layer[0], axis=self._axis)
            if plane in self._open:
                self._open[plane][0][:] += values
                self._open[plane][1][:] += weights
            else:
                self._open[plane] = values, weights

    def result(self, planes: slice) -> Float:
        """Return the blend (channels, D, H, W) of ``planes`` along the axis; every layer over them must have run."""
        found = [self._open[plane] for plane in range(planes.start, planes.stop)]
        return np.stack([values / weights for values, weights in found], axis=1 + self._axis)

    def forget(self, planes: set[int]) -> None:
        """Leave the sums of ``planes`` go."""
        for plane in planes:
            self._open.pop(plane, None)
