"""What a controller hears of the session, from its start to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Listening:
    """Signals connected together and disconnected together."""

    def __init__(self) -> None:
        self._heard: list[tuple[Any, Callable[..., Any]]] = []

    def to(self, *pairs: tuple[Any, Callable[..., Any]]) -> None:
        """Connect each (signal, slot)."""
        for signal, slot in pairs:
            signal.connect(slot)
        self._heard += pairs

    def stop(self) -> None:
        """Disconnect them all; harmless when nothing is heard any more."""
        while self._heard:
            signal, slot = self._heard.pop()
            signal.disconnect(slot)
