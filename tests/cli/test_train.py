"""``llm4seg train``: a run on made images, its one test, its stop and its resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.cli import train as train_module
from napari_llm4seg.predict import evaluate as evaluate_module
from tests.cli.helpers import RECIPE, write_discs

pytestmark = pytest.mark.slow  # loads lightning-fabric and MONAI


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> tuple[Path, Path]:
    """A recipe on twelve made images, three of them without a disc, and the folder for the run."""
    root = tmp_path / "data"
    write_discs(root, lambda y, x, i: (y - 16) ** 2 + (x - 16) ** 2 < (0 if i % 4 == 0 else 60 + 10 * i))
    monkeypatch.setenv("LLM4SEG_DATA", str(root))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    return recipe, tmp_path / "run"


def test_the_test_part_is_looked_at_once(llm4seg, run, monkeypatch) -> None:
    recipe, out = run
    first = llm4seg("train", recipe, "-o", out, "--device", "cpu", "--json")
    assert first.status == 0
    report = first.json
    scores = report["scores"]
    split = json.loads((out / "split.json").read_text())
    assert scores["test_n"] == len(split["test"]) == scores["n_lesion"] + scores["n_normals"]
    assert {row["case"] for row in report["test_cases"]} == set(split["test"])
    assert report["protocol"] == report["training"]["protocol"] == "locked"
    assert "used for nothing else" in scores["how"]
    assert 0 <= scores["iou_lesion"] <= scores["dice_lesion"] <= 1
    assert scores["val_iou"] == report["training"]["stages"][0]["val_iou"]
    checkpoint = Checkpoint.load(out / "checkpoint")
    assert checkpoint.config.card.scores == scores
    assert checkpoint.digest == report["digest"]
    said = [text for text in first.err.splitlines() if text.startswith("epoch")]
    assert [text.split(":")[0] for text in said] == ["epoch 1/2", "epoch 2/2"]

    def refuse(*_, **__):
        raise AssertionError("looked again")

    monkeypatch.setattr(evaluate_module, "evaluate_pairs", refuse)
    second = llm4seg("train", recipe, "-o", out, "--device", "cpu", "--json")
    assert second.status == 0
    assert second.json == report
    other = llm4seg("train", recipe, "-o", out, "--set", "fit.lr=0.5")
    assert other.status == 2
    assert "another recipe" in other.err


def test_the_papers_protocol_says_that_the_figure_is_no_test(llm4seg, run) -> None:
    recipe, out = run
    changes = ("--set", "split={protocol: paper}", "--set", "fit.epochs=1")
    answer = llm4seg("train", recipe, "-o", out, "--device", "cpu", *changes, "--json")
    assert answer.status == 0
    report = answer.json
    assert report["protocol"] == report["training"]["protocol"] == "paper"
    assert "chosen on the reported images" in report["scores"]["how"]
    assert "testing once" not in answer.err
    split = json.loads((out / "split.json").read_text())
    assert {row["case"] for row in report["test_cases"]} == set(split["test"]) == set(split["val"])
    assert "chosen on the reported images" in (out / "checkpoint" / "README.md").read_text()
    words = llm4seg("train", recipe, "-o", out, "--device", "cpu", *changes)
    assert "tested once" not in words.out
    assert "chosen on the reported images" in words.out
    assert "expect less on new images" in words.out


def test_ctrl_c_can_be_taken_up_again(llm4seg, run, monkeypatch, tmp_path) -> None:
    recipe, out = run
    whole = llm4seg("train", recipe, "-o", tmp_path / "whole", "--device", "cpu", "--json").json

    def stopping(bar):
        def tell(stage, stages, event):
            if event.kind == "step" and event.epoch == 1:
                raise KeyboardInterrupt

        return tell

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "teller", stopping)
        stopped = llm4seg("train", recipe, "-o", out, "--device", "cpu")
    assert stopped.status == 130
    assert "goes on" in stopped.err
    assert not (out / "checkpoint").exists()
    assert not (out / "report.json").exists()
    resumed = llm4seg("train", recipe, "-o", out, "--device", "cpu", "--json").json
    assert resumed["digest"] == whole["digest"]
    assert resumed["scores"] == whole["scores"]


@pytest.mark.parametrize(
    ("change", "words"), [("fit.epochs=many", "fit.epochs"), ("nonsense", "key=value"), ("fit.speed=3", "fit.speed")]
)
def test_wrong_settings_are_one_line(llm4seg, run, change, words) -> None:
    recipe, out = run
    answer = llm4seg("train", recipe, "-o", out, "--set", change)
    assert answer.status == 2
    assert words in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert not out.exists()


def test_the_cases_are_looked_for_once(llm4seg, run, monkeypatch) -> None:
    from napari_llm4seg.engine import check, data
    from napari_llm4seg.engine import run as engine_run

    found = []

    def counted(*arguments):
        found.append(data.load_cases(*arguments))
        return found[-1]

    for module in (check, engine_run):
        monkeypatch.setattr(module, "load_cases", counted)
    assert llm4seg("train", run[0], "-o", run[1], "--device", "cpu", "--set", "fit.epochs=1").status == 0
    assert len(found) == 1, "near-duplicates of thousands of images take a minute to find"


def test_everything_wrong_is_said_at_once_before_any_training(llm4seg, run) -> None:
    recipe, out = run
    root = recipe.parent / "data"
    (root / "masks" / "c03.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((20, 32), np.uint8)).save(root / "masks" / "c05.png")
    mask = np.zeros((32, 32), np.uint8)
    mask[0, 0] = 7
    Image.fromarray(mask).save(root / "masks" / "c07.png")
    two = [{"value": 1, "name": "disc"}, {"value": 255, "name": "ring"}]
    layer = {"repository": "made/none", "revision": "1", "index": 3, "sha256": "0" * 64}
    changes = {
        "fit.learningrate": 3,
        "fit.warmup_epoch": 3,
        "fit.epochs": "many",
        "model.classes": [{"value": 1, "name": "disc"}, {"value": 2, "name": "ring"}],
        "model.block": {"layers": [layer]},
        "split.val": 0.01,
    }
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    answer = llm4seg("train", recipe, "-o", out, *settings, "--json")
    assert answer.status == 2
    objections = answer.json["objections"]
    for words in (
        "fit.learningrate: there is no such setting",
        "fit.warmup_epoch: there is no such setting; did you mean 'warmup_epochs'?",
        "fit.epochs",
        "made/none",
        "leave the val part empty",
        "c03.png",
        "c05.png",
        "label 7",
    ):
        assert sum(words in text for text in objections) == 1, (words, objections)
    assert len(objections) == 8
    assert all(len(text.splitlines()) == 1 for text in objections)
    assert len(answer.err.strip().splitlines()) == 9
    assert "8 objections; nothing was begun" in answer.err
    assert not out.exists()
    gone = llm4seg(
        "train", recipe, "-o", out, *["--set", f"model.classes={json.dumps(two)}"], "--set", "data.masks=absent"
    )
    assert gone.status == 2
    assert "255" in gone.err
    assert "absent" in gone.err
    (root / "masks" / "c01.png").unlink()
    assert "c01.png" in llm4seg("train", recipe, "-o", out).err


def test_the_first_objections_are_printed_and_all_are_in_the_json(llm4seg, run) -> None:
    recipe, out = run
    settings = [part for i in range(30) for part in ("--set", f"fit.wrong{i}=1")]
    answer = llm4seg("train", recipe, "-o", out, *settings, "--json")
    assert answer.status == 2
    assert len(answer.json["objections"]) == 30
    assert "30 objections, 10 of them not shown" in answer.err
    assert len(answer.err.strip().splitlines()) == 21


def test_a_missing_recipe(llm4seg, tmp_path) -> None:
    answer = llm4seg("train", tmp_path / "none.yaml", "-o", tmp_path / "run")
    assert answer.status == 2
    assert len(answer.err.strip().splitlines()) == 1
