"""Byte ranges of a file on the Hub, kept on disk as they come, so that a broken download goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from napari_llm4seg.errors import Cancelled, CheckpointError, InputError
from napari_llm4seg.files import cache_folder, read_json, write_text, writing
from napari_llm4seg.models import hub
from napari_llm4seg.models.registry import slug

Range = tuple[int, int]

RETRIES = 5  # in a row without a single byte
WAIT = 1.0  # seconds before the first, doubled each time
GAP = 1 << 16  # bytes between two ranges that are cheaper to fetch along than to ask twice
QUIET = 1 << 17  # bytes up to which nothing is told: a header's time says nothing of a layer's
ABOUT = "part.json"


class Meter:
    """Counts bytes against a total, tells ``progress(done, total, message)``, and stops where ``cancel`` says so."""

    def __init__(
        self,
        progress: Callable[[int, int, str], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> None:
        self.done = self.total = 0
        self._progress, self._cancel = progress, cancel

    def expect(self, count: int) -> None:
        self.total += count

    def add(self, count: int) -> None:
        """Take note of ``count`` bytes; raises Cancelled where the person stopped."""
        self.done += count
        if self._progress is not None and self.total > QUIET:
            self._progress(self.done, self.total, f"{self.done / 1e6:.1f} of {self.total / 1e6:.1f} MB")
        if self._cancel is not None and self._cancel():
            raise Cancelled("Stopped.")


def merge(ranges: Iterable[Range], gap: int = GAP) -> list[Range]:
    """Return (start, stop) ranges in order, those at most ``gap`` bytes apart joined."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


class RemoteFile:
    """One file of a repository at its commit.

    What came of it lies in the cache under ``partial/`` with the etag it belongs to; ranges of another etag or size
    are thrown away. ``discard`` removes them once they are no longer needed.

    Parameters
    ----------
    repository : Repository
    name : path inside it
    meter : Meter

    Attributes
    ----------
    size : bytes
    etag : the file's digest on the Hub: sha256 of large files, git's sha1 of small ones
    """

    def __init__(self, repository: hub.Repository, name: str, meter: Meter) -> None:
        self.repository, self.name, self.meter = repository, name, meter
        self._what = f"{repository.name}/{name}"
        self._url = hub.url_of(repository, name)
        with hub.hub_errors(self._what, repository.name):
            about = self._metadata()
        if about.size is None or not about.etag or about.commit_hash != repository.commit:
            raise CheckpointError(
                f"'{self._what}' could not be fetched: the server names no size, digest or the commit asked for; "
                "check HF_ENDPOINT."
            )
        self.size, self.etag = int(about.size), str(about.etag)
        self.folder = cache_folder() / "partial" / slug(f"{repository.name}-{name}".replace("/", "-"))
        self._keep_own_parts()

    def _keep_own_parts(self) -> None:
        """Throw away what belongs to another version of the file."""
        about = {"repository": self.repository.name, "file": self.name, "etag": self.etag, "size": self.size}
        try:
            if read_json(self.folder / ABOUT, "partial download") == about:
                return
        except InputError:
            pass
        self.discard()
        write_text(self.folder / ABOUT, json.dumps(about, indent=1) + "\n")

    def discard(self) -> None:
        """Remove what was fetched of the file."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes ``start`` to ``stop`` (exclusive) of the file.

        Raises
        ------
        CheckpointError
            One line where the Hub refuses, or the connection stays broken; what came is kept.
        """
        path = self.folder / f"{start}-{stop}"
        if _size(path) > stop - start:
            path.unlink()
        self.meter.add(_size(path))
        idle = 0
        with hub.hub_errors(self._what, self.repository.name):
            while (have := _size(path)) < stop - start:
                failure: Exception = ConnectionError("the server ended early")
                try:
                    self._append(path, start + have, stop)
                except hub.failures() as error:
                    if not hub.is_passing(error):
                        raise
                    failure = error
                idle = 0 if _size(path) > have else idle + 1
                if idle > RETRIES:
                    raise failure
                if idle:
                    time.sleep(WAIT * 2 ** (idle - 1))
        return path.read_bytes()

    def whole(self) -> bytes:
        """Return the whole file, checked against the Hub's digest of it.

        Raises
        ------
        CheckpointError
            Where it differs; what came is removed.
        """
        data = self.read(0, self.size)
        if len(self.etag) == 64:
            came = hashlib.sha256(data).hexdigest()
        else:  # as git digests what it holds itself
            came = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        if came != self.etag:
            self.discard()
            raise CheckpointError(
                f"'{self._what}' could not be fetched: what came digests to {came[:12]}…, the Hub says "
                f"{self.etag[:12]}…. It was removed; fetch again."
            )
        return data

    def fetch(self, ranges: Iterable[Range]) -> Callable[[int, int], bytes]:
        """Fetch ``ranges`` and return what gives any part of them; the whole file where they are most of it."""
        wanted = merge(ranges)
        if 2 * sum(stop - start for start, stop in wanted) >= self.size:
            wanted = [(0, self.size)]
        self.meter.expect(sum(stop - start for start, stop in wanted))
        if wanted == [(0, self.size)]:
            held = {(0, self.size): self.whole()}
        else:
            held = {(start, stop): self.read(start, stop) for start, stop in wanted}

        def give(start: int, stop: int) -> bytes:
            for (first, last), data in held.items():
                if first <= start and stop <= last:
                    return data[start - first : stop - first]
            raise CheckpointError(f"'{self._what}': bytes {start} to {stop} were not asked for.")

        return give

    def _append(self, path: Path, first: int, stop: int) -> None:
        """Fetch from byte ``first`` on into the end of a range's file."""
        with hub.open_stream(self._url, {"Range": f"bytes={first}-{stop - 1}"}) as (status, headers, pieces):
            self._check_range(status, headers, first, stop)
            with writing(path):
                file = path.open("ab", buffering=0)
            with file:
                for piece in pieces:
                    first += len(piece)
                    if first > stop:
                        raise CheckpointError(f"'{self._what}': the server sent more than was asked for.")
                    with writing(path):
                        rest = memoryview(piece)
                        while rest:
                            rest = rest[file.write(rest) :]
                    self.meter.add(len(piece))

    def _check_range(self, status: int, headers: Any, first: int, stop: int) -> None:
        whole = first == 0 and stop == self.size
        if status == 206:
            whole = str(headers.get("Content-Range", "")).startswith(f"bytes {first}-{stop - 1}/")
        if not whole:
            raise CheckpointError(
                f"'{self._what}' could not be fetched in parts: the server does not answer byte ranges. Download the "
                "whole model with the Hub's own tool and give its folder."
            )

    def _metadata(self) -> Any:
        """Ask for the file's size and digest, again where the server is busy."""
        from huggingface_hub import get_hf_file_metadata

        for attempt in range(RETRIES):
            try:
                return get_hf_file_metadata(self._url, timeout=hub.timeout())
            except hub.failures() as error:
                if not hub.is_passing(error):
                    raise
            time.sleep(WAIT * 2**attempt)
        return get_hf_file_metadata(self._url, timeout=hub.timeout())


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
