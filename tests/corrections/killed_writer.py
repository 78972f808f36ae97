"""Kills processes that write corrections and looks at what is left; run in a process of its own by test_faults.

Each round forks a child that corrects slices without pause and says, once a correction was reported written, which it
was. The child is killed at a random moment. Then every slice must hold what was last said of it, or the correction
that was under way.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import numpy as np

from napari_llm4seg.corrections.store import SampleStore

from .made import Array, image_of, scan

VOLUME = scan(0, (4, 160, 160))
_LINE = 16


def mask_of(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 3, VOLUME.grid[1:]).astype(np.uint8)


def correct_without_end(folder: Path, pipe: int, seed: int) -> None:
    with SampleStore.open(folder, create=True) as store:
        entry = store.scan_for(VOLUME)
        while True:
            z = seed % VOLUME.n_slices
            store.put(entry, z, 0, image_of(VOLUME, 0, z), mask_of(seed), "confirmed")
            os.write(pipe, f"{seed}".ljust(_LINE - 1).encode() + b"\n")
            seed += 1


def killed_after(seconds: float, folder: Path, seed: int, at_work: bool) -> list[int]:
    """Return the seeds that a child had reported when it was killed, ``at_work`` or while it was beginning."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            correct_without_end(folder, writer, seed)
        finally:
            os._exit(1)
    os.close(writer)
    if at_work:
        select.select([reader], [], [], 20)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child had ended by itself"
    with os.fdopen(reader, "rb") as told:
        return [int(line) for line in told.read().split()]


def look(folder: Path, last: dict[int, int], next_seed: int) -> int:
    """Check every slice against what was last said of it; return how many were written but not yet said to be."""
    with SampleStore.open(folder) as store:
        found = {record.index: store.load(record) for record in store.records()}
        assert not store.messages, store.messages
    assert set(last) <= set(found), "a slice is lost"
    under_way = 0
    for z, (image, labels) in found.items():
        possible = {last[z]} if z in last else set()
        possible |= {next_seed} if next_seed % VOLUME.n_slices == z else set()
        assert np.array_equal(image, VOLUME.slice_at(z))
        (which,) = [each for each in possible if np.array_equal(labels, mask_of(each))]
        under_way += which == next_seed
        last[z] = which
    return under_way


def main(folder: Path, rounds: int) -> None:
    """Kill half of the children in one project that goes on, and half in a new one each, soon after its making."""
    draw = random.Random(0)
    seed, under_way, last = 0, 0, {}
    for number in range(rounds):
        goes_on = number % 2 == 0
        project = folder / ("old" if goes_on else f"new{number}")
        told = killed_after(draw.uniform(0, 0.04), project, seed, at_work=goes_on)
        known: dict[int, int] = last if goes_on else {}
        known.update({each % VOLUME.n_slices: each for each in told})
        seed = told[-1] + 1 if told else seed
        if (project / "project.json").exists():
            under_way += look(project, known, seed)
        else:
            assert not told
        seed += 1
    print(json.dumps({"rounds": rounds, "slices": len(last), "written": seed - rounds, "under_way": under_way}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
