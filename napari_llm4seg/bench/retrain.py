"""Retraining: from its start to the new mask of the current slice with a warm child, and what cached features save.

Five made slices of 256 x 256 pixels stand for a person's corrections of the breast-ultrasound starter's masks. The
child is warm: it has loaded the checkpoint and the slices' features. Taken is the time from asking for the training
until the new checkpoint has given the mask of another slice, once for each of the two faster choices of parts.
"""

from __future__ import annotations

import json
import queue
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_llm4seg.bench.figures import BenchError, Figure, Measurement, Say, median, run_json_child

if TYPE_CHECKING:
    from napari_llm4seg.config import Parts
    from napari_llm4seg.volume import Volume

MODEL = "breast-ultrasound"
SLICES = 5
PARTS: tuple[Parts, ...] = ("adapters+decoder", "adapters")
_PATIENCE = 300.0


def measure_retrain(say: Say, model: str | None = None) -> Measurement:
    """Measure the three figures, each in a fresh process that owns the child."""
    found: dict[str, Any] = {}
    for parts in PARTS:
        found[parts] = run_json_child(["-m", __name__, "click", parts, model or MODEL], timeout=900)
        say(f"retrain: {parts}, {found[parts]['seconds']:.1f} s to the new mask, {found[parts]['epochs']} epochs")
    cache = run_json_child(["-m", __name__, "cache", model or MODEL], timeout=900)
    say(f"retrain: an epoch takes {cache['plain']:.2f} s without and {cache['cached']:.2f} s with cached features")
    figures = {
        "retrain_seconds": Figure(found["adapters+decoder"]["seconds"], "s", 20.0),
        "retrain_adapters_seconds": Figure(found["adapters"]["seconds"], "s", 10.0),
        "retrain_cached_epoch": Figure(cache["plain"] / cache["cached"], "times as fast", 5.0, "at least"),
        "retrain_cached_loss_difference": Figure(cache["loss_difference"], "of the loss", 1e-4),
    }
    return Measurement(figures, {"retrain": found, "retrain_cache": cache})


def slices(count: int = SLICES + 1, side: int = 256) -> tuple[Volume, Any]:
    """Return a made scan (1, count, side, side) of 8 bits, a dark disc in speckle in each slice, and its mask."""
    import numpy as np

    from napari_llm4seg.volume import Volume

    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    mask = np.stack(
        [(rows - side / 2 - 9 * z) ** 2 + (columns - side / 2 + 7 * z) ** 2 < (side / 6) ** 2 for z in range(count)]
    ).astype(np.uint8)
    values = np.clip((150 - 90 * mask) * (1 + 0.25 * rng.standard_normal(mask.shape)), 0, 255)
    return Volume(values.astype(np.uint8)[None], name="made"), mask


def click(parts: Parts, model: str) -> dict[str, Any]:
    """Return the seconds from asking a warm child for a training to the current slice's new mask."""
    from napari_llm4seg.config import FinetuneConfig
    from napari_llm4seg.corrections import SampleStore
    from napari_llm4seg.jobs.child import TrainingChild
    from napari_llm4seg.predict import load_model

    scan, mask = slices()
    events: queue.Queue[dict[str, Any]] = queue.Queue()
    child = TrainingChild(events.put)
    with tempfile.TemporaryDirectory(prefix="llm4seg-bench-") as folder:
        project, out = Path(folder, "project"), Path(folder, "new")
        with SampleStore.open(project, create=True) as store:
            entry = store.scan_for(scan)
            for z in range(SLICES):
                store.put(entry, z, 0, scan.slice_at(z), mask[z], "edited")
        # the made slices are no neighbours, though they are numbered one after another
        settings = json.loads(FinetuneConfig.quick(parts).model_copy(update={"gap": 0}).model_dump_json())
        try:
            child.load(model, settings)
            finished(events, "load")
            child.warm(project)
            finished(events, "warm")
            load_model(model).predict(scan, slices=[SLICES])  # as the window has: its mask was corrected
            started = time.perf_counter()
            child.train(project, out)
            result = finished(events, "train")
            trained = time.perf_counter() - started
            load_model(out).predict(scan, slices=[SLICES])
            seconds = time.perf_counter() - started
        finally:
            child.close()
    epochs, gate = result["training"]["epochs"], result["gate"]
    return {"seconds": seconds, "until_trained": trained, "epochs": epochs, "gate": gate["words"]}


def finished(events: queue.Queue[dict[str, Any]], what: str) -> dict[str, Any]:
    """Wait until ``what`` was carried out; return its facts."""
    while True:
        event = events.get(timeout=_PATIENCE)
        if event["event"] in ("failed", "died"):
            raise BenchError(f"The training process failed: {event['error']}")
        if event["event"] == "finished" and event["what"] == what:
            return event


def cached_epoch(model: str, epochs: int = 3) -> dict[str, Any]:
    """Return the seconds of an epoch, the least of ``epochs``, and how far the losses differ, both ways.

    Without the cache (one that has no room) every step runs the encoder too, which takes no gradient there either. Both
    draw the same variants and decode the same windows of them.
    """
    from napari_llm4seg.checkpoint import Checkpoint, resolve
    from napari_llm4seg.config import FinetuneConfig
    from napari_llm4seg.engine.corrections import Correction, Corrections
    from napari_llm4seg.engine.features import FeatureCache
    from napari_llm4seg.engine.fit import fit, make_fabric
    from napari_llm4seg.engine.source import ImageValidation
    from napari_llm4seg.engine.variants import VariantTraining

    scan, mask = slices()
    checkpoint = Checkpoint.load(resolve(model))
    chosen = Corrections(tuple(Correction(scan.slice_at(z), mask[z], str(z)) for z in range(SLICES)))
    data = chosen.samples(checkpoint.config.preprocess, checkpoint.config.model.classes)
    settings = FinetuneConfig.quick()
    fitting = settings.fit.model_copy(update={"epochs": epochs + 1, "validate_every": 1000})

    def run(with_cache: bool) -> tuple[float, list[float]]:
        net = checkpoint.build().train_only("adapters+decoder")
        cache = FeatureCache(net) if with_cache else FeatureCache(net, 0)
        source = VariantTraining(data, fitting.augment, epochs + 1, cache=cache, window=settings.window)
        source.fill()
        steps: list[float] = []
        result = fit(
            make_fabric(fitting, "cpu"),
            net,
            (source, ImageValidation(data)),
            fitting,
            folder=None,
            on_event=stamped(steps),
        )
        per_epoch = len(steps) // (epochs + 1)
        ends = steps[per_epoch - 1 :: per_epoch]
        return min(b - a for a, b in pairwise(ends)), [row["loss"] for row in result.history]

    def stamped(steps: list[float]) -> Callable[[Any], None]:
        return lambda event: steps.append(time.perf_counter()) if event.kind == "step" else None

    (plain, losses), (cached, others) = run(False), run(True)
    difference = max(abs(a - b) for a, b in zip(losses, others, strict=True))
    return {"plain": plain, "cached": cached, "loss_difference": difference, "median_loss": median(losses)}


def main(arguments: list[str]) -> None:
    """Be the child: ``click PARTS MODEL`` or ``cache MODEL``."""
    if arguments[0] == "click":
        parts: Any = arguments[1]
        print(json.dumps(click(parts, arguments[2])))
    else:
        print(json.dumps(cached_epoch(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
