"""Several processes as one: recognised where others started them; none dies, fails or is stopped unheard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.cli.console import WrongUse
from napari_llm4seg.cli.launch import World, run_processes, world
from tests.cli.helpers import RECIPE, write_discs

ROOT = Path(__file__).resolve().parents[2]
TWO = World(2, 1, 0, launched=False)
# Batches of 5 over 7 images: shares of 3 and 2, then a last batch of 1 and 1.
FIT = {"epochs": 12, "batch": 5, "augment": "paper", "optimiser": "sgd", "lr": 0.05, "warmup_epochs": 0, "ema": 0.9}
posix = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, World(1, 1, 0, True)),
        ({"LLM4SEG_RANK": "1"}, World(1, 1, 1, True)),
        (
            {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8", "RANK": "5"},
            World(4, 2, 5, True),
        ),
        ({"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "3"}, World(2, 2, 3, True)),
        ({"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "bash"}, World(1, 1, 0, True)),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, World(1, 1, 0, True)),
    ],
)
def test_who_started_it_says_how_many_there_are(environment: dict[str, str], found: World) -> None:
    assert world(None, None, environment) == found


def test_asked_for_processes_are_not_there_yet() -> None:
    assert world(2, None, {}) == TWO
    addressed = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "1"}
    assert world(2, 3, addressed) == World(2, 3, 0, launched=False)


def test_machines_that_cannot_find_each_other_and_wrong_numbers_are_refused() -> None:
    with pytest.raises(WrongUse, match="torchrun or srun"):
        world(1, 2, {"MASTER_ADDR": "10.0.0.1"})
    with pytest.raises(WrongUse, match=r"4 process\(es\) on each of 1 machine"):
        world(2, 1, {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "4", "RANK": "0"})


def run(script: str, *arguments: str) -> int:
    return run_processes(
        arguments, TWO, ("-c", f"import os, sys, time, signal\nrank = os.environ['LOCAL_RANK']\n{script}")
    )


def test_all_well_is_0_and_every_process_knows_the_others(tmp_path: Path) -> None:
    script = (
        "keys = ('LLM4SEG_RANK', 'NODE_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')\n"
        "open(os.path.join(sys.argv[1], rank), 'w').write(' '.join(os.environ[key] for key in keys))"
    )
    assert run(script, str(tmp_path)) == 0
    first, second = ((tmp_path / rank).read_text().split() for rank in "01")
    assert first[:4] == ["0", "0", "2", "127.0.0.1"]
    assert second == ["1", *first[1:]]


@posix
@pytest.mark.parametrize("victim", ["0", "1"])
def test_a_killed_process_ends_the_run_by_name(capfd: pytest.CaptureFixture[str], victim: str) -> None:
    started = time.monotonic()
    assert run(f"os.kill(os.getpid(), signal.SIGKILL) if rank == '{victim}' else time.sleep(60)") == 1
    assert time.monotonic() - started < 20
    err = capfd.readouterr().err
    assert f"training process {int(victim) + 1} of 2 was killed by SIGKILL" in err
    assert "The same command goes on" in err


def test_one_that_fails_says_why_though_it_is_not_the_first(capfd: pytest.CaptureFixture[str]) -> None:
    script = "if rank == '1': sys.stderr.write('llm4seg: no more paper\\n'); sys.exit(3)\ntime.sleep(60)"
    assert run(script) == 3
    assert "training process 2 of 2 failed: no more paper" in capfd.readouterr().err


def test_the_first_speaks_for_itself(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("sys.exit('llm4seg: wrong') if rank == '0' else time.sleep(60)") == 1
    assert capfd.readouterr().err == "llm4seg: wrong\n"


WATCHED = """
import sys
from napari_llm4seg.cli.launch import World, run_processes
script = '''
import os, sys, time
from napari_llm4seg.cli.launch import follow_parent
follow_parent()
open(os.path.join(sys.argv[1], os.environ["LOCAL_RANK"]), "w").write(str(os.getpid()))
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("Stopped.", flush=True)
    sys.exit(130)
'''
sys.exit(run_processes([sys.argv[1]], World(2, 1, 0, False), ("-c", script)))
"""


@posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_whatever_ends_the_watching_process_ends_all(tmp_path: Path, number: int, status: int) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WATCHED, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watcher:
        children = [int(wait_for(tmp_path / rank)) for rank in "01"]
        os.kill(watcher.pid, number)
        assert watcher.wait(20) == status
        assert watcher.stdout is not None
        if status == 130:
            assert watcher.stdout.read() == "Stopped.\n"  # the first one, once
    deadline = time.monotonic() + 20
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, children))


def wait_for(path: Path) -> str:
    """Return the text of a file that another process writes."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return path.read_text()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "data"
    write_discs(root, lambda y, x, i: (y - 10 - i) ** 2 + (x - 16) ** 2 < 60)
    monkeypatch.setenv("LLM4SEG_DATA", str(root))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"split": {"val": 0.25, "test": 0.2}, "fit": FIT}))
    return path


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "napari_llm4seg.cli", "train", recipe, "-o", out, "--device", "cpu"]
    return subprocess.Popen([*command, "--devices", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid: int) -> list[int]:
    """Return the training processes, the first one first."""
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
    assert "training process 2 of 2 was killed by SIGKILL" in said
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
