"""The network's grid of a volume in layers: what is not needed now is not in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.preprocess.resample import Band, along, resampling
from napari_llm4seg.preprocess.scale import Float, Scale
from napari_llm4seg.preprocess.volumes import VolumePreprocessor
from napari_llm4seg.volume import Volume


class VolumeStream:
    """Gives layers of ``VolumePreprocessor.apply``, made from the scan's slices as they are needed.

    Parameters
    ----------
    preprocessor : VolumePreprocessor
    volume : Volume
        Only its place in the world and its grid are looked at.
    scale : Scale
        How its values are mapped.
    read : callable(int) -> array (C, Y, X)
        Gives a slice of the scan.

    Attributes
    ----------
    axis : int
        Axis of the network's grid along which the scan's slices follow one another, and layers are cut.
    """

    def __init__(
        self,
        preprocessor: VolumePreprocessor,
        volume: Volume,
        scale: Scale,
        read: Callable[[int], npt.NDArray[Any]],
    ) -> None:
        self.trace = preprocessor.trace(volume)
        self.axis = self.trace.order.index(0)
        self._preprocessor, self._scale, self._read = preprocessor, scale, read
        antialias, sizes = preprocessor.config.antialias, list(zip(self.trace.upright, self.trace.size, strict=True))
        self._band = Band(*sizes[self.axis], antialias) if sizes[self.axis][0] != sizes[self.axis][1] else None
        self._plane_matrices = [
            None if axis == self.axis or before == after else resampling(before, after, antialias)
            for axis, (before, after) in enumerate(sizes)
        ]
        self._kept: dict[int, Tensor] = {}

    def layer(self, start: int, stop: int) -> Float:
        """Return the planes ``start`` to ``stop`` (exclusive) along ``axis``: (C, D, H, W), float32."""
        first, last = self._sources(start, stop)
        planes = torch.stack([self._plane(number) for number in range(first, last)], dim=1 + self.axis)
        if self._band is not None:
            planes = along(planes, 1 + self.axis, self._band.part(start, stop))
        result: Float = planes.contiguous().numpy()
        return result

    def keep(self, layers: Iterable[tuple[int, int]]) -> None:
        """Forget every slice that none of ``layers``, (start, stop) each, is made of."""
        needed = np.zeros(self.trace.source[0], dtype=bool)
        for start, stop in layers:
            needed[slice(*self._sources(start, stop))] = True
        self._kept = {number: plane for number, plane in self._kept.items() if needed[number]}

    def _sources(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first of the scan's slices, in the network's direction, that these planes mix, and the end."""
        return (start, stop) if self._band is None else self._band.sources(start, stop)

    def _plane(self, number: int) -> Tensor:
        """Return a slice, counted in the network's direction, normalised and with its other two axes resampled."""
        if number not in self._kept:
            z = self.trace.source[0] - 1 - number if self.trace.flipped[self.axis] else number
            values = self._preprocessor.slices.normalise_part(self._read(z), self._scale)
            turned = self.trace.turn(torch.from_numpy(values)[:, None])
            for axis, matrix in enumerate(self._plane_matrices):
                if matrix is not None:
                    turned = along(turned, 1 + axis, matrix)
            self._kept[number] = turned.squeeze(1 + self.axis)
        return self._kept[number]
