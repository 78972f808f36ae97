"""One prediction on its way: slices in, labels and probabilities out, in the order a person wants to see them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_llm4seg.errors import Cancelled
from napari_llm4seg.lazy import ahead
from napari_llm4seg.planes import at, said_of_plane, turned
from napari_llm4seg.predict.forward import Cancel, Forward
from napari_llm4seg.predict.order import SliceLog
from napari_llm4seg.predict.postprocess import drop_islands, label_dtype, labels_from_probabilities
from napari_llm4seg.predict.slabs import LabelSink, SliceSource, check_target
from napari_llm4seg.preprocess import Preprocessor
from napari_llm4seg.tiling import Blend, Tiling
from napari_llm4seg.volume import Volume

if TYPE_CHECKING:
    from napari_llm4seg.predict.predictor import Predictor

Float = npt.NDArray[np.float32]
OnProgress = Callable[[int, int, str], Any]
OnSlice = Callable[[int, npt.NDArray[Any], Float], Any]


class Run(ABC):
    """What predictions by slices and by volumes share.

    Parameters
    ----------
    notes : list of str
        What will be converted, in words.
    predictor : Predictor
    volume : Volume
    axis : int
        Axis of the scan's grid along which the slices follow one another.
    order : list of int
        Slices in the order they run.
    progress, cancel, on_slice, keep_probabilities, into
        As in ``Predictor.predict``.

    Attributes
    ----------
    labels : array (Z, Y, X), uint8 or uint16, or ``into``
    probabilities : array (K, Z, Y, X), float16, or None
    messages : list of str
        What was converted or fell back, in words.
    """

    def __init__(
        self,
        notes: list[str],
        predictor: Predictor,
        volume: Volume,
        axis: int,
        order: list[int],
        progress: OnProgress | None,
        cancel: Cancel | None,
        on_slice: OnSlice | None,
        keep_probabilities: bool,
        into: Any = None,
    ) -> None:
        model = predictor.checkpoint.config.model
        self.volume, self.axis, self.order, self.config = volume, axis, order, predictor.config
        self._model = model
        self._progress, self._cancel, self._on_slice = progress, cancel, on_slice
        self.messages = list(notes)
        self.log = SliceLog(volume.grid[axis])
        self.forward = Forward(
            predictor.net, predictor._fold, model.head, predictor.config, predictor.device, self.messages.append, cancel
        )
        dtype = label_dtype(model.classes)
        if into is not None:
            check_target(into, volume.grid, max(spec.value for spec in model.classes))
        self.labels: Any = np.zeros(volume.grid, dtype) if into is None else into
        self.source, self._sink = SliceSource(volume.data, 1 + axis), LabelSink(self.labels, axis, order)
        self.probabilities: npt.NDArray[np.float16] | None = None
        if keep_probabilities and into is None:
            self.probabilities = np.zeros((model.out_channels, *volume.grid), dtype=np.float16)

    @abstractmethod
    def go(self) -> None:
        """Run every slice asked for."""

    def _label(self, probabilities: Float) -> npt.NDArray[Any]:
        model = self._model
        return labels_from_probabilities(probabilities, model.classes, model.head, self.config.threshold)

    def _give(self, z: int, labels: npt.NDArray[Any], probabilities: Float) -> None:
        """Keep a finished slice and hand it on."""
        self._sink.write(z, labels)
        if self.probabilities is not None:
            self.probabilities[(slice(None), *at(self.axis, z))] = probabilities
        self._check()
        if self._on_slice is not None:
            self._on_slice(z, labels, probabilities)

    def _check(self) -> None:
        if self._cancel is not None and self._cancel():
            raise Cancelled("Stopped.")


class SliceRun(Run):
    """A two-dimensional network's prediction: each slice on its own, whole or in tiles.

    Parameters
    ----------
    preprocessor : Preprocessor
    others
        As in ``Run``.
    """

    def __init__(
        self, preprocessor: Preprocessor, predictor: Predictor, volume: Volume, axis: int, *others: Any
    ) -> None:
        notes = [*said_of_plane(volume, predictor.config.axis), *preprocessor.notes(volume)]
        super().__init__(notes, predictor, volume, axis, *others)
        self._preprocessor = preprocessor
        self._view = turned(volume, axis)
        self._tiling: Tiling | None = None
        if self.config.mode == "tiles":
            patch = predictor.checkpoint.config.preprocess.size
            self._tiling = Tiling(self._view.grid[1:], patch, self.config.overlap)
        self._done = 0

    def go(self) -> None:
        """Run every slice: the first alone, so that it is seen at once, then as many together as fit."""
        if self.config.min_area > 0:
            ahead("scipy.ndimage")  # which the first slice needs after the network
        self._report(0)
        position = 0
        while position < len(self.order):
            count = 1 if position == 0 or self._tiling else self.forward.batch
            group = self.order[position : position + count]
            self._run(group)
            position += len(group)

    def _run(self, group: list[int]) -> None:
        self._check()
        part = self._read(group)
        self.forward.non_finite = False
        found = self._whole(part) if self._tiling is None else self._tiled(part)[None]
        if self.forward.non_finite:
            for z in group:
                self.log.note(z, "places where the network gave no finite value; they count as probability 0")
        for z, probabilities in zip(group, found, strict=True):
            self._give(z, drop_islands(self._label(probabilities), self.config.min_area), probabilities)
        if self._tiling is None:
            self._report(len(group))

    def _read(self, group: list[int]) -> Volume:
        """Return the slices of ``group`` in memory; each is read once, however lazy its source."""
        read = []
        for z in group:
            self._check()
            values = self.source.read(z)
            self.log.add(z, values)
            read.append(values)
        return self._view.with_data(np.stack(read, axis=1))

    def _whole(self, part: Volume) -> Float:
        """Return the probabilities (B, K, Y, X) of the slices of ``part``, each seen as a whole."""
        images: list[torch.Tensor] = []
        for z in range(part.n_slices):
            self._check()  # a slice of many megapixels takes its time outside the network too
            image, trace = self._preprocessor.apply(part, [z])
            images.append(image)
        found = self.forward.probabilities(torch.cat(images))
        self._check()
        return self._preprocessor.invert(found, trace)

    def _tiled(self, part: Volume) -> Float:
        """Return the probabilities (K, Y, X) of the one slice of ``part``."""
        assert self._tiling is not None
        padded = self._tiling.pad(self._preprocessor.prepare(part, 0))
        blend = Blend(self._tiling, self._model.out_channels)
        first = 0
        while first < len(self._tiling):
            self._check()
            numbers = range(first, min(first + self.forward.batch, len(self._tiling)))
            tiles = torch.from_numpy(self._tiling.tiles(padded, numbers))
            blend.add(numbers, self.forward.probabilities(tiles).numpy())
            first += len(numbers)
            self._report(len(numbers))
        return blend.result()

    def _report(self, newly_done: int) -> None:
        self._done += newly_done
        if self._progress is None:
            return
        if self._tiling is None:
            self._progress(self._done, len(self.order), f"slice {self._done}/{len(self.order)}")
            return
        each = len(self._tiling)
        finished, tile = divmod(self._done, each)
        message = f"slice {finished}/{len(self.order)}" + (f", tile {tile}/{each}" if tile else "")
        self._progress(self._done, each * len(self.order), message)
