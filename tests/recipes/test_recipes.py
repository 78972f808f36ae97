"""Every recipe runs: two optimiser steps of each stage on made images, then a checkpoint that predicts.

The files have the layout and names of the recipe's data set, images and networks are cut down, and the language
models' layers are made ones of the shape's family under the names that the recipes ask for.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import ModelConfig
from napari_llm4seg.engine.recipe import load_recipe, read_settings
from napari_llm4seg.engine.run import train_recipe
from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.io import read, write
from napari_llm4seg.models.build import build_network
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import write_pack
from napari_llm4seg.models.paper import paper_config
from napari_llm4seg.models.registry import LANGUAGE_MODELS
from napari_llm4seg.models.spec import LayerSpec
from napari_llm4seg.models.unet import unet_config
from napari_llm4seg.predict import Predictor
from napari_llm4seg.volume import Volume

FOLDER = Path(__file__).resolve().parents[2] / "training" / "recipes"
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name != "parts")
PAPER = FOLDER / "paper"
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


@pytest.fixture(scope="module")
def made_layers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Small layers where the recipes look for those of the language models."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM4SEG_CACHE", str(cache))
        for name, repository, revision, index in (
            ("llama-3.2-1b", None, "made", 14),
            ("deepseek-r1-distill-qwen-1.5b", None, "made", 27),
            ("llama-3.2-1b", "random/llama-3.2-1b", "seed-0", 0),
        ):
            model = LANGUAGE_MODELS[name]
            config = {**model.config, **SMALL}
            tensors = LLMLayer.random(LayerSpec.from_config(config), index).state_dict()
            where = {"repository": repository or model.repository, "revision": revision, "index": index}
            write_pack(cache / "layers" / f"{name}-{index}", tensors, config, **where)
        yield


def make_data(root: Path, raw: dict[str, Any], cases: int = 6) -> None:
    """Write images or volumes, masks and the index that ``data`` of a recipe asks for."""
    data = raw["data"]
    volumetric = raw["model"]["backbone"].get("spatial_dims") == 3
    suffix = ".nii.gz" if volumetric else ".PNG" if "tnscui" in data["images"] else ".png"
    y, x = np.mgrid[:40, :48]
    rows = []
    for i in range(cases):
        mask = (y - 20) ** 2 + (x - 14 - 4 * i) ** 2 < 80
        image = np.random.default_rng(i).uniform(0, 90, mask.shape) + 120 * mask
        for kind, values in (("image", image), ("mask", mask if volumetric else 255 * mask)):
            folder = root / data[f"{kind}s"]
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / (data.get(f"{kind}_name", "{}").replace("{}", f"{i:04d}") + suffix)
            if volumetric:
                stack = np.stack([values[8:36:2, 8:58:2].astype(np.uint8)] * 9)
                write(file, Volume(stack[None], np.eye(4), unit="mm"))
            else:
                Image.fromarray(values.astype(np.uint8)).save(file)
        row = {data.get("file", "file"): f"{i:04d}{suffix}", data.get("group", "g"): i}
        rows.append(row | {data.get("stratum", "s"): data.get("keep", ["a"])[0]})
    if data.get("index"):
        with (root / data["index"]).open("w", newline="") as file_:
            writer = csv.DictWriter(file_, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def small_network(raw: dict[str, Any]) -> list[str]:
    """Return overrides that leave the backbone its kind and stages, and take its width."""
    backbone = raw["model"]["backbone"]
    n = len(backbone["widths"])
    cut = {"widths": [4] * (n - 1) + [8]}
    if backbone["kind"] == "cmunext":
        cut |= {"depths": [1] * n, "kernels": [3] * n}
    return [f"model.backbone.{key}={value}" for key, value in cut.items()]


def short(raw: dict[str, Any]) -> list[str]:
    """Return overrides that leave four small training images in two batches, once through each stage."""
    shrunk = [32, 32] if len(raw.get("stages", ())) < 2 else None
    stages = [
        {"size": [side // 8 for side in stage["size"]], "fit": {**stage.get("fit", {}), "epochs": 1, "batch": 2}}
        for stage in raw.get("stages", ())
    ]
    volumetric = "patch" in raw["preprocess"]
    return [
        *small_network(raw),
        "fit.epochs=1",
        "fit.batch=2",
        *(["split.test=0.34"] if raw["split"].get("protocol") == "paper" else ["split.val=0.17", "split.test=0.17"]),
        *([f"data.keep={raw['data']['keep'][:1]}"] if raw["data"].get("keep") else []),
        # torch's bf16 weight gradient of a 3-D convolution on a CPU reads memory it did not write on grids this small
        *(["preprocess.patch=[16, 32, 32]", "fit.patches_per_volume=1", "fit.precision='32'"] if volumetric else []),
        *([f"preprocess.size={shrunk}"] if shrunk and not volumetric else []),
        *([f"stages={json.dumps(stages)}"] if stages else []),
    ]


def test_there_are_recipes() -> None:
    assert len(RECIPES) > 40


@pytest.mark.slow
@pytest.mark.usefixtures("made_layers")
@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_two_steps_of_every_stage(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = read_settings(path)
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
    held_back = 2 if recipe.split.protocol == "paper" else 1
    assert (len(split.train), len(split.val), len(split.test)) == (4, held_back, held_back)
    assert (split.val == split.test) == (recipe.split.protocol == "paper")
    read_back = Checkpoint.load(tmp_path / "run" / "checkpoint")
    assert read_back.digest == checkpoint.digest
    scan_file = next((tmp_path / "data" / raw["data"]["images"]).glob(f"{split.test[0]}.*"))
    scan = read(scan_file)
    prediction = Predictor(read_back, "cpu").predict(scan)
    assert prediction.labels.shape == scan.grid
    assert prediction.probabilities is not None
    assert np.isfinite(prediction.probabilities).all()


def layers_in(config: ModelConfig, checkpoint: set[str]) -> bool:
    """Return whether a checkpoint of these names holds the language model's layers."""
    assert config.block is not None
    return any(name.startswith("block.layers.") for name in checkpoint)


