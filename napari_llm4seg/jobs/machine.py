"""What of this machine a training may take."""

from __future__ import annotations

import os


def spare_threads() -> int:
    """Return all cores this process may use but one, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def most_memory_mb() -> float:
    """Return two thirds of the machine's memory in MB, 0 where that is not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6 * 2 / 3
    except (AttributeError, OSError, ValueError):
        return 0.0
