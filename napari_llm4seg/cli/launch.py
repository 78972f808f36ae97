"""One training on several processes: starts them on this machine, watches them, and ends them all when one is gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from napari_llm4seg.cli.console import FAILED, STOPPED, line

# What torchrun tells its processes; Fabric knows it by these.
_TORCHRUN = ("TORCHELASTIC_RUN_ID", "RANK", "GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# Set in processes started here: the recipe has been checked, and whose process is waiting for them.
CHECKED, PARENT = "LLM4SEG_CHECKED", "LLM4SEG_PARENT"
_LOOK_SECONDS, _GRACE_SECONDS = 0.1, 10.0


@dataclass(frozen=True)
class Place:
    """Where this process stands in a training.

    Attributes
    ----------
    rank : its number over all machines
    started : whether something has started it as one of several: this module, torchrun or SLURM
    checked : whether the recipe and its data were checked by who started it
    """

    rank: int = 0
    started: bool = False
    checked: bool = False


def here(environment: Mapping[str, str] = os.environ) -> Place:
    """Return this process's place, by the environment that torchrun, SLURM or this module gave it."""
    if all(name in environment for name in _TORCHRUN):
        return Place(int(environment["RANK"]), True, CHECKED in environment)
    # in an interactive job SLURM's variables are there, but nothing has been started on its tasks
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return Place(int(environment.get("SLURM_PROCID", "0")), True)
    return Place()


def environments(devices: int, num_nodes: int, environment: Mapping[str, str] = os.environ) -> list[dict[str, str]]:
    """Return the environment of each process to start on this machine, as torchrun would give it.

    With several machines ``NODE_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT`` have to be set on each; on one machine the
    processes meet at a free port of the loopback address.
    """
    node = int(environment.get("NODE_RANK", "0"))
    shared = {
        "WORLD_SIZE": str(devices * num_nodes),
        "LOCAL_WORLD_SIZE": str(devices),
        "GROUP_RANK": str(node),
        "MASTER_ADDR": environment.get("MASTER_ADDR", "127.0.0.1"),
        "MASTER_PORT": environment.get("MASTER_PORT") or str(_free_port()),
        "TORCHELASTIC_RUN_ID": "llm4seg",
        CHECKED: "1",
        PARENT: str(os.getpid()),
    }
    # as many threads in all as one process would take
    threads = environment.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    return [
        {**environment, **shared, "OMP_NUM_THREADS": threads, "LOCAL_RANK": str(i), "RANK": str(node * devices + i)}
        for i in range(devices)
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_all(arguments: Sequence[str], devices: int, num_nodes: int) -> int:
    """Run ``llm4seg`` with ``arguments`` once per device; return the exit status.

    The first process alone writes on standard output. When one ends badly the others are ended, and where it said
    nothing itself, because a signal took it, that is said.
    """
    command = [sys.executable, "-m", "napari_llm4seg.cli", *arguments]
    processes = [
        subprocess.Popen(
            command,
            env=each,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if each["LOCAL_RANK"] != "0" else None,
        )
        for each in environments(devices, num_nodes)
    ]
    try:
        return _watch(processes)
    except KeyboardInterrupt:  # the terminal has told the others too
        _end(processes, signal.SIGINT)
        return STOPPED
    finally:
        _end(processes, signal.SIGTERM)


def _watch(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until all have ended well, or one badly; return the exit status."""
    while True:
        states = [process.poll() for process in processes]
        bad = next(((i, state) for i, state in enumerate(states) if state not in (None, 0)), None)
        if bad is not None:
            return _lost(*bad, processes)
        if all(state == 0 for state in states):
            return 0
        time.sleep(_LOOK_SECONDS)


def _lost(number: int, state: int | None, processes: Sequence[subprocess.Popen[bytes]]) -> int:
    # what a signal took may have brought others down first
    time.sleep(_LOOK_SECONDS)
    taken = [(i, process.poll()) for i, process in enumerate(processes)]
    number, state = next(((i, each) for i, each in taken if each is not None and each < 0), (number, state))
    if state is not None and state < 0:
        line(
            f"llm4seg: Process {number + 1} of {len(processes)} was ended by signal {-state} "
            f"({signal.Signals(-state).name}). The same command goes on from the last finished epoch."
        )
        return FAILED
    return state or FAILED


def _end(processes: Sequence[subprocess.Popen[bytes]], how: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(how)
    until = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def follow_parent(environment: Mapping[str, str] = os.environ) -> None:
    """End this process when the one that started it is gone, however that went: nobody else would."""
    if PARENT not in environment:
        return
    parent = int(environment[PARENT])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(FAILED)

    threading.Thread(target=watch, name="llm4seg-parent", daemon=True).start()
