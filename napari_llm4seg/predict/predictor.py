"""Predictor: a checkpoint run over a scan, slice by slice or in patches, what is being looked at first."""

from __future__ import annotations

import copy
import datetime
import platform
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_llm4seg.config import ClassSpec, PredictConfig
from napari_llm4seg.errors import Cancelled
from napari_llm4seg.labels.size import affine_scale
from napari_llm4seg.models.backbone import channels_last
from napari_llm4seg.planes import slice_axis
from napari_llm4seg.predict.device import choose_device, describe_device
from napari_llm4seg.predict.forward import Cancel, Folding
from napari_llm4seg.predict.order import slice_order
from napari_llm4seg.predict.postprocess import keep_largest
from napari_llm4seg.predict.run import OnProgress, OnSlice, Run, SliceRun
from napari_llm4seg.predict.volume_run import VolumeRun
from napari_llm4seg.preprocess import Preprocessor, VolumePreprocessor
from napari_llm4seg.volume import Prediction, Volume

if TYPE_CHECKING:
    from napari_llm4seg.checkpoint import Checkpoint


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
    reference : str or None
        What the checkpoint was asked for by: a name, a path or ``hf:ORG/REPO``.
    net : LLM4SegNet
        The network as built, in eval mode; switching its block takes effect at the next prediction.

    Raises
    ------
    DeviceError
        If the device is absent.
    CheckpointError
        If the checkpoint or its frozen layer cannot be built.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", config: PredictConfig | None = None) -> None:
        self.checkpoint = checkpoint
        self.reference: str | None = None
        self.device = choose_device(device)
        self.config = checkpoint.config.predict if config is None else config
        self.net: nn.Module = checkpoint.build().eval()
        preprocess = checkpoint.config.preprocess
        self._preprocessor: Preprocessor | VolumePreprocessor = (
            Preprocessor(preprocess) if preprocess.patch is None else VolumePreprocessor(preprocess)
        )
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
        into: Any = None,
    ) -> Prediction:
        """Segment a scan.

        A two-dimensional network's slices follow one another along the axis that ``config.axis`` says
        (``slice_axis``), and all that is said of slices here speaks of these; a three-dimensional network's are always
        the stored ones. The result is on the scan's own grid either way.

        Parameters
        ----------
        volume : Volume of kind "intensity", any real dtype, numpy or dask
        slices : iterable of int, optional
            Which slices to run, all by default; the others stay 0 in the result. A three-dimensional network runs the
            patches that these slices need.
        first : int, optional
            The slice to show first; it runs alone, then the rest outward from it.
        progress : callable(done, total, message), optional
            In slices, or in tiles where the configuration asks for tiles, or in patches of a volume.
        cancel : callable -> bool, optional
            Asked often, also inside the network; once true, the run stops.
        on_slice : callable(z, labels (Y, X), probabilities (K, Y, X) float32), optional
            Called for each slice as soon as it is there, in this thread; of slices along another axis than the first,
            ``z`` counts along that axis and the arrays have the two axes left, in their order.
        keep_probabilities : bool
            Whether the result holds the probabilities (float16, two bytes for each class and voxel).
        into : array (Z, Y, X), optional
            Takes the labels, and is the result's ``labels``: a zarr array or memory map, of an integer dtype that
            holds every label value. Then neither labels nor probabilities are ever whole in memory, which together
            with a lazy scan stays flat in the number of slices. What a cancelled run had not set yet stays as it was.

        Returns
        -------
        Prediction
            On the scan's own grid. ``provenance["messages"]`` says in words what was converted or fell back.

        Raises
        ------
        InputError
            If the scan cannot be segmented, a slice does not exist, or ``into`` does not fit.
        DeviceError
            If not even one slice fits into memory.
        Cancelled
        """
        started = time.perf_counter()
        self._preprocessor.check(volume)
        axis = self.slice_axis(volume)
        order = slice_order(volume.grid[axis], slices, first)
        with self._turn(cancel):
            run = self._run(volume, axis, order, progress, cancel, on_slice, keep_probabilities, into)
            run.go()
        if self.config.largest:
            run.messages += largest_alone(run.labels, volume, self.checkpoint.config.model.classes)
        return Prediction(
            labels=run.labels,
            probabilities=run.probabilities,
            affine=volume.affine,
            unit=volume.unit,
            name=volume.name,
            classes=tuple((spec.value, spec.name, spec.colour) for spec in self.checkpoint.config.model.classes),
            provenance=self._provenance(run, time.perf_counter() - started),
        )

    @property
    def preprocessor(self) -> Preprocessor | VolumePreprocessor:
        """What turns a scan into the network's input."""
        return self._preprocessor

    @contextmanager
    def network(self, cancel: Cancel | None = None) -> Iterator[nn.Module]:
        """Hold the network itself, unfolded, on its device and in eval mode, while other threads' predictions wait."""
        with self._turn(cancel):
            dims = 3 if self.volumetric else 2
            with torch.no_grad():
                self.net.to(self.device, memory_format=channels_last(dims))  # type: ignore[call-overload]
            yield self.net.eval()

    @property
    def volumetric(self) -> bool:
        """Whether the network sees volumes, so that a slice needs its neighbours too."""
        return isinstance(self._preprocessor, VolumePreprocessor)

    def slice_axis(self, volume: Volume) -> int:
        """Return the axis of the scan's grid (0, 1 or 2 of z, y, x) along which this predictor's slices follow."""
        return 0 if self.volumetric else slice_axis(volume, self.config.axis)

    def _run(self, volume: Volume, *how: Any) -> Run:
        if isinstance(self._preprocessor, VolumePreprocessor):
            return VolumeRun(self._preprocessor, self, volume, *how)
        return SliceRun(self._preprocessor, self, volume, *how)

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

    def _found_by(self) -> dict[str, str]:
        reference = self.reference or getattr(self.checkpoint, "path", None)
        return {} if reference is None else {"reference": str(reference)}

    def _provenance(self, run: Run, seconds: float) -> dict[str, Any]:
        config = self.checkpoint.config
        block = config.model.block
        return {
            "checkpoint": {"name": config.card.name, "sha256": self.checkpoint.digest} | self._found_by(),
            "frozen_layers": [ref.model_dump(mode="json") for ref in block.layers] if block else [],
            "block_state": self._block_state(),
            "model": config.model.model_dump(mode="json"),
            "preprocess": config.preprocess.model_dump(mode="json"),
            "predict": self.config.model_dump(mode="json"),
            "source": {"name": run.volume.name, "sha256": run.log.digest(), "grid": list(run.volume.grid)},
            "axis": run.axis,
            "slices": sorted(run.order),
            "first": run.order[0],
            "device": describe_device(run.forward.device),
            "torch_device": str(run.forward.device),
            "threads": torch.get_num_threads(),
            "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
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


def largest_alone(labels: Any, volume: Volume, classes: Iterable[ClassSpec]) -> list[str]:
    """Erase all but each class's largest piece from a scan's labels (Z, Y, X), in place; say what that removed."""
    scale = affine_scale(volume.affine, volume.unit, volume.n_slices)
    names = {each.value: each.name for each in classes}
    return [
        f"Of {names.get(value, value)} the largest of {pieces} pieces was kept ({scale.words(voxels)} removed)."
        for value, pieces, voxels in keep_largest(labels)
    ]


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

    predictor = Predictor(Checkpoint.load(resolve(name_or_path)), device)
    predictor.reference = str(name_or_path)
    return predictor
