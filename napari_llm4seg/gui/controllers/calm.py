"""Keep the window's thread from being held up by Python itself while a run goes on.

With napari and torch loaded a full garbage collection walks half a million objects: 0.2 s in which no thread runs.
The young generations are still collected during a run; the full collection comes after it. And a worker that
computes in Python gives the interpreter away only every 5 ms, for each of the many moments at which drawing needs it
back; during a run it is asked ten times as often.
"""

from __future__ import annotations

import gc
import sys

# As a count of collections of the middle generation: beyond any run.
_NEVER = 1_000_000_000
_SWITCH_SECONDS = 0.0005
_holders: set[int] = set()
_before: tuple[int, float] = (0, 0.0)


def hold(owner: object) -> None:
    """Keep the window's thread free until ``release``; several owners may hold at once."""
    global _before
    if not _holders:
        first, second, third = gc.get_threshold()
        _before = third, sys.getswitchinterval()
        gc.set_threshold(first, second, _NEVER)
        sys.setswitchinterval(_SWITCH_SECONDS)
    _holders.add(id(owner))


def release(owner: object) -> None:
    """Give Python its habits back once nobody holds them; harmless without a ``hold``."""
    if id(owner) in _holders:
        _holders.discard(id(owner))
        if not _holders:
            first, second, _ = gc.get_threshold()
            gc.set_threshold(first, second, _before[0])
            sys.setswitchinterval(_before[1])
