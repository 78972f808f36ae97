"""Training steps: what a frozen layer of LLaMA-3.2-1B's size costs in time and memory, and how long data is waited for.

The network is CMUNeXt base on 256 x 256 pixels, the layer's values are random. Steps are those of ``fit``: forward,
loss, backward, clipping and AdamW. Time is taken side by side in one process, memory in a fresh process for each way,
over what the imports took.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_llm4seg.bench.figures import Figure, Measurement, Say, Skipped, median, peak_memory, run_json_child
from napari_llm4seg.models.registry import LLAMA

if TYPE_CHECKING:
    from napari_llm4seg.config import FitConfig
    from napari_llm4seg.engine.data import Samples
    from napari_llm4seg.engine.state import RunState
    from napari_llm4seg.models.llm4seg import LLM4SegNet

BATCH = 8  # that of the recipes


def measure_training(say: Say, repeats: int = 7) -> Measurement:
    """Measure the three figures; each way's memory is the least of two processes, where nothing else was in the way."""
    if sys.platform == "win32":
        raise Skipped("peak memory is read through getrusage, which this system lacks")
    steps = run_json_child(["-m", __name__, "steps", str(repeats)], timeout=1800)
    say(f"training: a step of the CNN {steps['cnn']:.2f} s, with the frozen layer {steps['frozen']:.2f} s")
    peaks = {
        way: min(run_json_child(["-m", __name__, "memory", way])["bytes"] for _ in range(2))
        for way in ("frozen", "trained")
    }
    say(f"training: peak {peaks['frozen'] / 1e6:.0f} MB with the layer frozen, {peaks['trained'] / 1e6:.0f} MB trained")
    waiting = run_json_child(["-m", __name__, "waiting"], timeout=1800)["waiting"]
    say(
        "training: "
        + ", ".join(f"{100 * part:.2f} % of a step waited for data at {size}" for size, part in waiting.items())
    )
    return Measurement(
        {
            "training_step_with_frozen_layer": Figure(steps["frozen"] / steps["cnn"], "times the CNN's", 1.5),
            "training_memory_frozen": Figure(peaks["frozen"] / peaks["trained"], "of the trainable layer's", 0.6),
            "training_step_in_compute": Figure(1 - max(waiting.values()), "of a step", 0.9, "at least"),
        },
        {"training_step_seconds": steps, "training_peak_bytes": peaks, "training_waiting": waiting},
    )


def network(way: str, size: str = "base", layer: dict[str, Any] | None = None) -> LLM4SegNet:
    """Return the network: ``way`` "cnn", "frozen" or "trained"."""
    from napari_llm4seg.config import BlockConfig, LayerRef, ModelConfig
    from napari_llm4seg.models.cmunext import cmunext_config
    from napari_llm4seg.models.llm4seg import LLM4SegNet
    from napari_llm4seg.models.llm_layer import LLMLayer
    from napari_llm4seg.models.spec import LayerSpec

    backbone = cmunext_config(size, in_channels=1)
    if way == "cnn":
        return LLM4SegNet(ModelConfig(backbone=backbone))
    spec = LayerSpec.from_config(layer or LLAMA)
    made = LayerRef(repository="made/layer", index=0, sha256="0" * 64)
    block = BlockConfig(layers=(made,), hidden=spec.hidden, frozen=way == "frozen")
    return LLM4SegNet(ModelConfig(backbone=backbone, block=block), [LLMLayer.random(spec, frozen=way == "frozen")])


def run_state(net: LLM4SegNet, config: FitConfig, data: Samples, folder: Path) -> RunState:
    """Return the state of a run on the CPU, at its first step."""
    from napari_llm4seg.engine.fit import make_fabric
    from napari_llm4seg.engine.source import ImageTraining, ImageValidation
    from napari_llm4seg.engine.state import RunState

    sources = ImageTraining(data, config.augment), ImageValidation(data)
    return RunState(make_fabric(config, "cpu"), net, config, sources, folder)


def samples(count: int, side: int) -> Samples:
    """Return made images with a bright square each."""
    import torch

    from napari_llm4seg.engine.data import Samples

    images = torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(count, side, side, dtype=torch.uint8)
    labels[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    return Samples(images + labels[:, None], labels, tuple(map(str, range(count))))


def fit_config(precision: str = "bf16", epochs: int = 1) -> FitConfig:
    from napari_llm4seg.config import FitConfig

    fields = {"epochs": epochs, "batch": BATCH, "precision": precision, "augment": "strong", "warmup_epochs": 0}
    return FitConfig.model_validate(fields)


def time_steps(repeats: int, side: int = 256, **how: Any) -> dict[str, float]:
    """Return the median seconds of a step of each way, taken in turns after one step to warm up."""
    from napari_llm4seg.engine.objective import Objective

    data, config = samples(BATCH, side), fit_config()
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = {way: run_state(network(way, **how), config, data, Path(folder, way)) for way in ("cnn", "frozen")}
        for repeat in range(repeats + 1):
            for way, run in runs.items():
                objective = Objective(run.net.config.classes, run.net.config.head, config)
                started = time.perf_counter()
                run.step(objective, data.images, data.labels)
                if repeat:
                    taken.setdefault(way, []).append(time.perf_counter() - started)
    return {way: median(seconds) for way, seconds in taken.items()}


def peak_of_steps(way: str, side: int = 256, batch: int = BATCH, **how: Any) -> int:
    """Return how far two steps in float32 raise this process's largest resident size, in bytes."""
    from napari_llm4seg.engine.objective import Objective

    data, config = samples(batch, side), fit_config("32")
    Objective(network("cnn", "small").config.classes, "sigmoid", config)  # whose imports are not the step's
    before = peak_memory()
    with tempfile.TemporaryDirectory() as folder:
        run = run_state(network(way, **how), config, data, Path(folder))
        objective = Objective(run.net.config.classes, run.net.config.head, config)
        for _ in range(2):  # the optimiser's moments come with the first
            run.step(objective, data.images, data.labels)
        return peak_memory() - before


def waiting_for_data(count: int = 48, sides: tuple[int, ...] = (128, 256), size: str = "base") -> dict[str, float]:
    """Return the part of an epoch's steps spent waiting for augmented batches, by image size, as ``fit`` logs it."""
    from napari_llm4seg.engine.fit import fit, make_fabric
    from napari_llm4seg.engine.source import ImageTraining, ImageValidation

    config = fit_config(epochs=2)  # the first epoch pays for imports and warm-up
    found = {}
    for side in sides:
        sources = ImageTraining(samples(count, side), config.augment), ImageValidation(samples(2, side))
        with tempfile.TemporaryDirectory() as folder:
            result = fit(make_fabric(config, "cpu"), network("cnn", size), sources, config, folder=Path(folder))
        found[f"{side} x {side}"] = result.history[-1]["waiting"]
    return found


def main(arguments: list[str]) -> None:
    """Be the child: ``steps N``, ``memory WAY`` or ``waiting``."""
    what = arguments[0]
    if what == "steps":
        print(json.dumps(time_steps(int(arguments[1]))))
    elif what == "memory":
        print(json.dumps({"bytes": peak_of_steps(arguments[1])}))
    else:
        print(json.dumps({"waiting": waiting_for_data()}))


if __name__ == "__main__":
    main(sys.argv[1:])
