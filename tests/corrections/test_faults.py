"""What nobody asked for: killed processes, full and read-only disks, two viewers on one project."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_llm4seg.corrections.store import SampleStore
from napari_llm4seg.corrections.writer import Writer
from napari_llm4seg.errors import InputError

from .made import image_of, mask, put, scan

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from tests.corrections.made import *
with SampleStore.open(Path(sys.argv[1]), create=True) as store:
    put(store, scan(), 1)
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_at_any_moment_loses_no_confirmed_slice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.corrections.killed_writer", str(tmp_path), "40"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["slices"] == 4, "every slice was confirmed at some time"
    assert report["written"] >= 20, "every second child was at work when it was killed"


def test_a_second_viewer_is_refused_reads_and_takes_over_when_the_first_dies(tmp_path: Path) -> None:
    project = tmp_path / "project"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(project)], stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match=f"Another viewer or run .process {holder.pid} on .*reading only"):
            SampleStore.open(project)
        reader = SampleStore.open(project, read_only=True)
        assert [record.index for record in reader.records()] == [1]
        os.kill(holder.pid, signal.SIGKILL)
    with SampleStore.open(project) as store:
        put(store, scan(), 2)
        reader.reload()
        assert [record.index for record in reader.records()] == [1, 2]


def test_two_viewers_in_one_process_are_two_viewers(tmp_path: Path) -> None:
    with SampleStore.open(tmp_path / "p", create=True) as store:
        with pytest.raises(InputError, match=f"Another viewer or run .process {os.getpid()}"):
            SampleStore.open(tmp_path / "p")
        put(store, scan(), 1)
    with pytest.raises(InputError, match="for reading only"):
        put(store, scan(), 1)
    SampleStore.open(tmp_path / "p").close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[..., None]]]:
    """A disk of 1 MiB, and what mounts it anew with other options; skips where this account may mount none."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options, "-t", "tmpfs", "none", str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")

    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs Linux and root")
    mount("-o", "size=1m")
    yield folder, mount
    while subprocess.run(["umount", "-l", str(folder)], capture_output=True).returncode == 0:
        pass  # a test that failed may have left another one on top


def test_a_disk_that_fills_up(small_disk: tuple[Path, Callable[..., None]]) -> None:
    disk, _ = small_disk
    volume = scan(0, (30, 128, 128))
    store = SampleStore.open(disk / "project", create=True)
    entry = store.scan_for(volume)
    writer = Writer(store, delay=0.0, retry=0.05)
    for z in range(30):  # 32 KiB each, and as much again for the masks: more than there is
        writer.put(entry, z, 0, image_of(volume, 0, z), mask(volume, 0, z), "confirmed")
    assert not writer.flush(20)
    assert "No space left on device" in writer.trouble
    waiting = writer.pending
    assert 0 < waiting < 30
    reader = SampleStore.open(disk / "project", read_only=True)
    assert len(reader.records()) == 30 - waiting
    assert sorted(reader.restore(entry)) == [record.index for record in reader.records()]
    assert not reader.messages
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    assert writer.close()
    restored = SampleStore.open(disk / "project", read_only=True).restore(entry)
    assert all(np.array_equal(restored[z].labels, mask(volume, 0, z)) for z in range(30))
    store.close()


def test_a_disk_that_is_read_only(small_disk: tuple[Path, Callable[..., None]]) -> None:
    disk, _ = small_disk
    volume = scan()
    with SampleStore.open(disk / "project", create=True) as store:
        entry, _ = put(store, volume, 1)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(InputError, match="cannot be written: Read-only file system"):
        SampleStore.open(disk / "project")
    with pytest.raises(InputError, match="cannot be written: Read-only file system"):
        SampleStore.open(disk / "other", create=True)
    reader = SampleStore.open(disk / "project", read_only=True)
    assert sorted(reader.restore(entry)) == [1]


def test_a_folder_that_becomes_read_only_while_it_is_open(small_disk: tuple[Path, Callable[..., None]]) -> None:
    disk, _ = small_disk
    volume = scan()
    store = SampleStore.open(disk / "project", create=True)
    entry, _ = put(store, volume, 1)
    store.close()
    store = SampleStore.open(disk / "project")
    writer = Writer(store, delay=0.0, retry=0.02)
    # the disk itself cannot turn read-only while the lock is open; a read-only view on top is the same to who writes
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
    writer.put(entry, 2, 0, image_of(volume, 0, 2), mask(volume, 0, 2), "edited")
    assert not writer.flush(10)
    assert "Read-only file system" in writer.trouble
    assert writer.pending == 1
    subprocess.run(["umount", "-l", str(disk)], check=True)  # the writer may be looking at it just now
    assert writer.close()
    assert sorted(store.restore(entry)) == [1, 2]
    store.close()
