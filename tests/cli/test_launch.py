"""One training on two processes: the same result as on one, and no silence when one of them is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.cli import launch

# Batches of 5 over 7 images: shares of 3 and 2, then a last batch of 1 and 1.
RECIPE = {
    "data": {"images": "images", "masks": "masks"},
    "split": {"val": 0.25, "test": 0.2},
    "model": {"backbone": {"kind": "cmunext", "widths": [4, 8], "depths": [1, 1], "kernels": [3, 3]}},
    "preprocess": {"size": [32, 32]},
    "fit": {
        "epochs": 12,
        "batch": 5,
        "augment": "paper",
        "optimiser": "sgd",
        "lr": 0.05,
        "warmup_epochs": 0,
        "ema": 0.9,
    },
    "card": {"name": "discs"},
}


def test_the_environment_says_where_a_process_stands() -> None:
    assert launch.here({}) == launch.Place()
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "GROUP_RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert launch.here(torchrun) == launch.Place(3, True)
    slurm = {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_JOB_NAME": "train"}
    assert launch.here(slurm) == launch.Place(2, True)
    assert launch.here(slurm | {"SLURM_JOB_NAME": "interactive"}) == launch.Place()


def test_processes_started_here_look_like_torchrun_s() -> None:
    own = launch.environments(2, 3, {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "KEPT": "x"})
    assert [launch.here(each).rank for each in own] == [2, 3]
    assert all(launch.here(each).checked and launch.here(each).started for each in own)
    assert {(e["WORLD_SIZE"], e["MASTER_ADDR"], e["MASTER_PORT"], e["KEPT"]) for e in own} == {
        ("6", "10.0.0.1", "29500", "x")
    }
    alone = launch.environments(2, 1, {})
    assert alone[0]["MASTER_PORT"] == alone[1]["MASTER_PORT"] != "0"
    from lightning_fabric.plugins.environments import TorchElasticEnvironment

    with pytest.MonkeyPatch.context() as patch:
        for name, value in own[1].items():
            patch.setenv(name, value)
        assert TorchElasticEnvironment.detect()
        assert TorchElasticEnvironment().global_rank() == 3


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng, root = np.random.default_rng(0), tmp_path / "data"
    y, x = np.mgrid[:32, :32]
    for i in range(12):
        mask = (y - 10 - i) ** 2 + (x - 16) ** 2 < 60
        for name, values in (("images", rng.uniform(0, 90, (32, 32)) + 120 * mask), ("masks", 255 * mask)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(root / name / f"c{i:02d}.png")
    monkeypatch.setenv("LLM4SEG_DATA", str(root))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "napari_llm4seg.cli", "train", recipe, "-o", out, "--device", "cpu"]
    return subprocess.Popen([*command, "--devices", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_a_lost_process_is_said_and_two_give_what_one_gives(llm4seg, recipe: Path, tmp_path: Path) -> None:
    alone = llm4seg("train", recipe, "-o", tmp_path / "one", "--device", "cpu", "--json")
    assert alone.status == 0
    out = tmp_path / "two"
    first = start(recipe, out)
    until = time.monotonic() + 250
    while not (out / "stage1" / "log.csv").exists():
        if first.poll() is not None or time.monotonic() > until:
            first.kill()
            raise AssertionError(first.communicate())
        time.sleep(0.02)
    lost = children(first.pid)
    os.kill(lost[1], signal.SIGKILL)
    _, said = first.communicate(timeout=30)
    assert first.returncode == 1
    assert "Process 2 of 2 was ended by signal 9 (SIGKILL)" in said
    assert "goes on from the last finished epoch" in said
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in lost)
    assert not (out / "report.json").exists()
    second = start(recipe, out)
    words, said = second.communicate(timeout=150)
    assert second.returncode == 0, said
    assert words.count("tested once on") == 1
    assert said.count("epoch 12/12") == 1, "the first process alone speaks"
    assert "epoch 1/12" not in said, "it went on"
    ones, twos = (Checkpoint.load(tmp_path / name / "stage1" / "last").tensors for name in ("one", "two"))
    assert set(ones) == set(twos)
    for name, tensor in ones.items():
        torch.testing.assert_close(twos[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert llm4seg("train", recipe, "-o", out, "--device", "cpu", "--json").json["scores"] == alone.json["scores"]
