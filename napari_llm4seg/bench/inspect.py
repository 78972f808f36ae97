"""What inspecting costs: the wait after a click, for a new slice and for the table of all heads; memory; idling.

Times are those of a starter with its real layer on a made image of 256 x 256 pixels, on the CPU. Memory is that of a
network with a layer of LLaMA-3.2-1B's shape, 32 heads on 256 tokens, over what the same forward takes unrecorded.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_llm4seg.bench.figures import Figure, Measurement, Say, Skipped, median, peak_memory, run_json_child

if TYPE_CHECKING:
    from napari_llm4seg.models.llm4seg import LLM4SegNet
    from napari_llm4seg.predict import Predictor
    from napari_llm4seg.volume import Volume

SIDE = 256


def measure_inspect(say: Say, model: str | None = None, repeats: int = 5) -> Measurement:
    """Inspect a slice in one fresh process, and look at a recording's memory in another."""
    from napari_llm4seg.checkpoint import starters

    if model is None and not starters():
        raise Skipped("no starter checkpoint is installed")
    found = run_json_child(["-m", __name__, "time", str(repeats), *([model] if model else [])])
    say(f"inspect: new slice {found['slice_s']:.2f} s, click {found['click_s'] * 1e3:.1f} ms")
    say(f"inspect: table of {found['heads']} heads {found['heads_s']:.1f} s, idle recorder x {found['idle']:.3f}")
    figures = {
        "inspect_click_ms": Figure(found["click_s"] * 1e3, "ms", 100),
        "inspect_new_slice_seconds": Figure(found["slice_s"], "s", 1.0),
        "inspect_heads_table_seconds": Figure(found["heads_s"], "s", 10.0),
        "inspect_idle_recorder": Figure(found["idle"], "times the forward without one", 1.02),
        "inspect_proof": Figure(found["proof"], "relative difference", 1e-5),
    }
    if sys.platform != "win32":
        held = run_json_child(["-m", __name__, "memory"])
        # what the forward itself gave back may be taken again, so the rise alone could hide the record
        taken = max(held["peak"], held["recorded"]) / 1e6
        say(f"inspect: recording 256 tokens and 32 heads takes {taken:.0f} MB")
        figures["inspect_recording_mb"] = Figure(taken, "MB", 150)
        found |= {"recorded_bytes": held["recorded"], "peak_rise_bytes": held["peak"]}
    return Measurement(figures, {f"inspect_{name}": value for name, value in found.items()})


def open_case(model: str | None) -> tuple[Predictor, Volume]:
    """Return the model, or the default starter, on the CPU and a made ultrasound image."""
    from napari_llm4seg.io.samples import ultrasound_phantom
    from napari_llm4seg.predict import load_model

    image, _ = ultrasound_phantom(shape=(SIDE, SIDE))
    return load_model(model or "breast-ultrasound", "cpu"), image


def time_inspection(predictor: Predictor, volume: Volume, repeats: int) -> dict[str, Any]:
    """Return seconds of every step, medians of ``repeats``, and how far the proof was off."""
    from napari_llm4seg.activations.inspection import inspect_slice
    from napari_llm4seg.activations.interventions import heads_table

    def click(number: int) -> None:
        token = seen.token_at(7 + 31 * number % (SIDE - 16), 11 + 17 * number % (SIDE - 16))
        seen.volume(seen.attention(token, head="mean"))

    seen = inspect_slice(predictor, volume)  # sets up memory and kernels
    slices = [seconds(lambda: inspect_slice(predictor, volume)) for _ in range(repeats)]
    clicks = [seconds(lambda number=number: click(number)) for number in range(4 * repeats)]  # type: ignore[misc]
    seen.proof.require()
    started = time.perf_counter()
    table = heads_table(seen)
    return {
        "slice_s": median(slices),
        "click_s": max(clicks),
        "heads_s": time.perf_counter() - started,
        "heads": len(table),
        "proof": max(check.relative for check in seen.proof.checks),
        "idle": idle_cost(predictor, volume, 4 * repeats),
    }


def idle_cost(predictor: Predictor, volume: Volume, repeats: int) -> float:
    """Return the time of a forward under an idle recorder of all points over that of one without.

    What an idle recorder costs are its hooks, and they cost the same whatever the image's size. So the difference is
    taken on the smallest image, where two percent of a whole forward do not drown in what else the machine does, and
    laid against a forward of the whole one. Medians, of runs in turn.
    """
    import torch

    from napari_llm4seg.activations.frame import frame_of
    from napari_llm4seg.activations.points import inner_points_of, points_of
    from napari_llm4seg.activations.recorder import ActivationRecorder

    image = frame_of(predictor, volume).image
    with predictor.network() as net, torch.inference_mode():
        plain: LLM4SegNet = net  # type: ignore[assignment]
        small = image
        for axis, stride in enumerate(plain.backbone.output_stride, start=2):
            small = small.narrow(axis, 0, min(2 * stride, small.shape[axis]))
        bare, idle = [], []
        for _ in range(5 * repeats):
            bare.append(seconds(lambda: plain(small)))
            with ActivationRecorder(plain, [*points_of(plain), *inner_points_of(plain)]) as recorder, recorder.paused():
                idle.append(seconds(lambda: plain(small)))
        whole = median([seconds(lambda: plain(image)) for _ in range(max(3, repeats // 4))])
    return 1 + (median(idle) - median(bare)) / whole


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def large_network() -> LLM4SegNet:
    """Return an untrained CMUNeXt around a random layer of LLaMA-3.2-1B's shape."""
    from napari_llm4seg.config import BackboneConfig, BlockConfig, LayerRef, ModelConfig
    from napari_llm4seg.models.llm4seg import LLM4SegNet
    from napari_llm4seg.models.llm_layer import LLMLayer
    from napari_llm4seg.models.registry import LLAMA
    from napari_llm4seg.models.spec import LayerSpec

    spec = LayerSpec.from_config(LLAMA)
    ref = LayerRef(repository="random", index=0, sha256="0" * 64)
    block = BlockConfig(layers=(ref,), hidden=spec.hidden)
    return LLM4SegNet(ModelConfig(backbone=BackboneConfig(), block=block), [LLMLayer.random(spec)]).eval()


def recording_memory(net: LLM4SegNet, side: int = SIDE) -> dict[str, Any]:
    """Return how far recording everything raises this process's peak, and the bytes of the record."""
    import torch

    from napari_llm4seg.activations.points import inner_points_of, points_of
    from napari_llm4seg.activations.recorder import ActivationRecorder

    image = torch.randn(1, 1, side, side)
    with torch.inference_mode():
        for _ in range(3):
            net(image)
        before = peak_memory()
        with ActivationRecorder(net, [*points_of(net), *inner_points_of(net)]) as recorder:
            net(image)
    recorded = recorder.activations
    return {
        "peak": peak_memory() - before,
        "recorded": recorded.n_bytes,
        "attention": list(recorded["layer.1.attention"].shape),
    }


def main(arguments: list[str]) -> None:
    """Be the child: ``time REPEATS [MODEL]`` or ``memory``."""
    if arguments[0] == "memory":
        print(json.dumps(recording_memory(large_network())))
        return
    predictor, volume = open_case(arguments[2] if len(arguments) > 2 else None)
    print(json.dumps(time_inspection(predictor, volume, int(arguments[1]))))


if __name__ == "__main__":
    main(sys.argv[1:])
