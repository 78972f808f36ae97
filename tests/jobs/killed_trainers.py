"""Start a warm training child and kill it at a random moment, many times; say what was found after each kill.

Every child is a fork of this process, in which everything is imported: a fresh start takes seconds. Nothing of torch is
computed here, so the forks have its threads to themselves. Usage: killed_trainers.py FOLDER TIMES
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.jobs.trainer import Trainer, import_everything


def child(commands: int, events: int) -> None:
    torch.set_num_threads(1)
    Trainer(os.fdopen(commands, "r"), os.fdopen(events, "w")).serve()


def killed_once(folder: Path, config: dict[str, Any], number: int, wait: float) -> str:
    """Return which event came last before the kill; ``wait`` is counted from the training's first event."""
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
        {"do": "train", "number": 2, "project": str(folder / "project"), "out": str(folder / f"out{number}")},
    ]
    os.write(commands, "".join(json.dumps(each) + "\n" for each in asked).encode())
    with os.fdopen(events, "r") as told:
        for line in told:
            if json.loads(line)["event"] == "split":
                break
        time.sleep(wait)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        last = [line for line in told.read().splitlines() if line.endswith("}")]
    os.close(commands)
    return str(json.loads(last[-1])["event"]) if last else "split"


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
    whole = 0
    for number in range(times):
        last.append(killed_once(folder, config, number, rng.uniform(0, 0.12)))
        assert state(folder) == before
        out = folder / f"out{number}"
        if out.exists():
            Checkpoint.load(out)
            whole += 1
    print(json.dumps({"last": last, "whole": whole}))


if __name__ == "__main__":
    main()
