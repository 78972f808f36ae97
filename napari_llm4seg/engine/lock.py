"""One run per folder at a time."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from napari_llm4seg.errors import InputError

_LOCK = ".lock"


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep other processes from running into ``folder`` until the block ends; made where it is not there yet.

    The operating system holds the lock, so it goes with its process, however that ends. The same process may enter
    again.

    Raises
    ------
    InputError
        If another process is at it, with who that is.
    """
    path = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, is_singleton=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another run ({_holder(path)}) is writing into '{folder}'; wait for it or choose another output folder."
        ) from None
    except OSError as error:
        raise InputError(f"'{folder}' cannot be written: {error.strerror}. Choose another place.") from error
    try:
        path.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()[:120] or "just starting"
    except OSError:
        return "unknown"
