"""Start a warm training child and kill it at a random moment, many times; say what was found after each kill.

Every child is a fork of this process, in which everything is imported: a fresh start takes seconds. Nothing of torch is
computed here, so the forks have its threads to themselves. A first child is left alone: the others are killed after one
of the events that it told, and before the next one by its pace, so that the kills meet every part of a training
however busy the machine is. Usage: killed_trainers.py FOLDER TIMES
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.jobs.trainer import Trainer, import_everything


def child(commands: int, events: int) -> None:
    torch.set_num_threads(1)
    Trainer(os.fdopen(commands, "r"), os.fdopen(events, "w")).serve()


def started(folder: Path, config: dict[str, Any], name: str) -> tuple[int, int, IO[str]]:
    """Return a child's process id, where its commands go, and its events from the training's first one on."""
    for_child, commands = os.pipe()
    events, from_child = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(commands)
        os.close(events)
        try:
            child(for_child, from_child)
        finally:
            os._exit(1)
    os.close(for_child)
    os.close(from_child)
    asked = [
        {"do": "load", "number": 1, "model": str(folder / "model"), "config": config},
        {"do": "train", "number": 2, "project": str(folder / "project"), "out": str(folder / name)},
    ]
    os.write(commands, "".join(json.dumps(each) + "\n" for each in asked).encode())
    told = os.fdopen(events, "r")
    while kind(told.readline()) != "split":
        pass
    return pid, commands, told


def kind(line: str) -> str:
    """Return what an event is, nothing where it was cut short by a kill."""
    return str(json.loads(line)["event"]) if line.rstrip().endswith("}") else ""


def end(pid: int, commands: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(commands)


def rehearsed(folder: Path, config: dict[str, Any]) -> list[float]:
    """Return the seconds from each event of a whole training to the next one; after the last there is nothing."""
    pid, commands, told = started(folder, config, "rehearsed")
    times, last = [time.monotonic()], "split"
    with told:
        while last != "finished":
            last = kind(told.readline())
            times.append(time.monotonic())
    end(pid, commands)
    return [*(after - before for before, after in pairwise(times)), 0.0]


def killed_once(folder: Path, config: dict[str, Any], number: int, events: int, wait: float) -> str:
    """Return which event came last before the kill, ``wait`` seconds after the training's event of that number."""
    pid, commands, told = started(folder, config, f"out{number}")
    last = "split"
    with told:
        while events and last != "finished":  # a busy child tells of fewer steps
            last, events = kind(told.readline()), events - 1
        time.sleep(wait)
        end(pid, commands)
        return next((name for name in map(kind, reversed(told.read().splitlines())) if name), last)


def state(folder: Path) -> list[str]:
    """Return the digests of all corrections, each read whole."""
    with SampleStore.open(folder / "project") as store:
        for record in store.records():
            store.load(record)
        assert not store.messages, store.messages
        return [record.digest for record in store.records()]


def main() -> None:
    folder, times = Path(sys.argv[1]), int(sys.argv[2])
    config = json.loads((folder / "config.json").read_text())
    import_everything()
    rng = random.Random(0)
    before, last = state(folder), []
    gaps = rehearsed(folder, config)
    whole = 0
    for number in range(times):
        place = number % len(gaps)
        last.append(killed_once(folder, config, number, place, rng.uniform(0, gaps[place])))
        assert state(folder) == before
        out = folder / f"out{number}"
        if out.exists():
            Checkpoint.load(out)
            whole += 1
    print(json.dumps({"last": last, "whole": whole}))


if __name__ == "__main__":
    main()
