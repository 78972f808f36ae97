from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_llm4seg.corrections.store import SampleStore
from napari_llm4seg.corrections.writer import Writer
from napari_llm4seg.errors import InputError

from .made import image_of, mask, scan

VOLUME = scan()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    with SampleStore.open(tmp_path / "project", create=True) as opened:
        yield opened


class Disk:
    """Counts what is written, and refuses while it is ``full``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: SampleStore) -> None:
        self.full, self.written, self.error = False, [], errno.ENOSPC
        put_record = store.put_record

        def put(entry: Any, record: Any, *arrays: Any) -> None:
            sync = os.fsync
            try:
                if self.full:
                    os.fsync = self._refuse  # type: ignore[assignment]
                put_record(entry, record, *arrays)
                self.written.append(record.index)
            finally:
                os.fsync = sync

        monkeypatch.setattr(store, "put_record", put)

    def _refuse(self, handle: int) -> None:
        raise OSError(self.error, os.strerror(self.error))


def correct(writer: Writer, store: SampleStore, index: int, seed: int = 0, **others: Any) -> None:
    writer.put(store.scan_for(VOLUME), index, 0, image_of(VOLUME, 0, index), mask(VOLUME, 0, seed), "edited", **others)


def until(condition: Any, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


def test_a_correction_is_on_the_disk_within_two_seconds_by_itself(store: SampleStore) -> None:
    written: list[tuple[int, float]] = []
    writer = Writer(store, on_written=lambda record: written.append((record.index, time.monotonic())))
    start = time.monotonic()
    correct(writer, store, 2, model="abc", written="w")
    assert writer.pending == 1
    assert not store.records()
    until(lambda: not writer.pending)
    assert written[0][0] == 2
    assert written[0][1] - start < 2
    (record,) = SampleStore.open(store.folder, read_only=True).records()
    assert (record.model, record.written) == ("abc", "w")
    assert writer.close()


def test_many_changes_of_a_slice_are_written_once_and_the_last_counts(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, store)
    writer = Writer(store, delay=60)
    for seed in range(20):
        correct(writer, store, 1, seed)
        correct(writer, store, 3, seed)
    assert writer.pending == 2
    assert writer.flush(10)
    assert sorted(disk.written) == [1, 3]
    assert np.array_equal(store.load(store.records()[0])[1], mask(VOLUME, 0, 19))
    writer.close()


def test_a_slice_that_never_rests_is_written_all_the_same(store: SampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, store)
    writer = Writer(store, delay=0.05)
    end = time.monotonic() + 5
    while len(disk.written) < 2:
        assert time.monotonic() < end
        correct(writer, store, 1, len(disk.written))
        time.sleep(0.002)
    writer.close()


def test_the_arrays_may_change_after_put(store: SampleStore) -> None:
    writer = Writer(store, delay=60)
    image, labels = image_of(VOLUME, 0, 1).copy(), mask(VOLUME, 0, 1)
    counts = labels > 0
    writer.put(store.scan_for(VOLUME), 1, 0, image, labels, "edited", annotated=counts)
    kept = image.copy(), labels.copy(), counts.copy()
    image[:], labels[:], counts[:] = 0, 7, False
    writer.close()
    for found, wanted in zip(store.arrays(store.records()[0]), kept, strict=True):
        assert found is not None
        assert np.array_equal(found, wanted)


def test_an_image_that_must_be_read_first_is_read_in_the_writer_s_thread(store: SampleStore) -> None:
    writer = Writer(store, delay=60)
    readers: list[str] = []

    def read() -> Any:
        readers.append(threading.current_thread().name)
        return image_of(VOLUME, 1, 3)

    for _ in range(2):
        writer.put(store.scan_for(VOLUME), 3, 1, read, mask(VOLUME, 1), "edited")
    assert not readers
    writer.close()
    assert readers == ["corrections"]
    assert np.array_equal(store.load(store.records()[0])[0], image_of(VOLUME, 1, 3))


def test_what_is_taken_back_before_it_is_written_never_gets_there(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, told = Disk(monkeypatch, store), []
    writer = Writer(store, delay=60, on_written=lambda record: told.append((record and record.index, writer.pending)))
    correct(writer, store, 1)
    writer.drop(store.scan_for(VOLUME), 1)
    assert writer.flush(10)
    correct(writer, store, 2)
    assert writer.flush(10)
    writer.drop(store.scan_for(VOLUME), 2)
    assert writer.close()
    assert disk.written == [2]
    assert not store.records()
    assert told == [(None, 0), (2, 0), (None, 0)], "each is told, once nothing of it waits"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT])
def test_a_disk_that_refuses_loses_nothing_and_is_told_once(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    disk = Disk(monkeypatch, store)
    disk.error = error
    told: list[str] = []
    writer = Writer(store, delay=0.0, retry=0.02, on_trouble=told.append)
    correct(writer, store, 1, 1)
    assert writer.flush(10)
    disk.full = True
    correct(writer, store, 1, 2)
    until(lambda: told)
    assert not writer.flush(10), "flush says so rather than waiting for a better time"
    assert writer.pending == 1
    assert "1 corrected slice is not on the disk yet" in told[0]
    assert os.strerror(error) in told[0]
    assert "Nothing is lost" in told[0]
    old = SampleStore.open(store.folder, read_only=True)
    assert np.array_equal(old.load(old.records()[0])[1], mask(VOLUME, 0, 1)), "the record from before is whole"
    correct(writer, store, 1, 3)  # a newer change takes the place of the one that waits
    failures = writer._failures
    until(lambda: writer._failures > failures + 2)
    assert len(set(told)) == len(told), "the same refusal is told once"
    disk.full = False
    until(lambda: not writer.pending)
    assert told[-1] == writer.trouble == ""
    assert np.array_equal(store.load(store.records()[0])[1], mask(VOLUME, 0, 3))
    assert not [path for path in store.folder.rglob(".*") if path.name != ".lock"], "no half file is left"
    writer.close()


def test_bad_arrays_are_refused_at_once(store: SampleStore) -> None:
    writer = Writer(store)
    entry = store.scan_for(VOLUME)
    with pytest.raises(InputError, match="that scan's slices are"):
        writer.put(entry, 1, 0, image_of(VOLUME, 0, 1), mask(VOLUME, 1), "edited")
    assert writer.pending == 0
    writer.close()
    with pytest.raises(RuntimeError, match="closed"):
        correct(writer, store, 1)
    reader = SampleStore.open(store.folder, read_only=True)
    with pytest.raises(InputError, match="for reading only"):
        correct(Writer(reader), reader, 1)


def test_a_failing_listener_does_not_end_the_writing(store: SampleStore) -> None:
    def fail(value: Any) -> None:
        raise ValueError("a bug elsewhere")

    writer = Writer(store, on_written=fail, on_trouble=fail)
    for index in (1, 2):
        correct(writer, store, index)
        assert writer.flush(10)
    assert len(store.records()) == 2
    writer.close()


def test_several_threads_may_put(store: SampleStore) -> None:
    writer = Writer(store, delay=0.0)
    entry = store.scan_for(VOLUME)

    def work(index: int) -> None:
        for seed in range(10):
            writer.put(entry, index, 0, image_of(VOLUME, 0, index), mask(VOLUME, 0, seed), "edited")

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.close()
    assert [record.index for record in store.records()] == [0, 1, 2, 3]
    assert all(np.array_equal(store.load(record)[1], mask(VOLUME, 0, 9)) for record in store.records())


def test_the_end_of_the_program_writes_what_waits(tmp_path: Path) -> None:
    import subprocess
    import sys

    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys; from pathlib import Path; from tests.corrections.test_writer import *\n"
        "store = SampleStore.open(Path(sys.argv[1]), create=True)\n"
        "correct(Writer(store, delay=60), store, 4)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "p")], check=True, cwd=root, timeout=60)
    assert [record.index for record in SampleStore.open(tmp_path / "p", read_only=True).records()] == [4]
