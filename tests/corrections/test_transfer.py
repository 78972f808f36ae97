from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.corrections.store import SampleStore
from napari_llm4seg.corrections.transfer import export_zip, import_zip, merge
from napari_llm4seg.errors import InputError

from .made import files, mask, put, scan

LIVER, SPLEEN = ClassSpec(value=1, name="liver"), ClassSpec(value=2, name="spleen")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    with SampleStore.open(tmp_path / "ours", create=True, name="ours", classes=[LIVER]) as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SampleStore]:
    with SampleStore.open(tmp_path / "theirs", create=True, name="theirs", classes=[LIVER, SPLEEN]) as opened:
        yield opened


def content(store: SampleStore) -> dict[Any, tuple[str, bytes, bytes]]:
    """Return state, digest and mask of every record by its scan's voxels, axis and slice."""
    digests = {entry.id: entry.digest for entry in store.scans()}
    return {
        (digests[r.scan], r.axis, r.index): (r.state, r.digest.encode(), store.load(r)[1].tobytes())
        for r in store.records()
    }


def history(store: SampleStore) -> list[str]:
    return sorted(path.name.split(".")[0] + "." + path.name.split(".")[2] for path in store.folder.rglob("history/*"))


# --- there and back ---------------------------------------------------------------------------------------------------


def test_a_project_goes_through_a_file_without_loss(store: SampleStore, other: SampleStore, tmp_path: Path) -> None:
    grey, colour = scan(0), scan(1, (1, 9, 8), 3, np.uint8, "skin")
    grey = grey.with_data(grey.data, metadata={"source_path": "/home/someone/patient 7/ct.nii.gz"})
    entry, _ = put(other, grey, 2, annotated=mask(grey, 0, 7) > 0, model="m", written="w")
    put(other, grey, 3, axis=1, state="edited")
    put(other, grey, 4)
    other.drop(entry, 4)
    put(other, colour, 0)
    other.put_scan(grey)
    other.put_scan(scan(2))  # kept, but not corrected
    seen: list[str] = []
    path = export_zip(other, tmp_path / "out" / "p.zip", lambda done, total, message: seen.append(f"{done}/{total}"))
    assert seen[-1] == "6/6"
    with zipfile.ZipFile(path) as archive:
        assert "someone" not in "".join(archive.read(n).decode() for n in archive.namelist() if n.endswith(".json"))
        assert all(name == "project.json" or name.startswith("scans/") for name in archive.namelist())
    merged = import_zip(store, path)
    assert (merged.scans, merged.added, merged.replaced, merged.older, merged.same) == (3, 3, 0, 0, 0)
    assert not merged.messages
    assert content(store) == content(other)
    assert history(store) == history(other) == ["z0004.undone"]
    assert files(store.folder) == files(other.folder)
    assert np.array_equal(store.volume(entry).data, grey.data)
    assert {spec.name for spec in store.classes} == {"liver", "spleen"}
    assert {r.model for r in store.records()} == {"m", ""}
    before = files(store.folder)
    again = import_zip(store, path)
    assert (again.scans, again.same, again.added) == (0, 3, 0)
    assert files(store.folder) == before


def test_of_two_corrections_the_newer_counts_and_the_older_is_kept(store: SampleStore, other: SampleStore) -> None:
    volume = scan()
    put(store, volume, 1, mask(volume, 0, 1))
    put(other, volume.with_data(volume.data, name="another name"), 1, mask(volume, 0, 2), state="edited")
    put(other, volume, 2, mask(volume, 0, 3))
    put(store, volume, 2, mask(volume, 0, 4))
    put(store, volume, 3, mask(volume, 0, 5))
    put(other, volume, 4, mask(volume, 0, 6))
    merged = merge(store, other)
    assert (merged.scans, merged.added, merged.replaced, merged.older) == (0, 1, 1, 1)
    found = {record.index: store.load(record)[1] for record in store.records()}
    for z, seed in ((1, 2), (2, 4), (3, 5), (4, 6)):
        assert np.array_equal(found[z], mask(volume, 0, seed))
    assert history(store) == ["z0001.merged", "z0002.merged"]
    kept = {path.name[:5]: np.load(path)["labels"] for path in store.folder.rglob("history/*")}
    assert np.array_equal(kept["z0001"], mask(volume, 0, 1))
    assert np.array_equal(kept["z0002"], mask(volume, 0, 3))
    merge(store, other)
    assert history(store) == ["z0001.merged", "z0002.merged"], "once more changes nothing"


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_merging_loses_nothing_and_the_order_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("m")
    steps = data.draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 9)), max_size=8))
    results = []
    for order in (0, 1):
        sides = [SampleStore.open(root / f"{order}{side}", create=True) for side in (0, 1)]
        for side, z, seed in steps:
            put(sides[side], scan(), z, mask(scan(), 0, seed))
        written = {record.digest for side in sides for record in side.records()}
        merge(sides[order], sides[1 - order])
        assert {key[2] for key in content(sides[order])} == {z for _, z, _ in steps}
        kept = {json.loads(np.load(path)["record.json"])["digest"] for path in sides[order].folder.rglob("*.npz")}
        assert written <= kept
        results.append(content(sides[order]))
        for side in sides:
            side.close()
    assert results[0] == results[1]


