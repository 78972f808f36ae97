"""Kills processes that write corrections and looks at what is left; run in a process of its own by test_faults.

Each round forks a child that corrects slices without pause and says, once a correction was reported written, which it
was. The child is killed at a random moment. Then every slice must hold what was last said of it, or the correction
that was under way.
"""

from __future__ import annotations

import json
import os
import random
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


def killed_after(seconds: float, folder: Path, seed: int) -> list[int]:
    """Return the seeds that a child had reported when it was killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            correct_without_end(folder, writer, seed)
        finally:
            os._exit(1)
    os.close(writer)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child had ended by itself"
    with os.fdopen(reader, "rb") as told:
        return [int(line) for line in told.read().split()]


def main(folder: Path, rounds: int) -> None:
    draw = random.Random(0)
    last: dict[int, int] = {}
    seed, left_over, under_way = 0, 0, 0
    for _ in range(rounds):
        told = killed_after(draw.uniform(0.01, 0.08), folder, seed)
        last.update({each % VOLUME.n_slices: each for each in told})
        seed = told[-1] + 1 if told else seed
        left_over += sum(path.name != ".lock" for path in folder.rglob(".*"))
        if not (folder / "project.json").exists():
            assert not told
            continue
        with SampleStore.open(folder) as store:
            found = {record.index: store.load(record) for record in store.records()}
            assert not store.messages, store.messages
        for z in range(VOLUME.n_slices):
            possible = [
                each for each in (last.get(z), seed if seed % VOLUME.n_slices == z else None) if each is not None
            ]
            if z in last:
                assert z in found, f"slice {z} is lost"
            if z in found:
                image, labels = found[z]
                assert np.array_equal(image, VOLUME.slice_at(z))
                (which,) = [each for each in possible if np.array_equal(labels, mask_of(each))]
                if which == seed:  # written, but killed before that was said
                    last[z] = seed
                    under_way += 1
        seed += 1
    print(
        json.dumps({"rounds": rounds, "told": len(last), "seed": seed, "left_over": left_over, "under_way": under_way})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
