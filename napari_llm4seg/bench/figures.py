"""Figures with their targets, fresh child processes to take them in, and the facts of the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from napari_llm4seg.errors import LLM4SegError

Say = Callable[[str], None]

# What must not be loaded before it is needed.
HEAVY = ("torch", "transformers", "monai", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6")


class BenchError(LLM4SegError):
    """A figure could not be taken."""


class Skipped(LLM4SegError):
    """A figure makes no sense on this machine; the message says why."""


@dataclass(frozen=True)
class Figure:
    """One measured number and what it must reach."""

    value: float
    unit: str
    target: float
    bound: Literal["at most", "at least"] = "at most"

    @property
    def met(self) -> bool:
        return self.value <= self.target if self.bound == "at most" else self.value >= self.target

    def as_dict(self) -> dict[str, Any]:
        """Return {value, unit, target, bound, met}."""
        return {
            "value": float(f"{self.value:.4g}"),
            "unit": self.unit,
            "target": self.target,
            "bound": self.bound,
            "met": self.met,
        }


@dataclass
class Measurement:
    """What one part of the bench found: the figures, and everything else a reader may want to see."""

    figures: dict[str, Figure] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def heavy_among(modules: Sequence[str]) -> list[str]:
    """Return which of the heavy packages ``modules`` (names with or without dots) holds."""
    tops = {name.partition(".")[0] for name in modules}
    return [name for name in HEAVY if name in tops]


def child_environment() -> dict[str, str]:
    """Return the environment of a child that finds this very package, wherever the parent was started."""
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH", ""))))
    return environment


def run_child(
    arguments: Sequence[str], *, timeout: float = 600.0, prefix: Sequence[str] = ()
) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Run a fresh Python with ``arguments``; return its wall time in seconds and what it said.

    Raises
    ------
    BenchError
        If it failed or took longer than ``timeout`` seconds.
    """
    command = [*prefix, sys.executable, *arguments]
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=child_environment(), check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"A child process took longer than {timeout:.0f} s.") from error
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise BenchError(f"A child process ended with status {done.returncode}: {said[:300]}")
    return seconds, done


def run_json_child(arguments: Sequence[str], **options: Any) -> dict[str, Any]:
    """Run a fresh Python whose last line on standard output is a JSON object; return that."""
    _, done = run_child(arguments, **options)
    try:
        value = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise BenchError(f"A child process gave no result: {done.stdout[-200:]!r}") from error
    if not isinstance(value, dict):
        raise BenchError(f"A child process gave a {type(value).__name__} where an object was needed.")
    return value


def peak_memory() -> int:
    """Return this process's largest resident size so far, in bytes."""
    import resource  # which Windows lacks

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, memory, load and versions. Loads nothing heavy."""
    versions = {}
    for name in ("torch", "numpy", "napari", "transformers", "PyQt5", "PyQt6"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS") or "all",
        "memory_gb": _memory_gb(),
        "load_at_start": None if load is None else round(load[0], 2),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def cpu_name() -> str:
    """Return what the system calls its processor."""
    try:
        for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, OSError, ValueError):
        return None
