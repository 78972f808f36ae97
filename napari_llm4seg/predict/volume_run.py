"""A volume through a three-dimensional network in overlapping, blended patches; slices come as they get whole.

Only the layers of patches around the slices in work are in memory: neither the scan nor the blend ever whole. A scan on
disk is read once, or twice where the checkpoint's intensity rule needs the values of the whole volume first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_llm4seg.planes import at
from napari_llm4seg.predict.layers import Layers, Planes
from napari_llm4seg.predict.postprocess import without_islands
from napari_llm4seg.predict.run import Float, Run
from napari_llm4seg.predict.slabs import LabelSink, SliceSource
from napari_llm4seg.preprocess import Scale, SliceReader, VolumePreprocessor, VolumeStream
from napari_llm4seg.scratch import room
from napari_llm4seg.volume import Volume

if TYPE_CHECKING:
    from napari_llm4seg.predict.predictor import Predictor

# Slices read between two words of progress.
_TOLD_EVERY = 16


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
        self._layers = Layers(
            trace.size, preprocessor.patch, self.config.overlap, self._reader.axis, self._model.out_channels
        )
        self._planes = {z: self._reader.planes(z) for z in self.order}
        self._order = self._needed()
        self._read_before: set[int] = set()
        self._range: tuple[Any, Any] | None = None
        self._done, self._total = 0, len(self._order) * len(self._layers.tiling)
        # islands are known when the last slice is: until then the probabilities wait, for whoever wants them
        self._late = self.config.min_area * float(np.prod(volume.grid)) > 1
        self._held = self.probabilities
        if self._late and self._held is None and self._on_slice is not None:
            self._held = room((self._model.out_channels, *volume.grid), np.float16)

    def _needed(self) -> list[Planes]:
        """Return the layers to run, in order."""
        needed = np.zeros(self._reader.trace.size[self._reader.axis], dtype=bool)
        for planes in self._planes.values():
            needed[planes] = True
        first = self._planes[self.order[0]]

        def distance(layer: Planes) -> int:
            middle: int = sum(layer) - first.start - first.stop  # doubled, to stay whole
            return abs(middle)

        return sorted((layer for layer in self._layers.all if needed[slice(*layer)].any()), key=distance)

    def go(self) -> None:
        """Run the layers; a slice is given once no more layer touches it, or at the end where islands are dropped."""
        self._tell()
        stream = VolumeStream(self._preprocessor, self.volume, self._scale(), self._read)
        covered = np.zeros(self._reader.trace.size[self._reader.axis], dtype=int)
        for layer in self._order:
            covered[slice(*layer)] += 1
        waiting = list(self.order)
        for number, layer in enumerate(self._order):
            self._layers.run(layer, stream.layer(*layer), self._infer, lambda: self.forward.batch)
            stream.keep(self._order[number + 1 :])
            covered[slice(*layer)] -= 1
            finished = [z for z in waiting if not covered[self._planes[z]].any()]
            waiting = [z for z in waiting if z not in finished]
            for z in finished:
                self._finish(z)
            self._forget(layer, waiting)
        if self.forward.non_finite:
            self.messages.append("In places the network gave no finite value; they count as probability 0.")
        whole_read = len(self._read_before) == self.volume.n_slices
        if whole_read and self._range is not None and self._range[0] == self._range[1]:
            self.messages.append("The scan has the same value everywhere; nothing can be told from it.")
        if self._late:
            self._give_without_islands()

    def _infer(self, tiles: Float, count: int) -> Float:
        self._check()
        found: Float = self.forward.probabilities(torch.from_numpy(tiles)).numpy()
        self._done += count
        self._tell()
        return found

    def _read(self, z: int) -> npt.NDArray[Any]:
        """Return slice ``z`` of the scan, taking note of it when it comes for the first time."""
        self._check()
        values = self.source.read(z)
        if z not in self._read_before:
            self._read_before.add(z)
            self.log.add(z, values, alone=False)
            low, high = values.min(), values.max()
            known = self._range or (low, high)
            self._range = np.minimum(known[0], low), np.maximum(known[1], high)  # which keep NaN, as min and max do not
            if self._done == 0 and len(self._read_before) % _TOLD_EVERY == 0:
                self._tell()
        return values

    def _scale(self) -> Scale:
        """Return how the volume's values are mapped, reading it once where that depends on them."""
        return self._preprocessor.scale(self.volume, self._read)

    def _finish(self, z: int) -> None:
        """Give slice ``z``, over which every layer has run; or keep it until islands can be told."""
        planes = torch.from_numpy(self._layers.result(self._planes[z]))
        probabilities = self._reader.read(z, planes)
        labels = self._label(probabilities)
        if not self._late:
            self._give(z, labels, probabilities)
            return
        self._sink.write(z, labels)
        if self._held is not None:
            self._held[:, z] = probabilities

    def _forget(self, layer: Planes, waiting: list[int]) -> None:
        """Let the sums that no waiting slice needs go."""
        needed = {plane for z in waiting for plane in range(self._planes[z].start, self._planes[z].stop)}
        self._layers.forget(set(range(*layer)) - needed)

    def _give_without_islands(self) -> None:
        least = self.config.min_area * float(np.prod(self.volume.grid))
        source, sink = SliceSource(self.labels, 0), LabelSink(self.labels, 0, self.order)
        for z, labels in without_islands(source.read, self.order, least):
            self._check()
            sink.write(z, labels)
        if self._on_slice is None:
            return
        source = SliceSource(self.labels, 0)
        for z in self.order:
            self._check()
            assert self._held is not None
            self._on_slice(z, source.read(z), self._held[(slice(None), *at(0, z))].astype(np.float32))

    def _tell(self) -> None:
        if self._progress is not None:
            message = f"patch {self._done}/{self._total}"
            if not self._done:
                message = f"reading, {len(self._read_before)} slices" if self._read_before else "reading"
            self._progress(self._done, self._total, message)
