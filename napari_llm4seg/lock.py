"""A folder that one process at a time writes into."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from filelock import FileLock, Timeout

from napari_llm4seg.errors import InputError

LOCK = ".lock"


def hold(folder: Path, refusal: str, again: bool = False) -> FileLock:
    """Take the lock of ``folder``, which is made where it is not there yet; ``release()`` of what is returned ends it.

    The operating system holds the lock, so it goes with its process, however that ends.

    Parameters
    ----------
    folder : Path
    refusal : str
        What is said where it is taken, with ``{}`` in the place of who has it.
    again : bool
        Whether the same process may take it again.

    Raises
    ------
    InputError
        If another holds the lock, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, is_singleton=again)
        lock.acquire(timeout=0)
    except Timeout:
        # the folder's own name may hold braces
        raise InputError(refusal.replace("{}", _holder(path), 1)) from None
    except NotImplementedError as error:
        raise InputError(f"The disk of '{folder}' knows no locks; choose a place on another disk.") from error
    except OSError as error:
        raise InputError(f"'{folder}' cannot be written: {error.strerror}. Choose another place.") from error
    try:
        path.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
    except OSError as error:
        lock.release()
        raise InputError(f"'{folder}' cannot be written: {error.strerror}. Choose another place.") from error
    return lock


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()[:120] or "just starting"
    except OSError:
        return "unknown"
