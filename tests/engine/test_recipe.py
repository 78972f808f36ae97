"""Recipes are checked on entry, and a run by recipe never reads its test part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.engine import run as run_module
from napari_llm4seg.engine.data import Case
from napari_llm4seg.engine.recipe import load_recipe
from napari_llm4seg.engine.run import train_recipe
from napari_llm4seg.errors import ConfigError, InputError


@pytest.fixture
def recipe_file(made_folder: Path, tmp_path: Path) -> Path:
    recipe = {
        "data": {
            "root": str(made_folder),
            "images": "images",
            "masks": "masks",
            "index": "index.csv",
            "group": "near_duplicate_group",
            "stratum": "class",
        },
        "split": {"val": 0.2, "test": 0.2},
        "model": {"backbone": {"in_channels": 1, "widths": [4, 8], "depths": [1, 1], "kernels": [3, 3]}},
        "preprocess": {"size": [32, 32]},
        "fit": {"epochs": 1, "batch": 4, "augment": "none"},
        "stages": [{"size": [16, 16]}, {"size": [32, 32], "fit": {"epochs": 2}}],
        "card": {"name": "discs", "modality": "made"},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_overrides_reach_their_field(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file, ["fit.epochs=7", "stages=[]", "data.limit=10", "predict.flips=true"])
    assert recipe.fit.epochs == 7
    assert recipe.stages == ()
    assert recipe.data.limit == 10
    assert recipe.predict.flips
    assert [(p.size, f.epochs) for p, f in recipe.runs()] == [((32, 32), 7)]


def test_stages_change_only_what_they_name(recipe_file: Path) -> None:
    runs = load_recipe(recipe_file).runs()
    assert [(p.size, f.epochs, f.batch) for p, f in runs] == [((16, 16), 1, 4), ((32, 32), 2, 4)]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("fit.epochs=none", "epochs"),
        ("fit.speed=1", "speed"),
        ("nonsense", "key=value"),
        ("card.name.deep=1", "no group"),
        ("fit.lr=[", "no YAML"),
        ("stages=[{size: [32, 32], fit: {lr: -1}}]", "lr"),
        ("preprocess.channels=rgb", "mean and sd"),
        ("model.backbone.in_channels=3", "backbone takes 3"),
        ("stages=[{size: [0, 0]}]", "8 to 8192"),
        ("card.name=2026-99-99", "no YAML"),
        ("fit.clip=-1", "clip"),
        ("model.backbone={kind: unet, spatial_dims: 3, widths: [2, 4]}", "no stages"),
        ("model.classes=[{value: 255, name: lesion}]", "below 255"),
    ],
)
def test_a_wrong_setting_is_said_in_one_line(recipe_file: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load_recipe(recipe_file, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["- a list", "a: [", "", "a: 2026-99-99", "[" * 5000])
def test_a_file_that_is_no_recipe_is_said_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"r\.yaml"):
        load_recipe(path)
    with pytest.raises(ConfigError, match="absent"):
        load_recipe(tmp_path / "absent.yaml")


def test_a_run_makes_a_checkpoint_and_never_reads_its_test_part(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()
    original = run_module.load_samples

    def spy(cases: Sequence[Case], *args: object) -> object:
        read.update(case.name for case in cases)
        return original(cases, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(run_module, "load_samples", spy)
    events: list[tuple[int, int, int]] = []
    checkpoint, split, _cases = train_recipe(
        load_recipe(recipe_file),
        tmp_path / "out",
        device="cpu",
        on_event=lambda stage, stages, e: events.append((stage, stages, e.epoch)) if e.kind == "validated" else None,
    )
    assert read == set(split.train) | set(split.val)
    assert not read & set(split.test)
    assert events == [(0, 2, 1), (1, 2, 1), (1, 2, 2)]
    loaded = Checkpoint.load(tmp_path / "out" / "checkpoint")
    assert loaded.digest == checkpoint.digest
    assert loaded.build()(torch.zeros(1, 1, 20, 30)).shape == (1, 1, 20, 30)
    facts = loaded.config.card.training
    assert facts["cases"] == {"train": len(split.train), "val": len(split.val), "test": len(split.test)}
    assert [stage["fit"]["epochs"] for stage in facts["stages"]] == [1, 2]
    assert json.loads((tmp_path / "out" / "split.json").read_text())["test"] == list(split.test)


def test_stages_of_the_same_input_read_it_once(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    original = run_module.load_samples

    def spy(cases: Sequence[Case], config: PreprocessConfig, *args: object) -> object:
        sizes.append(config.size)
        return original(cases, config, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(run_module, "load_samples", spy)
    stages = "stages=[{size: [16, 16]}, {size: [32, 32]}, {size: [32, 32], fit: {lr: 0.0001}}]"
    train_recipe(load_recipe(recipe_file, [stages]), tmp_path / "out", device="cpu")
    assert sizes == [(16, 16), (16, 16), (32, 32), (32, 32)]  # train and validation, each once per size


def test_another_split_in_the_same_folder_is_refused(recipe_file: Path, tmp_path: Path) -> None:
    train_recipe(load_recipe(recipe_file, ["stages=[]"]), tmp_path / "out", device="cpu")
    with pytest.raises(InputError, match="another split"):
        train_recipe(load_recipe(recipe_file, ["stages=[]", "split.seed=5"]), tmp_path / "out", device="cpu")