@pytest.mark.slow
@pytest.mark.usefixtures("made_layers")
@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_the_layer_is_in_the_checkpoint_where_it_is_trained_and_only_there(path: Path) -> None:
    raw = read_settings(path)
    by_name = any("llm" in layer for layer in ((raw["model"].get("block") or {}).get("layers") or ()))
    config = load_recipe(path, small_network(raw) if by_name or path.parent == PAPER else ()).model
    net = build_network(config)
    names = set(net.trained_tensors())
    if config.block is None:
        assert not any(name.startswith("block.") for name in names)
        return
    assert layers_in(config, names) != config.block.frozen
    trainable = [p.requires_grad for n, p in net.named_parameters() if n.startswith("block.layers.")]
    assert trainable
    assert all(flag != config.block.frozen for flag in trainable)
    assert sum(t.numel() * t.element_size() for n, t in net.state_dict().items() if n in names) < 15e6
    assert all(torch.isfinite(t).all() for t in net.state_dict().values())


ARMS = ("", "_llama", "_deepseek", "_llama_trainable", "_deepseek_trainable", "_random_trainable")


def test_every_row_of_the_public_data_is_there() -> None:
    rows = {f"{data}_{net}{arm}" for data in ("busi", "isic", "kvasir") for net in ("unet", "cmunext") for arm in ARMS}
    rows |= {f"tnscui_{net}{arm}" for net in ("unet", "cmunext") for arm in ARMS[:2]}
    rows |= {f"btcv_dynunet{arm}" for arm in ARMS[:3]}
    assert {path.stem for path in PAPER.glob("*.yaml")} == rows


@pytest.mark.usefixtures("made_layers")
@pytest.mark.parametrize("path", sorted(PAPER.glob("[!b]*_*.yaml")) + sorted(PAPER.glob("busi_*.yaml")), ids=name_of)
def test_the_papers_rows_are_what_was_published(path: Path) -> None:
    recipe = load_recipe(path)
    block = recipe.model.block
    backbone = unet_config(3) if "unet" in path.stem.split("_") else None
    expected = paper_config(None if block is None else "llama", backbone=backbone)
    assert recipe.model.backbone == expected.model.backbone
    assert recipe.preprocess == expected.preprocess
    assert recipe.predict == expected.predict
    assert (recipe.split.protocol, recipe.split.val, recipe.split.test) == ("paper", 0.3, 0.3)
    assert recipe.card.name == path.stem.replace("_", "-")
    fit = recipe.fit
    assert (fit.optimiser, fit.lr, fit.momentum, fit.weight_decay, fit.schedule) == ("sgd", 0.01, 0.9, 1e-4, "poly")
    assert (fit.epochs, fit.batch, fit.bce_weight, fit.dice_weight, fit.augment) == (300, 8, 0.5, 1, "paper")
    if block is None:
        assert path.stem.count("_") == 1
        return
    assert expected.model.block is not None
    changed = {"layers": (), "frozen": True, "hidden": expected.model.block.hidden}
    assert block.model_copy(update=changed) == expected.model.block
    assert block.frozen != path.stem.endswith("_trainable")
    (layer,) = block.layers
    arm = path.stem.split("_")[2]
    assert layer.index == {"llama": 14, "deepseek": 27, "random": 0}[arm]
    assert arm in layer.repository.lower()


def test_a_row_whose_layer_is_not_at_hand_says_how_to_fetch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"llm4seg models fetch llama-3\.2-1b --layer 14$"):
        load_recipe(PAPER / "busi_unet_llama.yaml")
