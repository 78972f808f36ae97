"""One training in several processes: started and watched here, or recognised where torchrun or srun started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO

from napari_llm4seg.cli.console import FAILED, STOPPED, WrongUse, line

# Set for the processes started here; which number a process has among all.
RANK = "LLM4SEG_RANK"
_PARENT = "LLM4SEG_PARENT"

_LOOK_SECONDS = 0.1
# How long the others may take to end by themselves once one has failed, and to end when told to.
_GRACE_SECONDS = 4.0


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Attributes
    ----------
    devices : processes on each machine
    num_nodes : machines
    rank : this process's number among all
    launched : whether they exist already, this being one of them
    """

    devices: int = 1
    num_nodes: int = 1
    rank: int = 0
    launched: bool = True


def world(devices: int | None, num_nodes: int | None, environment: Mapping[str, str] | None = None) -> World:
    """Return which processes train together, by what was asked for and who started this one.

    Raises
    ------
    WrongUse
        If several machines are asked for and nothing says how they find each other.
    """
    env = os.environ if environment is None else environment
    found: World | None = None
    if RANK in env:
        found = World(devices or 1, num_nodes or 1, int(env[RANK]))
    elif "TORCHELASTIC_RUN_ID" in env:
        per_node = int(env["LOCAL_WORLD_SIZE"])
        found = World(per_node, int(env["WORLD_SIZE"]) // per_node, int(env["RANK"]))
    elif int(env.get("SLURM_NTASKS", "1")) > 1 and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(env.get("SLURM_NNODES", "1"))
        found = World(int(env["SLURM_NTASKS"]) // nodes, nodes, int(env.get("SLURM_PROCID", "0")))
    if found is not None:
        asked = (devices or found.devices, num_nodes or found.num_nodes)
        if asked != (found.devices, found.num_nodes):
            raise WrongUse(
                f"--devices {asked[0]} --num-nodes {asked[1]}: the launcher started {found.devices} process(es) on "
                f"each of {found.num_nodes} machine(s); leave the options out."
            )
        return found
    asked = (devices or 1, num_nodes or 1)
    if asked[1] > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= set(env):
        raise WrongUse(
            f"--num-nodes {asked[1]}: start it with torchrun or srun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on "
            "every machine."
        )
    return World(*asked, launched=asked == (1, 1))


def run_processes(arguments: Sequence[str], world: World, program: Sequence[str] = ("-m", "napari_llm4seg.cli")) -> int:
    """Run ``program``, by default ``llm4seg``, once per device of this machine; return the exit status of them all.

    One that fails, or is killed, ends the others, and is named. Signals that end this process end them.
    """
    first = int(os.environ.get("NODE_RANK", "0")) * world.devices if world.num_nodes > 1 else 0
    shared = os.environ | {
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", "127.0.0.1") if world.num_nodes > 1 else "127.0.0.1",
        "MASTER_PORT": os.environ["MASTER_PORT"] if world.num_nodes > 1 else str(_free_port()),
        "NODE_RANK": str(first // world.devices),
        "WORLD_SIZE": str(world.devices * world.num_nodes),
        _PARENT: str(os.getpid()),
    }
    shared.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // world.devices)))
    command = [sys.executable, *program, *arguments]
    processes: list[subprocess.Popen[bytes]] = []
    with _told_to_end() as ending, ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(world.devices)]
        stack.callback(_end, processes)
        for local in range(world.devices):
            processes.append(
                subprocess.Popen(
                    command,
                    env=shared | {"LOCAL_RANK": str(local), RANK: str(first + local)},
                    # the first one speaks for all
                    stdout=None if first + local == 0 else subprocess.DEVNULL,
                    stderr=None if local == 0 else said[local],
                    start_new_session=True,  # a terminal's Ctrl-C comes through here, once
                )
            )
        return _watch(processes, said, first, world.devices * world.num_nodes, ending)


def _watch(
    processes: Sequence[subprocess.Popen[bytes]],
    said: Sequence[IO[bytes]],
    first: int,
    total: int,
    ending: threading.Event,
) -> int:
    """Return the exit status of all once they have ended, or one has failed, or this process is told to end.

    ``first`` is the number of this machine's first process among the ``total`` of all machines.
    """
    while not any(process.poll() for process in processes):
        if all(process.poll() == 0 for process in processes):
            return 0
        if ending.is_set():
            # the first one alone: the others would leave it waiting in a collective, with another story to tell
            processes[0].send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
            _wait(processes[:1], _GRACE_SECONDS)
            return STOPPED
        time.sleep(_LOOK_SECONDS)
    fallen = {number: process.returncode for number, process in enumerate(processes) if process.poll()}
    killed = min((number for number, status in fallen.items() if status < 0), default=None)
    if killed is not None:
        _end(processes)
        line(
            f"llm4seg: training process {first + killed + 1} of {total} was killed by {_signal_name(-fallen[killed])}; "
            "the others were ended. The same command goes on from the last finished epoch."
        )
        return FAILED
    _wait(processes, _GRACE_SECONDS)
    if 0 not in fallen:
        number = min(fallen)
        line(f"llm4seg: training process {first + number + 1} of {total} failed: {_last_line(said[number])}")
    return max(fallen.values())


@contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """Note the signals that would end this process, so that it can end its children first."""
    told = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        told.set()

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), note) for name in names}
    try:
        yield told
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End whatever still runs; files are written whole or not at all, so nothing is lost by it."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    _wait(processes, _GRACE_SECONDS)
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def follow_parent() -> None:
    """End this process when the one that watches over it is gone, however that went."""
    parent = os.environ.get(_PARENT)
    if parent is None:
        return

    def look() -> None:
        while os.getppid() == int(parent):
            time.sleep(1.0)
        os._exit(FAILED)

    threading.Thread(target=look, name="llm4seg-parent", daemon=True).start()


def leave() -> None:
    """End this process at once, well, where it was one of several that trained; else do nothing.

    Python's own end, and ``destroy_process_group``, take gloo's threads apart while holding the lock that those threads
    may be waiting for: about one run in ten never ended.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (for want of memory, perhaps)" if name == "SIGKILL" else name


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("llm4seg: ")[:400] if lines else "it said nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
