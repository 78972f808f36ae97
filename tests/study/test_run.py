"""Running a plan: real trainings of two steps, resumed, shared and failing."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_llm4seg.cli import app as cli
from tests.study.made import PLAN, write_images, write_plan
from training.study.plan import read_plan
from training.study.run import Busy, claimed, run_plan


def in_this_process(command: list[str], **_: object) -> int:
    """Run ``python -m napari_llm4seg.cli ...`` here: a new process would spend most of the test on imports."""
    assert command[:3] == [sys.executable, "-m", "napari_llm4seg.cli"]
    return cli.run(command[3:])


@pytest.mark.slow
def test_two_tiny_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4SEG_DATA", str(write_images(tmp_path / "data")))
    monkeypatch.setattr(subprocess, "call", in_this_process)
    raw = copy.deepcopy(PLAN) | {"seeds": [3], "variants": {}}
    raw["arms"] = {name: raw["arms"][name] for name in ("cnn", "adapters")}
    raw["arms"]["cnn"]["set"] |= {"fit.epochs": 1}
    raw["arms"]["adapters"]["set"] |= {"fit.epochs": 1}
    path, out = write_plan(tmp_path, raw), tmp_path / "runs"
    said: list[str] = []
    assert run_plan(read_plan(path), path, out, device="cpu", say=said.append) == []
    assert said == [f"discs/{arm}/seed3: {word}" for arm in ("cnn", "adapters") for word in ("started", "done")]
    for arm in ("cnn", "adapters"):
        folder = out / "discs" / arm / "seed3"
        report = json.loads((folder / "report.json").read_text())
        note = json.loads((folder / "study.json").read_text())
        assert report["recipe"]["fit"]["seed"] == note["seed"] == 3
        assert report["name"] == f"study-discs-{arm}-seed3"
        assert note["finished"] >= note["started"]
        assert len((folder / "stage1" / "log.csv").read_text().splitlines()) == 2
    assert not list(out.glob("**/*.running"))
    assert (out / "plan.yaml").is_file()
    said.clear()
    run_plan(read_plan(path), path, out, device="cpu", say=said.append)
    assert said == []  # nothing is trained twice

    from training.study.analyse import analyse_all

    analyse_all(out, "cpu", again=False, say=said.append)
    found = {arm: json.loads((out / "discs" / arm / "seed3" / "analysis.json").read_text()) for arm in raw["arms"]}
    split = json.loads((out / "discs" / "cnn" / "seed3" / "split.json").read_text())
    for arm, analysis in found.items():
        assert [row["case"] for row in analysis["cases"]] == split["test"]
        assert all(("after" in row) == (arm == "adapters") for row in analysis["cases"])
        assert set(analysis["groups"]) == set(split["test"])
    # the adapters' 8 x 16 and 16 x 8 weights and their biases
    assert found["adapters"]["weights"]["trainable"] - found["cnn"]["weights"]["trainable"] == 2 * 8 * 16 + 16 + 8


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = write_plan(tmp_path), tmp_path / "runs"
    trained: list[list[str]] = []

    def train(command: list[str], **_: object) -> int:
        trained.append(command)
        return 1 if "adapters" in command[command.index("-o") + 1] else 0

    monkeypatch.setattr(subprocess, "call", train)
    said: list[str] = []
    failed = run_plan(read_plan(path), path, out, only=("cnn", "adapters"), jobs=2, say=said.append)
    assert {(run.arm, run.seed) for run in failed} == {("adapters", 0), ("adapters", 1)}
    assert len(trained) == 4
    assert any("status 1, see" in text for text in said)
    assert not list(out.glob("**/*.running"))


def test_a_run_that_another_process_trains_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "discs" / "cnn" / "seed0"
    with claimed(folder):
        mark = folder.with_name("seed0.running")
        assert mark.read_text().split()[0] == str(os.getpid())
        with pytest.raises(Busy, match="another process"), claimed(folder):
            pass
        assert mark.exists()
    assert not mark.exists()


def test_the_mark_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "seed0"
    with claimed(folder):
        text = folder.with_name("seed0.running").read_text()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    words = text.split()
    folder.with_name("seed0.running").write_text(" ".join([dead.stdout.strip(), *words[1:]]))
    with claimed(folder):
        pass
    assert not folder.with_name("seed0.running").exists()
    folder.with_name("seed0.running").write_text(" ".join([dead.stdout.strip(), words[1], "elsewhere"]))
    with pytest.raises(Busy), claimed(folder):
        pass
