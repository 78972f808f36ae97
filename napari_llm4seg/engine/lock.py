"""One run per folder at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_llm4seg.lock import hold


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
    refusal = f"Another run ({{}}) is writing into '{folder}'; wait for it or choose another output folder."
    lock = hold(folder, refusal, again=True)
    try:
        yield
    finally:
        lock.release()
