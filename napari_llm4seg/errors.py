"""The few exceptions of the package.

A message says what came, what was needed and what to do about it, in one line that a person can act on:
the command line prints it as it is, the docks show it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence


class LLM4SegError(Exception):
    """Base of every error a person can do something about."""


class InputError(LLM4SegError):
    """A scan, mask or folder cannot be used as it is."""


class CheckpointError(LLM4SegError):
    """A checkpoint or frozen layer is missing, damaged, foreign or of another model."""


class ConfigError(LLM4SegError):
    """A recipe or option has a wrong name, type or range."""


class Objections(ConfigError):
    """Everything found wrong at once.

    Parameters
    ----------
    lines : sequence of str
        One objection each, at least one.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        more = f" (and {len(self.lines) - 1} more)" if len(self.lines) > 1 else ""
        super().__init__(f"{self.lines[0]}{more}")


class ProofError(LLM4SegError):
    """A recorded map could not be shown to come from the computation that made the mask, so it is not drawn."""


class DeviceError(LLM4SegError):
    """The asked-for device is absent, or its memory does not suffice even for one slice."""


class Cancelled(LLM4SegError):
    """The person stopped the run; nothing went wrong."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return ``error`` as one readable line of at most ``limit`` characters.

    Parameters
    ----------
    error : BaseException
        Any exception; ours are already one line, those of libraries may span many.
    limit : int
        Longest text returned, in characters.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