def test_a_label_that_means_something_else_there_stops_the_merge(store: SampleStore, other: SampleStore) -> None:
    store.add_classes([ClassSpec(value=2, name="kidney")])
    put(other, scan(), 1)
    with pytest.raises(InputError, match="Label 2 is 'kidney' in this project and 'spleen' in the other"):
        merge(store, other)
    assert not store.records()


# --- hostile and broken files -----------------------------------------------------------------------------------------


@pytest.fixture
def exported(other: SampleStore, tmp_path: Path) -> Path:
    put(other, scan(), 1)
    other.put_scan(scan())
    return export_zip(other, tmp_path / "p.zip")


def altered(path: Path, change: Callable[[str, bytes], dict[str, bytes]]) -> Path:
    """Return a copy of an archive whose members are what ``change`` makes of each."""
    target = path.with_name("altered.zip")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        for name in archive.namelist():
            for changed, data in change(name, archive.read(name)).items():
                out.writestr(changed, data)
    return target


def refused(store: SampleStore, path: Path, match: str) -> None:
    before = files(store.folder.parent)
    with pytest.raises(InputError, match=match) as caught:
        import_zip(store, path)
    assert "\n" not in str(caught.value)
    assert files(store.folder.parent) == before


@pytest.mark.parametrize(
    "name", ["../evil", "scans/../../evil", "/evil", "C:/evil", "a\\..\\..\\evil", "scans/x/..", "\\evil"]
)
def test_names_outside_the_folder(store: SampleStore, exported: Path, name: str) -> None:
    def change(n: str, data: bytes) -> dict[str, bytes]:
        return {n: data, name: b"x"} if n == "project.json" else {n: data}

    refused(store, altered(exported, change), "outside its folder; it was not imported")


def test_a_link(store: SampleStore, exported: Path) -> None:
    with zipfile.ZipFile(exported, "a") as archive:
        info = zipfile.ZipInfo("scans/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    refused(store, exported, "outside its folder")


def test_sizes_that_no_scan_has(store: SampleStore, exported: Path) -> None:
    def bomb(name: str, data: bytes) -> dict[str, bytes]:
        return {name: bytes(1 << 22) if name.endswith(".npz") else data}

    refused(store, altered(exported, bomb), "z0001.npz of 4194304 bytes; it has .* at most")

    def voxels(name: str, data: bytes) -> dict[str, bytes]:
        return {name: data + bytes(5000) if name.endswith(".npy") else data}

    refused(store, altered(exported, voxels), r"voxels.npy of \d+ bytes")
    refused(
        store, altered(exported, lambda n, d: {n: d + bytes(2 << 20) if n == "project.json" else d}), "project.json of"
    )


def test_more_than_the_disk_holds(store: SampleStore, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    refused(store, exported, "MiB unpacked and the disk has 0 MiB free")


def test_files_that_are_no_project(store: SampleStore, exported: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.zip"
    text.write_text("no zip")
    refused(store, text, "cannot be read as an exported project")
    refused(store, tmp_path / "none.zip", "There is no file")
    refused(store, altered(exported, lambda n, d: {} if n == "project.json" else {n: d}), "no exported project")
    refused(store, altered(exported, lambda n, d: {n: b"{}" if n == "project.json" else d}), "name: Field required")
    refused(store, altered(exported, lambda n, d: {n: b"{}" if n.endswith("scan.json") else d}), "Field required")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(exported.read_bytes()[:-300])
    refused(store, cut, "cannot be read as an exported project")
    flipped = bytearray(exported.read_bytes())
    with zipfile.ZipFile(exported) as archive:
        (voxels,) = [info for info in archive.infolist() if info.filename.endswith("voxels.npy")]
    flipped[voxels.header_offset + 400] ^= 0xFF
    cut.write_bytes(bytes(flipped))
    refused(store, cut, "cannot be read as an exported project")


def test_a_damaged_record_is_left_out_and_told_and_strange_files_too(store: SampleStore, exported: Path) -> None:
    def change(name: str, data: bytes) -> dict[str, bytes]:
        if name.endswith("z0001.npz"):
            return {name: data[:-10], name.replace("z0001", "z0002"): data, "virus.exe": b"x"}
        return {name: data}

    merged = import_zip(store, altered(exported, change))
    assert merged.added == 0
    assert len(merged.messages) == 3
    assert "z0001.npz" in merged.messages[0]
    assert "of another scan or slice" in merged.messages[1]
    assert merged.messages[2].startswith("1 file(s) of 'altered.zip' belong to no project")
    assert not store.records()
    assert not list(store.folder.rglob("virus*"))


def test_other_voxels_than_the_corrections_are_of_are_left_out(store: SampleStore, exported: Path) -> None:
    def change(name: str, data: bytes) -> dict[str, bytes]:
        return {name: data[:-4] + b"abcd" if name.endswith("voxels.npy") else data}

    merged = import_zip(store, altered(exported, change))
    assert merged.added == 1
    assert "not those of its corrections" in merged.messages[0]
    assert not list(store.folder.rglob("voxels.npy"))


def test_nothing_of_an_import_that_was_killed_stays(store: SampleStore, exported: Path) -> None:
    left = store.folder / ".import-abc" / "scans"
    left.mkdir(parents=True)
    import_zip(store, exported)
    assert not list(store.folder.glob(".import-*"))


def test_a_reader_imports_nothing(store: SampleStore, exported: Path) -> None:
    refused(SampleStore.open(store.folder, read_only=True), exported, "for reading only")
