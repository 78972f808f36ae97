"""Measures the inside of each trained network on its test images: the published analysis, arm by arm.

The network is run as it was trained, unfolded, on the images at its own input size; nothing is chosen by what is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import read_json, write_text
from training.study.plan import REPORT

ANALYSIS = "analysis.json"
_BATCH = 16


def analyse_run(folder: Path, device: str = "cpu") -> dict[str, Any]:
    """Measure one finished run, write its ``analysis.json`` and return it.

    Returns
    -------
    dict
        ``digest`` of the run's checkpoint, ``weights`` (trainable, total), ``groups`` (near-duplicate group of each
        test case) and ``cases``: for each the measures (``napari_llm4seg.activations.measure``) "before" and, where
        the network has a block, "after" it.

    Raises
    ------
    InputError
        If the test part differs from the run's, or the run is of volumes.
    """
    from napari_llm4seg.checkpoint import Checkpoint
    from napari_llm4seg.engine.data import load_cases, load_samples
    from napari_llm4seg.engine.recipe import Recipe

    report = read_json(folder / REPORT, "training report", limit=1 << 24)
    recipe = Recipe.model_validate(report["recipe"])
    if recipe.model.backbone.spatial_dims != 2:
        raise InputError(f"'{folder}' trained on volumes; the study's analysis takes slices so far.")
    names = set(read_json(folder / "split.json", "split", limit=1 << 24)["test"])
    cases = [case for case in load_cases(recipe.data) if case.name in names]
    if len(cases) != len(names):
        raise InputError(
            f"Of the {len(names)} test images of '{folder}', {len(cases)} are at hand. Give the same data."
        )
    samples = load_samples(cases, recipe.runs()[-1][0], recipe.model.classes)
    net = Checkpoint.load(folder / "checkpoint").build(device)
    rows = [{"case": name} | row for name, row in zip(samples.names, measure_net(net, samples, device), strict=True)]
    result = {
        "digest": report["digest"],
        "weights": count_weights(net),
        "groups": {case.name: case.group for case in cases},
        "input": list(samples.images.shape[-2:]),
        "cases": rows,
    }
    write_text(folder / ANALYSIS, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def measure_net(net: Any, samples: Any, device: str) -> list[dict[str, Any]]:
    """Return "before" and "after" measures of each sample."""
    import torch

    from napari_llm4seg.activations import ActivationRecorder
    from napari_llm4seg.activations.measure import AFTER, BEFORE, measure
    from napari_llm4seg.engine.data import IGNORE

    rows: list[dict[str, Any]] = []
    points = {"before": BEFORE} | ({"after": AFTER} if net.block is not None else {})
    for index in torch.arange(len(samples)).split(_BATCH):
        labels = samples.labels[index].numpy()
        truth = (labels > 0) & (labels != IGNORE)
        with ActivationRecorder(net, points.values(), "cpu") as recorder, torch.inference_mode():
            net(samples.images[index].to(device))
        found = {key: measure(recorder.activations, point, truth) for key, point in points.items()}
        rows += [{key: found[key][i] for key in points} for i in range(len(index))]
    return rows


def count_weights(net: Any) -> dict[str, int]:
    """Return how many numbers are trained, and how many there are with the frozen layers."""
    parameters = list(net.parameters())
    return {
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "total": sum(p.numel() for p in parameters),
    }


def analyse_all(runs: Path, device: str, again: bool, say: Callable[[str], None]) -> None:
    """Analyse every finished run below ``runs`` that has not been since it was trained, or all of them."""
    for path in sorted(runs.glob(f"*/*/seed*/{REPORT}")):
        folder = path.parent
        digest = read_json(path, "training report", limit=1 << 24)["digest"]
        there = folder / ANALYSIS
        old = read_json(there, ANALYSIS, limit=1 << 24).get("digest") if there.is_file() else None
        if again or old != digest:
            say(f"analysing {folder.relative_to(runs)}")
            analyse_run(folder, device)
