"""What every command shares: one line per problem, exit statuses, JSON on stdout, progress on stderr."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Annotated, Any, ParamSpec

import typer

from napari_llm4seg.errors import Cancelled, LLM4SegError, one_line

P = ParamSpec("P")

FAILED, WRONG_USE, STOPPED = 1, 2, 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else there.")]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute; auto takes the fastest.")
]


class WrongUse(typer.BadParameter):
    """The command was called in a way that cannot work; ends it with status 2 and the message as it is."""

    def format_message(self) -> str:
        return self.message


_QUIET_SECONDS = 2.0
_PLAIN_INTERVAL = 5.0


def line(text: str) -> None:
    """Print ``text`` on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Mapping[str, Any]) -> None:
    """Print ``value`` as one JSON object in one line on standard output; NaN and infinity become null."""
    print(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    """Return ``value`` made of what JSON knows: numpy scalars, paths and tuples come out of library calls."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if hasattr(value, "item"):
        return _plain(value.item())
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return str(value)


def debugging() -> bool:
    """Return whether the person asked for tracebacks."""
    return os.environ.get("LLM4SEG_DEBUG", "0") not in ("", "0")


def describe(error: BaseException) -> str:
    """Return what went wrong as one line; ``LLM4SEG_DEBUG=1`` prints the traceback as well."""
    if debugging():
        traceback.print_exception(error)
    if isinstance(error, LLM4SegError):
        return one_line(error, 600)
    if isinstance(error, MemoryError):
        return "There is not enough memory. Close other programs or take a smaller scan."
    if isinstance(error, OSError):
        return f"{one_line(error)}."
    return f"Unexpected problem, {type(error).__name__}: {one_line(error)} (LLM4SEG_DEBUG=1 shows the traceback)"


def guarded(command: Callable[P, int]) -> Callable[P, None]:
    """Wrap a command that returns its exit status: any error is one line on standard error, never a traceback.

    With ``--json`` an error that ends the command is also printed as ``{"error": line}``.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            status = command(*args, **kwargs)
        except (KeyboardInterrupt, Cancelled):
            line("Stopped.")
            status = STOPPED
        except BrokenPipeError:
            raise
        except Exception as error:
            # typer's own exceptions say wrong use or an early end; they are for app.run
            if isinstance(error, typer.Exit) or hasattr(error, "format_message"):
                raise
            text = describe(error)
            line(f"llm4seg: {text}")
            if kwargs.get("as_json"):
                print_json({"error": text})
            status = FAILED
        raise typer.Exit(status)

    return wrapped


def duration(seconds: float) -> str:
    """Return ``seconds`` as a person says it: "8 s", "3 min 20 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class ProgressLine:
    """Progress on standard error: a bar with the time left on a terminal, now and then a line elsewhere.

    Call it with ``(done, total, message)``; what ends within two seconds shows nothing.

    Parameters
    ----------
    what : str
        What is going on, e.g. the file's name.
    on_pipe : bool
        Whether to say a line where there is no terminal.
    """

    def __init__(self, what: str, on_pipe: bool = True) -> None:
        self._what = what
        self._on_pipe = on_pipe
        self._started = time.monotonic()
        self._spoken = self._started
        self._done = 0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, message: str = "") -> None:
        now = time.monotonic()
        if done < self._done:  # something else is counted from here on
            self._started = now
        self._done = done
        if self._bar is None and now - self._started < _QUIET_SECONDS:
            return
        if sys.stderr.isatty():
            self._draw(done, total, message)
        elif self._on_pipe and now - self._spoken >= _PLAIN_INTERVAL and done != total:
            self._spoken = now
            left = f", {duration((now - self._started) / done * (total - done))} left" if 0 < done < total else ""
            line(f"{self._what}: {message or f'{done}/{total}'}{left}")

    def _draw(self, done: int, total: int, message: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[message]}", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=total or None, message=message)
        self._bar.update(self._task, completed=done, total=total or None, message=message)


def table(rows: list[list[str]]) -> list[str]:
    """Return ``rows`` as lines of aligned columns, the first row being the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
