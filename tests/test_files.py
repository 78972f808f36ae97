from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

import pytest

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import (
    cache_folder,
    check_place,
    read_json,
    replacing,
    replacing_folder,
    sha256,
    sync_tree,
    write_text,
)


class Killed(BaseException):
    """As abrupt as a KeyboardInterrupt."""


def fail_halfway(path: Path, error: type[BaseException]) -> None:
    path.write_text("ha")
    raise error


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mask.nii.gz"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("mask.nii.gz")
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["mask.nii.gz"]


@pytest.mark.parametrize("error", [ValueError, Killed])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        fail_halfway(temporary, error)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_and_folders_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "x")
        with replacing_folder(tmp_path / "b") as folder:
            (folder / "c").write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o777 & ~mask


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
def test_what_a_folder_shares_with_another_keeps_its_access(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.write_text("x")
    shared.chmod(0o440)
    with replacing_folder(tmp_path / "out") as folder:
        os.link(shared, folder / "shared")
        (folder / "own").write_text("x")
        (folder / "own").chmod(0o600)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o440
    assert stat.S_IMODE((tmp_path / "out" / "own").stat().st_mode) & 0o400


def test_the_umask_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # it belongs to the whole process: another thread's file would be open to everybody in between
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    write_text(tmp_path / "a", "x")
    with replacing_folder(tmp_path / "b") as folder:
        write_text(folder / "c", "x")


def test_what_must_outlive_a_loss_of_power_is_on_the_disk_before_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, move = os.fsync, os.replace

    def synced(handle: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def moved(source: Path, target: Path) -> None:
        events.append("rename")
        move(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    write_text(tmp_path / "a", "x")
    assert events == ["rename"]
    events.clear()
    write_text(tmp_path / "a", "y", durable=True)
    assert events == (["file", "rename"] if os.name == "nt" else ["file", "rename", "folder"])
    events.clear()
    (tmp_path / "b").mkdir()
    write_text(tmp_path / "b" / "c", "z")
    events.clear()
    sync_tree(tmp_path)
    assert events.count("file") == 2
    assert os.name == "nt" or events.count("folder") == 2


class SafetensorError(Exception):
    """By its name the writer's own, which is no OSError."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("4840000 requested and 2097024 written"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed\nwriting file data/17"),
    ],
)
def test_a_disk_that_refuses_is_one_line(tmp_path: Path, error: Exception) -> None:
    for writer in (replacing(tmp_path / "a"), replacing_folder(tmp_path / "b")):
        with pytest.raises(InputError, match="cannot be written") as caught, writer:
            raise error
        assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_other_errors_pass(tmp_path: Path) -> None:
    for error in (RuntimeError("a shape"), SafetensorError("a key"), KeyError("x")):
        with pytest.raises(type(error)), replacing(tmp_path / "a"):
            raise error


def test_places_that_cannot_be_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "file" / "below", "x")
    with pytest.raises(InputError, match="cannot be written"), replacing_folder(tmp_path / "file" / "below"):
        pass
    with pytest.raises(InputError, match="is a folder"):
        write_text(tmp_path, "x")


def test_a_place_is_tried_before_the_work_and_nothing_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_place(tmp_path / "a" / "b" / "new")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"cannot be written.*Choose another place"):
        check_place(tmp_path / "file" / "new")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="new' cannot be written: Permission denied"):
        check_place(tmp_path / "new")


def test_the_present_folder_can_be_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    with replacing_folder(Path("."), "config.json") as folder:
        (folder / "config.json").write_text("{}")
    assert os.listdir(place) == ["config.json"]


def test_long_names_fit(tmp_path: Path) -> None:
    path = tmp_path / ("スキャン" * 20 + ".nii.gz")
    write_text(path, "x")
    assert os.listdir(tmp_path) == [path.name]
    with replacing_folder(tmp_path / ("ä" * 120)) as folder:
        (folder / "a").write_text("x")
    assert (tmp_path / ("ä" * 120) / "a").exists()


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for content in ("one", "two"):
        with replacing_folder(path) as folder:
            (folder / content).write_text(content)
    assert os.listdir(path) == ["two"]
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, Killed])
def test_a_failed_folder_leaves_the_old_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(error), replacing_folder(path) as folder:
        fail_halfway(folder / "new", error)
    assert os.listdir(path) == ["old"]
    assert os.listdir(tmp_path) == ["out"]


def test_an_old_folder_that_cannot_be_put_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").write_text("old")
    real, calls = os.replace, []

    def flaky(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) > 1:
            raise OSError("disk gone")
        real(source, target)

    monkeypatch.setattr(os, "replace", flaky)
    with pytest.raises(InputError, match="disk gone"), replacing_folder(path) as folder:
        (folder / "new").write_text("x")
    assert [entry.read_text() for entry in tmp_path.rglob("old")] == ["old"]


def test_a_marked_folder_replaces_its_kind_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    for content in ("one", "two"):  # an empty folder, then its own kind
        with replacing_folder(path, "config.json") as folder:
            (folder / "config.json").write_text(content)
    assert (path / "config.json").read_text() == "two"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    for place in (other, other / "thesis.txt"):
        with pytest.raises(InputError, match="already holds something else"), replacing_folder(place, "config.json"):
            pytest.fail("nothing may be written")
    assert (other / "thesis.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "cannot be read: JSONDecodeError"),
        (b"", "cannot be read"),
        (b"[1]", "holds a list"),
        (b"\xff\xfe\x00", "is no text file; a JSON file is needed"),
        (b"[" * 100_000, "cannot be read: RecursionError"),
        (b'{"a":' * 100_000, "cannot be read: RecursionError"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', "over 1024 KiB"),
    ],
)
def test_bad_json_gives_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_json(path, "checkpoint config")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_is_read_from_files_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing"):
        read_json(tmp_path / "a.json", "config")
    with pytest.raises(InputError, match="is no file"):
        read_json(tmp_path, "config")
    if hasattr(os, "mkfifo"):  # reading one would wait for ever
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match="is no file"):
            read_json(tmp_path / "pipe", "config")
    (tmp_path / "b.json").write_text('{"a": "ä"}', encoding="utf-8")
    assert read_json(tmp_path / "b.json", "config") == {"a": "ä"}


def test_sha256_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LLM4SEG_CACHE")
    assert cache_folder().name == "napari-llm4seg"
