"""All parts of the bench in one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari_llm4seg.bench.figures import Measurement, Say, Skipped, machine
from napari_llm4seg.bench.startup import now
from napari_llm4seg.errors import one_line

PARTS = ("import", "help", "segment", "layer", "folded", "training", "volume", "readers", "inspect", "retrain", "gui")


def parts(model: str | None) -> dict[str, Callable[[Say], Measurement]]:
    """Return what measures each part."""
    from napari_llm4seg.bench.folded import measure_folded
    from napari_llm4seg.bench.inspect import measure_inspect
    from napari_llm4seg.bench.layer import measure_layer
    from napari_llm4seg.bench.readers import measure_readers
    from napari_llm4seg.bench.retrain import measure_retrain
    from napari_llm4seg.bench.startup import measure_help, measure_import, measure_segment
    from napari_llm4seg.bench.training import measure_training
    from napari_llm4seg.bench.volume import measure_volume
    from napari_llm4seg.bench.window import measure_window

    return {
        "import": measure_import,
        "help": measure_help,
        "segment": lambda say: measure_segment(say, model),
        "layer": measure_layer,
        "folded": measure_folded,
        "training": measure_training,
        "volume": measure_volume,
        "readers": measure_readers,
        "inspect": lambda say: measure_inspect(say, model),
        "retrain": lambda say: measure_retrain(say, model),
        "gui": lambda say: measure_window(say, model),
    }


def run(say: Say, only: Sequence[str] = (), model: str | None = None) -> dict[str, Any]:
    """Measure the parts named in ``only`` (all if empty), each on its own: one that fails leaves the others standing.

    Returns
    -------
    dict
        ``started``, ``machine``, ``figures`` (name -> value, unit, target, bound, met), ``details``, and by part
        ``skipped`` and ``failed`` with the reason.
    """
    report: dict[str, Any] = {"started": now(), "machine": machine(), "figures": {}, "details": {}}
    skipped, failed = {}, {}
    for name, measure in parts(model).items():
        if only and name not in only:
            continue
        try:
            found = measure(say)
        except Skipped as reason:
            skipped[name] = str(reason)
            say(f"{name}: skipped: {reason}")
        except Exception as error:
            failed[name] = one_line(error)
            say(f"{name}: failed: {one_line(error)}")
        else:
            report["figures"] |= {key: figure.as_dict() for key, figure in found.figures.items()}
            report["details"] |= found.details
    return report | {"skipped": skipped, "failed": failed}
