"""Predictor: a checkpoint run over a scan, slice by slice, the one being looked at first."""

from __future__ import annotations

import copy
import datetime
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.errors import Cancelled, ConfigError
from napari_llm4seg.predict.device import choose_device, describe_device
from napari_llm4seg.predict.forward import Cancel, Folding, Forward
from napari_llm4seg.predict.order import SliceLog, slice_order
from napari_llm4seg.predict.postprocess import drop_islands, label_dtype, labels_from_probabilities
from napari_llm4seg.predict.tiling import Blend, Tiling
from napari_llm4seg.preprocess import Preprocessor
from napari_llm4seg.volume import Prediction, Volume

if TYPE_CHECKING:
    from napari_llm4seg.checkpoint import Checkpoint

Float = npt.NDArray[np.float32]
OnProgress = Callable[[int, int, str], Any]
OnSlice = Callable[[int, npt.NDArray[Any], Float], Any]


class Predictor:
    """Runs one checkpoint on one device; usable from several threads, which take turns.

    Parameters
    ----------
    checkpoint : Checkpoint
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    config : PredictConfig, optional
        How to run it; by default as the checkpoint says.

    Attributes
    ----------
    checkpoint : Checkpoint
    device : torch.device
    config : PredictConfig
    net : LLM4SegNet
        The network as built, in eval mode; switching its block takes effect at the next prediction.

    Raises
    ------
    DeviceError
        If the device is absent.
    CheckpointError
        If the checkpoint or its frozen layer cannot be built.
    ConfigError
        If the network is three-dimensional, which prediction does not do yet.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", config: PredictConfig | None = None) -> None:
        if checkpoint.config.model.backbone.spatial_dims != 2:
            raise ConfigError("This checkpoint's network is three-dimensional; prediction needs a two-dimensional one.")
        self.checkpoint = checkpoint
        self.device = choose_device(device)
        self.config = checkpoint.config.predict if config is None else config
        self.net: nn.Module = checkpoint.build().eval()
        self._preprocessor = Preprocessor(checkpoint.config.preprocess)
        self._fold = Folding(self.net)
        self._lock = threading.Lock()

    def with_config(self, config: PredictConfig) -> Predictor:
        """Return a predictor of other settings that shares this one's network."""
        other = copy.copy(self)
        other.config = config
        return other

    def predict(
        self,
        volume: Volume,
        *,
        slices: Iterable[int] | None = None,
        first: int | None = None,
        progress: OnProgress | None = None,
        cancel: Cancel | None = None,
        on_slice: OnSlice | None = None,
        keep_probabilities: bool = True,
    ) -> Prediction:
        """Segment a scan.

        Parameters
        ----------
        volume : Volume of kind "intensity", any real dtype, numpy or dask
        slices : iterable of int, optional
            Which slices to run, all by default; the others stay 0 in the result.
        first : int, optional
            The slice to show first; it runs alone, then the rest outward from it.
        progress : callable(done, total, message), optional
            In slices, or in tiles where the configuration asks for tiles.
        cancel : callable -> bool, optional
            Asked often, also inside the network; once true, the run stops.
        on_slice : callable(z, labels (Y, X), probabilities (K, Y, X) float32), optional
            Called for each slice as soon as it is there, in this thread.
        keep_probabilities : bool
            Whether the result holds the probabilities (float16, two bytes for each class and voxel).

        Returns
        -------
        Prediction
            On the scan's own grid. ``provenance["messages"]`` says in words what was converted or fell back.

        Raises
        ------
        InputError
            If the scan cannot be segmented or a slice does not exist.
        DeviceError
            If not even one slice fits into memory.
        Cancelled
        """
        started = time.perf_counter()
        self._preprocessor.check(volume)
        order = slice_order(volume.n_slices, slices, first)
        with self._turn(cancel):
            run = _Run(self, volume, order, progress, cancel, on_slice, keep_probabilities)
            run.go()
        return Prediction(
            labels=run.labels,
            probabilities=run.probabilities,
            affine=volume.affine,
            unit=volume.unit,
            name=volume.name,
            classes=tuple((spec.value, spec.name, spec.colour) for spec in self.checkpoint.config.model.classes),
            provenance=self._provenance(run, time.perf_counter() - started),
        )

    @contextmanager
    def _turn(self, cancel: Cancel | None) -> Iterator[None]:
        """Wait for other threads' predictions; a cancel ends the waiting too."""
        while not self._lock.acquire(timeout=0.05):
            if cancel is not None and cancel():
                raise Cancelled("Stopped.")
        try:
            yield
        finally:
            self._lock.release()

    def _block_state(self) -> str | None:
        """Return "on", "off", "random", "swapped" (other layers than the checkpoint's) or None without a block."""
        block: Any = getattr(self.net, "block", None)
        state: str | None = getattr(block, "state", None)
        return "swapped" if state == "on" and getattr(block, "swapped", False) else state

    def _provenance(self, run: _Run, seconds: float) -> dict[str, Any]:
        config = self.checkpoint.config
        block = config.model.block
        return {
            "checkpoint": {"name": config.card.name, "sha256": self.checkpoint.digest},
            "frozen_layers": [ref.model_dump(mode="json") for ref in block.layers] if block else [],
            "block_state": self._block_state(),
            "model": config.model.model_dump(mode="json"),
            "preprocess": config.preprocess.model_dump(mode="json"),
            "predict": self.config.model_dump(mode="json"),
            "source": {"name": run.volume.name, "sha256": run.log.digest(), "grid": list(run.volume.grid)},
            "slices": sorted(run.order),
            "device": describe_device(run.forward.device),
            "versions": {
                "napari-llm4seg": _package_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "messages": [*run.messages, *run.log.sentences()],
        }


class _Run:
    """One prediction on its way."""

    def __init__(
        self,
        predictor: Predictor,
        volume: Volume,
        order: list[int],
        progress: OnProgress | None,
        cancel: Cancel | None,
        on_slice: OnSlice | None,
        keep_probabilities: bool,
    ) -> None:
        model = predictor.checkpoint.config.model
        self.volume, self.order, self.config = volume, order, predictor.config
        self._model, self._preprocessor = model, predictor._preprocessor
        self._progress, self._cancel, self._on_slice = progress, cancel, on_slice
        self.messages: list[str] = list(self._preprocessor.notes(volume))
        self.log = SliceLog(volume.n_slices)
        self.forward = Forward(
            predictor.net, predictor._fold, model.head, predictor.config, predictor.device, self.messages.append, cancel
        )
        self.labels: npt.NDArray[Any] = np.zeros(volume.grid, dtype=label_dtype(model.classes))
        self.probabilities: npt.NDArray[np.float16] | None = None
        if keep_probabilities:
            self.probabilities = np.zeros((model.out_channels, *volume.grid), dtype=np.float16)
        self._tiling: Tiling | None = None
        if self.config.mode == "tiles":
            patch = predictor.checkpoint.config.preprocess.size
            self._tiling = Tiling(volume.grid[1:], patch, self.config.overlap)
        self._done = 0

    def go(self) -> None:
        """Run every slice: the first alone, so that it is seen at once, then as many together as fit."""
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
        if self._tiling is None:
            images, trace = self._preprocessor.apply(part, range(len(group)))
            found = self._preprocessor.invert(self.forward.probabilities(images), trace)
        else:
            found = self._tiled(part)[None]
        if self.forward.non_finite:
            for z in group:
                self.log.note(z, "places where the network gave no finite value; they count as probability 0")
        for z, probabilities in zip(group, found, strict=True):
            self._take(z, probabilities)
        if self._tiling is None:
            self._report(len(group))

    def _read(self, group: list[int]) -> Volume:
        """Return the slices of ``group`` in memory; each is read once, however lazy its source."""
        read = []
        for z in group:
            values = self.volume.slice_at(z)
            self.log.add(z, values)
            read.append(values)
        return self.volume.with_data(np.stack(read, axis=1))

    def _tiled(self, part: Volume) -> Float:
        """Return the probabilities (K, Y, X) of the one slice of ``part``."""
        assert self._tiling is not None
        padded = self._tiling.pad(self._preprocessor.prepare(part, 0))
        blend = Blend(self._tiling, self._model.out_channels)
        first = 0
        while first < len(self._tiling):
            self._check()
            tiles = torch.from_numpy(self._tiling.tiles(padded, first, self.forward.batch))
            blend.add(first, self.forward.probabilities(tiles).numpy())
            first += len(tiles)
            self._report(len(tiles))
        return blend.result()

    def _take(self, z: int, probabilities: Float) -> None:
        labels = labels_from_probabilities(probabilities, self._model.classes, self._model.head, self.config.threshold)
        labels = drop_islands(labels, self.config.min_area)
        self.labels[z] = labels
        if self.probabilities is not None:
            self.probabilities[:, z] = probabilities
        self._check()
        if self._on_slice is not None:
            self._on_slice(z, labels, probabilities)

    def _check(self) -> None:
        if self._cancel is not None and self._cancel():
            raise Cancelled("Stopped.")

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


def _package_version() -> str:
    try:
        return metadata.version("napari-llm4seg")
    except metadata.PackageNotFoundError:
        from napari_llm4seg import __version__

        return __version__


def load_model(name_or_path: str | Path, device: str = "auto") -> Predictor:
    """Load a checkpoint, ready to predict.

    Parameters
    ----------
    name_or_path : str or path
        A starter's name, a checkpoint folder or file, or ``hf:ORG/REPO``.
    device : str
        "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises
    ------
    CheckpointError
        If it is missing, damaged or foreign.
    DeviceError
        If the device is absent.
    """
    from napari_llm4seg.checkpoint import Checkpoint, resolve

    return Predictor(Checkpoint.load(resolve(name_or_path)), device)
