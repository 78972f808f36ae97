"""Trains the runs of a plan that are missing, one ``llm4seg train`` each, and notes under what each was made."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_llm4seg.bench.figures import child_environment, cpu_name
from napari_llm4seg.errors import InputError
from napari_llm4seg.files import read_json, write_text
from training.study.plan import PLAN, REPORT, Plan, PlannedRun, best_llm, is_of_plan, planned_runs

ROOT = Path(__file__).resolve().parents[2]
NOTE = "study.json"


class Busy(Exception):
    """Another process trains this run."""


def run_plan(
    plan: Plan,
    plan_file: Path,
    out: Path,
    *,
    jobs: int = 1,
    device: str = "auto",
    only: tuple[str, ...] = (),
    say: Callable[[str], None] = print,
) -> list[PlannedRun]:
    """Train what is missing, in the plan's order, and return the runs that failed.

    Called again it goes on where it stopped: finished runs are left alone, begun ones resume. Several processes, also
    on other machines that share ``out``, can work on one plan at once.

    Parameters
    ----------
    plan, plan_file
        The plan, and the file it came from, a copy of which goes into ``out``.
    out : Path
        Gets ``<data set>/<arm>/seed<k>`` for each run, its log beside it.
    jobs : int
        Trainings at a time; the cores are shared among them.
    device : str
        As ``llm4seg train`` takes it.
    only : tuple of str
        Names of arms or variants to restrict to; all by default.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / PLAN, plan_file.read_text(encoding="utf-8"))
    failed: list[PlannedRun] = []

    def one(run: PlannedRun) -> None:
        if (out / run.path / REPORT).is_file():
            if not is_of_plan(plan, run, read_json(out / run.path / REPORT, "training report", limit=1 << 24)):
                say(
                    f"{run.path}: left alone, it holds a finished run of another recipe; move it away to train it again"
                )
            return
        try:
            with claimed(out / run.path):
                say(f"{run.path}: started")
                status = train_one(plan, run, out, device, jobs)
        except Busy as busy:
            say(f"{run.path}: left alone, {busy}")
            return
        say(f"{run.path}: {'done' if status == 0 else f'failed with status {status}, see {run.path}.log'}")
        if status:
            failed.append(run)

    # the variants of the best arm are known only after the arms
    for variants in (False, True):
        runs = [r for r in planned_runs(plan, best_llm(plan, out)) if (r.arm in plan.variants) == variants]
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, [r for r in runs if not only or r.arm in only]))
    return failed


def train_one(plan: Plan, run: PlannedRun, out: Path, device: str, jobs: int) -> int:
    """Train one run in a process of its own and return its exit status."""
    folder = out / run.path
    recipe = plan.recipes[run.dataset]
    settings = [*run.settings(), f"card.name=study-{run.dataset}-{run.arm}-seed{run.seed}"]
    command = [sys.executable, "-m", "napari_llm4seg.cli", "train", str(recipe), "-o", str(folder), "--device", device]
    for setting in settings:
        command += ["--set", setting]
    environment = child_environment()
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    note = {"arm": run.arm, "dataset": run.dataset, "seed": run.seed, "settings": settings, **circumstances()}
    with folder.with_name(f"{folder.name}.log").open("a", encoding="utf-8") as log:
        status = subprocess.call(command, stdout=log, stderr=log, env=environment)
    if status == 0:
        note["finished"] = _now()
        write_text(folder / NOTE, json.dumps(note, indent=1) + "\n")
    return status


def circumstances() -> dict[str, Any]:
    """Return commit, whether the checkout was changed, date and machine."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "started": _now(),
        "machine": {"processor": cpu_name(), "cores": os.cpu_count(), "system": platform.platform(terse=True)},
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the run for this process; raises Busy where another has it.

    The mark beside the run holds the holder's process and machine; one left by a dead process of this machine is taken
    over.
    """
    mark = folder.with_name(f"{folder.name}.running")
    mark.parent.mkdir(parents=True, exist_ok=True)
    me = f"{os.getpid()} {threading.get_ident()} {platform.node()}\n"
    for _ in range(2):
        try:
            with mark.open("x", encoding="utf-8") as file:
                file.write(me)
            break
        except FileExistsError:
            if not _is_dead(mark):
                raise Busy(f"'{mark}' says that another process trains it; delete it if none does") from None
            mark.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"'{mark}' cannot be written: {error.strerror}. Choose another folder.") from error
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def _is_dead(mark: Path) -> bool:
    """Return whether the mark's holder was a process of this machine that no longer exists."""
    try:
        words = mark.read_text(encoding="utf-8").split()
        process, node = int(words[0]), words[-1]
    except (OSError, ValueError, IndexError):
        return False
    if node != platform.node():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
