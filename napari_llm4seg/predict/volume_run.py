"""A volume through a three-dimensional network in overlapping, blended patches; slices come as they get whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_llm4seg.predict.postprocess import drop_islands
from napari_llm4seg.predict.run import Float, Run
from napari_llm4seg.preprocess import SliceReader, VolumePreprocessor
from napari_llm4seg.tiling import Blend, Tiling
from napari_llm4seg.volume import Volume

if TYPE_CHECKING:
    from napari_llm4seg.predict.predictor import Predictor


class VolumeRun(Run):
    """A three-dimensional network's prediction.

    Patches run in layers, those around the first slice asked for first, and only those that the asked-for slices need.

    Parameters
    ----------
    preprocessor : VolumePreprocessor
    others
        As in ``Run``.
    """

    def __init__(self, preprocessor: VolumePreprocessor, predictor: Predictor, volume: Volume, *others: Any) -> None:
        super().__init__(preprocessor.notes(volume), predictor, volume, *others)
        self._preprocessor = preprocessor
        trace = preprocessor.trace(volume)
        self._reader = SliceReader(trace)
        self._tiling = Tiling(trace.size, preprocessor.patch, self.config.overlap)
        self._blend = Blend(self._tiling, self._model.out_channels)
        self._planes = {z: self._reader.planes(z) for z in self.order}
        self._numbers = self._patches()

    def _extent(self, number: int) -> tuple[int, int]:
        """Return the first plane of patch ``number`` and the one after its last, along the scan's slices."""
        axis = self._reader.axis
        start = self._tiling.corners[number][axis] - self._tiling.padding[axis][0]
        return start, start + self._tiling.patch[axis]

    def _patches(self) -> list[int]:
        """Return the numbers of the patches to run, in order."""
        needed = np.zeros(self._tiling.shape[self._reader.axis], dtype=bool)
        for planes in self._planes.values():
            needed[planes] = True
        first = self._planes[self.order[0]]

        def distance(number: int) -> int:
            middle: int = sum(self._extent(number)) - first.start - first.stop  # doubled, to stay whole
            return abs(middle)

        touched = [n for n in range(len(self._tiling)) if needed[max(0, self._extent(n)[0]) : self._extent(n)[1]].any()]
        return sorted(touched, key=distance)

    def go(self) -> None:
        """Run the patches; a slice is given once no more patch touches it, or at the end where islands are dropped."""
        self._tell(0)
        padded = self._tiling.pad(self._read())
        open_patches = np.zeros(self._tiling.shape[self._reader.axis], dtype=int)
        for number in self._numbers:
            open_patches[self._covered(number)] += 1
        waiting = list(self.order)
        at_once = self.config.min_area == 0
        done = 0
        while done < len(self._numbers):
            self._check()
            numbers = self._numbers[done : done + self.forward.batch]
            tiles = torch.from_numpy(self._tiling.tiles(padded, numbers))
            self._blend.add(numbers, self.forward.probabilities(tiles).numpy())
            done += len(numbers)
            for number in numbers:
                open_patches[self._covered(number)] -= 1
            if at_once:
                whole = [z for z in waiting if not open_patches[self._planes[z]].any()]
                waiting = [z for z in waiting if z not in whole]
                self._give_all(whole)
            self._tell(done)
        if self.forward.non_finite:
            self.messages.append("In places the network gave no finite value; they count as probability 0.")
        if not at_once:
            self._give_without_islands()

    def _covered(self, number: int) -> slice:
        start, end = self._extent(number)
        return slice(max(0, start), end)

    def _read(self) -> Float:
        """Return the scan on the network's grid; each slice is read once, however lazy its source."""
        read = []
        for z in range(self.volume.n_slices):
            self._check()
            values = self.volume.slice_at(z)
            self.log.add(z, values, alone=False)
            read.append(values)
        values = np.stack(read, axis=1)
        if values.min() == values.max():
            self.messages.append("The scan has the same value everywhere; nothing can be told from it.")
        image, _ = self._preprocessor.apply(self.volume.with_data(values))
        self._check()
        prepared: Float = image.numpy()
        return prepared

    def _slice(self, z: int) -> Float:
        """Return the probabilities (K, Y, X) of slice ``z``, whose patches must have run."""
        part = [slice(0, size) for size in self._tiling.shape]
        part[self._reader.axis] = self._planes[z]
        return self._reader.read(z, torch.from_numpy(self._blend.result(tuple(part))))

    def _give_all(self, slices: list[int]) -> None:
        for z in slices:
            probabilities = self._slice(z)
            self._give(z, self._label(probabilities), probabilities)

    def _give_without_islands(self) -> None:
        for z in self.order:
            self._check()
            self.labels[z] = self._label(self._slice(z))
        kept = drop_islands(self.labels, self.config.min_area)
        for z in self.order:
            self._give(z, kept[z], self._slice(z))

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, len(self._numbers), f"patch {done}/{len(self._numbers)}" if done else "reading")
