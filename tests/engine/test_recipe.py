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
from napari_llm4seg.errors import CheckpointError, ConfigError, InputError


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


def test_the_papers_protocol_trains_on_the_rest_and_says_so(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file, ["stages=[]", "split={protocol: paper}"])
    checkpoint, split, _ = train_recipe(recipe, tmp_path / "out", device="cpu")
    assert (len(split.train), len(split.val), len(split.test)) == (14, 6, 6)
    assert split.val == split.test
    assert checkpoint.config.card.training["protocol"] == "paper"


def write_yaml(path: Path, values: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_recipe_changes_its_base_mapping_by_mapping(recipe_file: Path, tmp_path: Path) -> None:
    write_yaml(tmp_path / "block.yaml", {"model": {"block": {"hidden": 8}}, "fit": {"lr": 0.5}})
    middle = {"base": "../recipe.yaml", "fit": {"lr": 0.25}, "stages": [{"size": [24, 24]}]}
    write_yaml(tmp_path / "deep" / "middle.yaml", middle)
    top = {"base": ["deep/middle.yaml", "block.yaml"], "card": {"name": "top"}, "data": {"index": None, "group": None}}
    top["data"]["stratum"] = None  # type: ignore[index]
    recipe = load_recipe(write_yaml(tmp_path / "top.yaml", top), ["fit.batch=3"])
    below = load_recipe(recipe_file)
    assert recipe.model.backbone == below.model.backbone
    assert recipe.model.block is not None
    assert recipe.model.block.hidden == 8
    assert (recipe.fit.lr, recipe.fit.epochs, recipe.fit.batch) == (0.5, 1, 3)
    assert [stage.size for stage in recipe.stages] == [(24, 24)]
    assert (recipe.card.name, recipe.card.modality) == ("top", "made")
    assert (recipe.data.images, recipe.data.index) == ("images", None)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a": {"base": "a.yaml"}}, r"a\.yaml on a\.yaml"),
        ({"a": {"base": "b.yaml"}, "b": {"base": "./c.yaml"}, "c": {"base": "b.yaml"}}, r"c\.yaml on b\.yaml"),
        ({"a": {"base": "absent.yaml"}}, r"absent\.yaml', the base of 'a\.yaml', cannot be read"),
        ({"a": {"base": "b.yaml"}, "b": ["list"]}, r"b\.yaml', the base of 'a\.yaml', holds a list"),
        ({"a": {"base": {"file": "b.yaml"}}}, "base needs the name"),
        ({"a": {"base": ["b.yaml", 3]}}, "base needs the name"),
    ],
)
def test_a_base_that_does_not_serve_is_one_line(tmp_path: Path, files: dict[str, object], words: str) -> None:
    for name, values in files.items():
        write_yaml(tmp_path / f"{name}.yaml", values)
    with pytest.raises(ConfigError, match=words) as caught:
        load_recipe(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_two_recipes_may_share_a_base(recipe_file: Path, tmp_path: Path) -> None:
    write_yaml(tmp_path / "left.yaml", {"base": "recipe.yaml"})
    write_yaml(tmp_path / "right.yaml", {"base": "recipe.yaml", "fit": {"epochs": 5}})
    assert load_recipe(write_yaml(tmp_path / "top.yaml", {"base": ["left.yaml", "right.yaml"]})).fit.epochs == 5


def test_layers_by_name_become_what_they_refer_to(recipe_file: Path) -> None:
    block = "model.block={layers: [{llm: smollm2-135m, index: 14}]}"
    recipe = load_recipe(recipe_file, [block])
    assert recipe.model.block is not None
    (layer,) = recipe.model.block.layers
    assert (layer.repository, layer.index) == ("HuggingFaceTB/SmolLM2-135M-Instruct", 14)
    assert len(layer.sha256) == 64
    assert recipe.model.block.hidden == 576
    whole = f"model.block={{layers: [{json.dumps(layer.model_dump())}]}}"
    assert load_recipe(recipe_file, [whole]) == recipe
    default = load_recipe(recipe_file, ["model.block={layers: [{llm: smollm2-135m}], positions: axial}"])
    assert default.model.block is not None
    assert (default.model.block.layers, default.model.block.positions) == ((layer,), "axial")


def test_the_width_is_the_layers_where_none_is_said(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "layers" / "made"
    pack = {"repository": "meta-llama/Llama-3.2-1B", "revision": "made", "index": 14, "sha256": "0" * 64}
    write_yaml(folder / "pack.json", pack)
    (folder / "pack.json").write_text(json.dumps(pack))
    (folder / "config.json").write_text(json.dumps({"hidden_size": 48}))
    block = load_recipe(recipe_file, ["model.block={layers: [{llm: llama-3.2-1b}]}"]).model.block
    assert block is not None
    assert (block.hidden, block.layers[0].model_dump()) == (48, pack)
    said = load_recipe(recipe_file, ["model.block={layers: [{llm: llama-3.2-1b}], hidden: 64}"]).model.block
    assert said is not None
    assert said.hidden == 64


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("{llm: llama-3.2-1b, index: 3}", "not at hand. Fetch it: llm4seg models fetch llama-3.2-1b --layer 3$"),
        ("{llm: 'hf:some/model', index: 2}", "llm4seg models fetch hf:some/model --layer 2$"),
        ("{llm: 'hf:some/model'}", "0-based index"),
        ("{llm: smollm2-135m, index: 30}", "layers 0 to 29"),
        ("{llm: 'random:none'}", "no language model"),
        ("{llm: smollm2-135m, layer: 3}", "form"),
        ("{llm: smollm2-135m, index: last}", "form"),
        ("{llm: 7}", "form"),
        ("smollm2-135m", r"model\.block\.layers\.0"),
    ],
)
def test_a_layer_that_cannot_be_had_is_one_line(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, words: str
) -> None:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))
    with pytest.raises((ConfigError, CheckpointError), match=words) as caught:
        load_recipe(recipe_file, [f"model.block={{layers: [{layer}]}}"])
    assert "\n" not in str(caught.value)
