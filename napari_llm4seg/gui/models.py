"""The real models, devices, scans and samples behind the docks. Everything heavy is imported inside, in a job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers.ports import Catalogue
from napari_llm4seg.gui.layers import warm_up
from napari_llm4seg.gui.state.look import look_of_model
from napari_llm4seg.gui.state.session import ModelEntry
from napari_llm4seg.io import Progress, SeriesInfo, TimeStack
from napari_llm4seg.volume import Volume

SAMPLES = (
    ("ultrasound_phantom", "Breast ultrasound phantom (made)"),
    ("ct_phantom", "CT phantom (made)"),
    ("ultrasound", "Ultrasound image (real)"),
    ("ct", "CT slice (real)"),
    ("mr", "MR slice (real)"),
)


def leave_a_core_to_the_window() -> None:
    """Keep torch off one core, so that the window's thread always finds one."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))


def _added_entry(path: Path) -> ModelEntry:
    """Return the entry of a checkpoint given by path; with what a folder's config tells, which is read at once."""
    from napari_llm4seg.checkpoint.card import read_config

    plain = ModelEntry(str(path), path.stem if path.is_file() else path.name, path)
    try:
        config = read_config(path)
    except LLM4SegError:  # said when it is chosen
        return plain
    return replace(plain, name=config.card.name or plain.name, card=config.card, look=look_of_model(config))


class Models:
    """``ModelSource`` on checkpoints, ``napari_llm4seg.predict`` and ``napari_llm4seg.io``.

    Parameters
    ----------
    added : sequence of str
        Paths of checkpoints that the person added before; those no longer there are left out.
    """

    def __init__(self, added: list[str] | None = None) -> None:
        self._added = [Path(path) for path in added or []]

    def catalogue(self) -> Catalogue:
        leave_a_core_to_the_window()
        warm_up()
        from napari_llm4seg.checkpoint import starters
        from napari_llm4seg.predict.device import available_devices, choose_device, describe_device

        entries = [
            ModelEntry(item.name, item.name, item.path, item.card, True, look_of_model(item.config))
            for item in starters()
        ]
        known = {entry.path for entry in entries}
        entries += [_added_entry(path) for path in self._added if path.exists() and path not in known]
        auto = describe_device(choose_device("auto"))
        devices = [("auto", f"auto: {auto}")]
        devices += [
            (key, key if title.lower() == key else f"{key}: {title}") for key, title in available_devices().items()
        ]
        return Catalogue(tuple(entries), tuple(devices))

    def load(self, entry: ModelEntry, device: str) -> Any:
        leave_a_core_to_the_window()
        from napari_llm4seg.predict import load_model

        predictor = load_model(str(entry.path), device)
        _warm_up(predictor)
        return predictor

    def configured(self, predictor: Any, config: PredictConfig) -> Any:
        return predictor.with_config(config)

    def series(self, path: Path, progress: Progress | None = None) -> list[SeriesInfo]:
        from napari_llm4seg.io import series

        return series(path, progress=progress)

    def read_scan(
        self, path: Path, numbers: Sequence[int | None] = (None,), progress: Progress | None = None
    ) -> list[Volume | TimeStack]:
        from napari_llm4seg.gui.reading import read_all

        return read_all(path, numbers, progress)

    def read_sample(self, key: str) -> list[Volume]:
        return sample(key)

    def find_cases(self, folder: Path, out: Path, cancel: Callable[[], bool]) -> Sequence[Any]:
        from napari_llm4seg.io.cases import find_cases

        return find_cases(folder, out, cancel)

    def segment_cases(
        self, predictor: Any, config: PredictConfig | None, cases: Sequence[Any], out: Path, ctx: Any
    ) -> list[Any]:
        from napari_llm4seg.predict.batch import run_batch
        from napari_llm4seg.predict.case import made_by, segment_case

        ready = predictor if config is None else self.configured(predictor, config)

        finished = 0

        def work(case: Any, place: Any) -> Any:
            def tell(done: int, total: int, message: str = "") -> None:
                ctx.progress(finished, len(cases), f"{case.name}: {message}" if total > 1 else case.name)

            return segment_case(ready, case, place, tell, ctx.cancelled).facts

        def ended(number: int, outcome: Any) -> None:
            nonlocal finished
            finished = number + 1
            ctx.partial(("ended", number, outcome))

        return run_batch(
            cases,
            out,
            work,
            made_by(ready),
            on_start=lambda number, case: ctx.partial(("started", number, case)),
            on_case=ended,
            cancel=ctx.cancelled,
        )

    def read_case(self, case: Any, facts: Mapping[str, Any]) -> list[Volume]:
        from napari_llm4seg.predict.case import read_result

        return list(read_result(case, facts))


def _warm_up(predictor: Any) -> None:
    """Do once what the first run would pay for: folding, the device's first kernels, the checkpoint's digest."""
    preprocess = predictor.checkpoint.config.preprocess
    grid = preprocess.patch or (1, *preprocess.size)
    predictor.predict(Volume(np.zeros((preprocess.n_channels, *grid), np.uint8)), keep_probabilities=False)
    _ = predictor.checkpoint.digest


def sample(key: str) -> list[Volume]:
    """Return the volumes of sample ``key``: the scan, and its mask where it is known."""
    from napari_llm4seg.io import samples

    if key == "ultrasound_phantom":
        return list(samples.ultrasound_phantom())
    if key == "ct_phantom":
        made: Any = samples.ct_phantom()
        return [made] if isinstance(made, Volume) else list(made)
    names: dict[str, Any] = {name: name for name in samples.REAL_SAMPLES}
    return [samples.real_sample(names[key])]
