"""Every recipe runs: two optimiser steps of each stage on made images, then a checkpoint that predicts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.engine.recipe import load_recipe
from napari_llm4seg.engine.run import train_recipe
from napari_llm4seg.io import read, write
from napari_llm4seg.predict import Predictor
from napari_llm4seg.volume import Volume

RECIPES = sorted((Path(__file__).resolve().parents[2] / "training" / "recipes").glob("*.yaml"))


def make_data(root: Path, raw: dict[str, Any], cases: int = 6) -> None:
    """Write images or volumes, masks and the index that ``data`` of a recipe asks for."""
    data = raw["data"]
    volumetric = raw["model"]["backbone"].get("spatial_dims") == 3
    y, x = np.mgrid[:48, :64]
    rows = []
    for i in range(cases):
        mask = (y - 24) ** 2 + (x - 20 - 4 * i) ** 2 < 100
        image = np.random.default_rng(i).uniform(0, 90, mask.shape) + 120 * mask
        for folder, values in ((data["images"], image), (data["masks"], mask if volumetric else 255 * mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            if volumetric:
                volume = Volume(np.stack([values[10:38:2, 10:60:2].astype(np.uint8)] * 9)[None], np.eye(4), unit="mm")
                write(root / folder / f"case{i}.nii.gz", volume)
            else:
                Image.fromarray(values.astype(np.uint8)).save(root / folder / f"case{i}.png")
        rows.append(
            {data.get("file", "file"): f"case{i}.png", data.get("group", "g"): i, data.get("stratum", "s"): "a"}
        )
    if data.get("index"):
        with (root / data["index"]).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def short(raw: dict[str, Any]) -> list[str]:
    """Return overrides that leave four training images in two batches, once through each stage."""
    stages = [{**stage, "fit": {**stage.get("fit", {}), "epochs": 1, "batch": 2}} for stage in raw.get("stages", ())]
    return [
        "fit.epochs=1",
        "fit.batch=2",
        "split.val=0.17",
        "split.test=0.17",
        *(["preprocess.patch=[8, 16, 16]"] if raw["preprocess"].get("patch") else []),
        *(["data.keep=[]"] if raw["data"].get("keep") else []),
        *([f"stages={json.dumps(stages)}"] if stages else []),
    ]


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_two_steps_of_every_stage(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    make_data(tmp_path / "data", raw)
    monkeypatch.setenv("LLM4SEG_DATA", str(tmp_path / "data"))
    recipe = load_recipe(path, short(raw))
    steps: dict[int, list[float]] = {}

    def note(stage: int, stages: int, event: Any) -> None:
        if event.kind == "step":
            steps.setdefault(stage, []).append(event.loss)

    checkpoint, split, _ = train_recipe(recipe, tmp_path / "run", device="cpu", on_event=note)
    assert [len(losses) for losses in steps.values()] == [2] * len(recipe.runs())
    assert all(np.isfinite(losses).all() for losses in steps.values())
    assert (len(split.train), len(split.val), len(split.test)) == (4, 1, 1)
    read_back = Checkpoint.load(tmp_path / "run" / "checkpoint")
    assert read_back.digest == checkpoint.digest
    scan_file = next((tmp_path / "data" / raw["data"]["images"]).glob(f"{split.test[0]}.*"))
    scan = read(scan_file)
    prediction = Predictor(read_back, "cpu").predict(scan)
    assert prediction.labels.shape == scan.grid
    assert prediction.probabilities is not None
    assert np.isfinite(prediction.probabilities).all()


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_frozen_layer_stays_out_of_the_checkpoint(path: Path) -> None:
    from napari_llm4seg.models.build import build_network

    config = load_recipe(path).model
    net = build_network(config)
    names = set(net.trained_tensors())
    if config.block is None or not config.block.frozen:
        pytest.skip("this recipe freezes no layer")
    assert not any(name.startswith("block.layers.") for name in names)
    assert not any(p.requires_grad for n, p in net.named_parameters() if n.startswith("block.layers."))
    assert sum(t.numel() * t.element_size() for n, t in net.state_dict().items() if n in names) < 15e6
    assert all(torch.isfinite(t).all() for t in net.state_dict().values())
