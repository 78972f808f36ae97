"""A volume larger than memory: how far the peak of resident memory rises with the number of slices.

Two made zarr volumes of 512 x 512 pixels and 16 bits, of 100 and of 2000 slices (1 GB), are each segmented out of core
into a zarr array by a fresh process. The question is what reading, writing and bookkeeping hold on to, so the network
is a tiny CMUNeXt on 64 x 64 pixels; a larger one adds the same to both sides. The same for a tiny three-dimensional
U-Net, which resamples the slices, in patches of 16 x 64 x 64 of 128 x 128 pixels: 100 slices and 500.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_llm4seg.bench.figures import BenchError, Figure, Measurement, Say, Skipped, peak_memory, run_json_child

if TYPE_CHECKING:
    from napari_llm4seg.predict import Predictor

FEW, MANY, MANY_3D = 100, 2000, 500
SIDE, SIDE_3D = 512, 128


def measure_volume(say: Say, few: int = FEW, many: int = MANY, many_3d: int = MANY_3D) -> Measurement:
    """Segment each volume in a process of its own and compare the largest resident sizes."""
    if sys.platform == "win32":
        raise Skipped("peak memory is read through getrusage, which this system lacks")
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for network, side, counts in (("2d", SIDE, (few, many)), ("3d", SIDE_3D, (few, many_3d))):
        for slices in counts:
            with tempfile.TemporaryDirectory(prefix="llm4seg-bench-") as folder:
                run_json_child(["-m", __name__, "make", folder, str(slices), str(side)])
                took = run_json_child(["-m", __name__, "segment", folder, network], timeout=1800)
            found.setdefault(network, {})[slices] = took
            peak, seconds = took["bytes"] / 1e6, took["seconds"]
            say(f"volume of {slices} slices, {network} network: peak {peak:.0f} MB, {seconds:.0f} s")
    ratios = {network: runs[max(runs)]["bytes"] / runs[min(runs)]["bytes"] for network, runs in found.items()}
    unit = f"times the peak with {few} slices"
    return Measurement(
        {
            "volume_memory_with_slices": Figure(ratios["2d"], f"{unit}, at {many}", 1.2),
            "volume_memory_with_slices_3d": Figure(ratios["3d"], f"{unit}, at {many_3d}", 1.2),
        },
        {
            "volume_peak_bytes": {network: _of_each(runs, "bytes") for network, runs in found.items()},
            "volume_seconds": {network: _of_each(runs, "seconds") for network, runs in found.items()},
            "volume_network": "two narrow stages, untrained: the memory of input and output is in question",
        },
    )


def _of_each(runs: dict[int, dict[str, Any]], what: str) -> dict[str, Any]:
    return {str(slices): took[what] for slices, took in runs.items()}


def make_volume(folder: Path, slices: int, side: int = SIDE) -> None:
    """Write a zarr volume ``scan.zarr`` of ``slices`` like slices, one chunk each: a bright disc in noise."""
    import numpy as np
    import zarr

    rows, columns = np.mgrid[:side, :side] - side // 2
    values = np.random.default_rng(0).normal(-900, 40, (side, side)) + 1000 * (rows**2 + columns**2 < (side // 4) ** 2)
    shape, chunks = (slices, side, side), (1, side, side)
    array = zarr.create_array(str(folder / "scan.zarr"), shape=shape, chunks=chunks, dtype="int16")
    chunk = values.astype(np.int16)
    for z in range(slices):
        array[z] = chunk


def tiny_predictor(network: str = "2d", size: int = 64) -> Predictor:
    """Return a predictor around an untrained network of two narrow stages, on soft-tissue values."""
    import torch

    from napari_llm4seg.checkpoint import Checkpoint
    from napari_llm4seg.config import BackboneConfig, Card, CheckpointConfig, ModelConfig, PredictConfig
    from napari_llm4seg.config import PreprocessConfig as Preprocess
    from napari_llm4seg.models.llm4seg import LLM4SegNet
    from napari_llm4seg.predict import Predictor

    torch.manual_seed(0)
    if network == "2d":
        backbone = BackboneConfig(widths=(4, 8), depths=(1, 1), kernels=(3, 3))
        preprocess = Preprocess(size=(size, size), intensity="window", window=(-160.0, 240.0))
    else:
        backbone = BackboneConfig(kind="unet", spatial_dims=3, widths=(4, 8))
        patch, spacing = (16, size, size), (1.25, 1.0, 1.0)
        preprocess = Preprocess(patch=patch, spacing=spacing, intensity="window", window=(-160.0, 240.0))
    config = CheckpointConfig(
        model=ModelConfig(backbone=backbone),
        preprocess=preprocess,
        # an untrained network is never sure; and how many fit a batch goes by the machine's speed at the moment
        predict=PredictConfig(threshold=0.1, overlap=0.25, batch=1),
        card=Card(name="tiny"),
    )
    return Predictor(Checkpoint(config, dict(LLM4SegNet(config.model).trained_tensors())), "cpu")


def segment_volume(folder: Path, network: str = "2d") -> dict[str, Any]:
    """Segment ``scan.zarr`` of ``folder`` into ``labels.zarr``; return this process's peak in bytes and the seconds."""
    import dask.array as da
    import numpy as np
    import zarr

    from napari_llm4seg.volume import Volume

    predictor = tiny_predictor(network)
    from_zarr: Any = da.from_zarr  # dask says nothing of types
    scan = from_zarr(str(folder / "scan.zarr"))
    started = time.perf_counter()
    labels = zarr.create_array(
        str(folder / "labels.zarr"), shape=scan.shape, chunks=(1, *scan.shape[1:]), dtype="uint8"
    )
    predictor.predict(Volume(scan[None], unit="mm"), first=scan.shape[0] // 2, into=labels)
    seconds, peak = time.perf_counter() - started, peak_memory()
    if not all(np.any(np.asarray(labels[z])) for z in (0, scan.shape[0] - 1)):
        raise BenchError("The first or the last slice has no label; nothing was measured.")
    return {"bytes": peak, "seconds": seconds}


def main(arguments: list[str]) -> None:
    """Be the child: ``make FOLDER SLICES SIDE`` or ``segment FOLDER NETWORK``."""
    what, folder = arguments[0], Path(arguments[1])
    if what == "make":
        make_volume(folder, int(arguments[2]), int(arguments[3]))
        print(json.dumps({"slices": int(arguments[2])}))
    else:
        print(json.dumps(segment_volume(folder, arguments[2])))


if __name__ == "__main__":
    main(sys.argv[1:])
