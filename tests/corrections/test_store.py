from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.corrections import SampleStore, unannotated
from napari_llm4seg.errors import InputError
from napari_llm4seg.volume import Volume

from .made import files, image_of, mask, put, scan

LIVER = ClassSpec(value=1, name="liver")


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with SampleStore.open(tmp_path / "project", create=True, name="livers", classes=[LIVER]) as opened:
        yield opened


def again(store: SampleStore) -> SampleStore:
    """Return the same project as another process would see it."""
    return SampleStore.open(store.folder, read_only=True)


# --- round trips ------------------------------------------------------------------------------------------------------

DTYPES = ["|u1", "|b1", "<i2", ">i2", "<u2", "<f4", "<f8", "<f2", "<i4"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_slice_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    grid = data.draw(st.tuples(*(st.integers(1, 7),) * 3))
    channels, axis = data.draw(st.sampled_from([1, 3, 4])), data.draw(st.integers(0, 2))
    index = data.draw(st.integers(0, grid[axis] - 1))
    volume = scan(data.draw(st.integers(0, 99)), grid, channels, data.draw(st.sampled_from(DTYPES)))
    shape = tuple(side for other, side in enumerate(grid) if other != axis)
    values = data.draw(st.lists(st.sampled_from([0, 1, 2, 200, 254, 255, 256, 65534]), min_size=1, max_size=4))
    labels = np.resize(np.array(values, data.draw(st.sampled_from(["u2", "i4", "i8"]))), shape)
    annotated = data.draw(st.none() | st.integers(0, 2**32 - 1).map(lambda s: np.random.default_rng(s).random(shape)))
    counts = None if annotated is None else annotated > 0.5
    state = data.draw(st.sampled_from(["edited", "confirmed"]))

    with SampleStore.open(tmp_path_factory.mktemp("p") / "q", create=True) as store:
        entry, record = put(store, volume, index, labels, axis, state=state, annotated=counts, written="w", model="m")
        reader = again(store)
    assert reader.scans() == (entry,)
    assert reader.records() == (record,)
    assert (record.state, record.axis, record.index, record.written, record.model) == (state, axis, index, "w", "m")
    image, trained = reader.load(record)
    wanted = image_of(volume, axis, index)
    assert np.array_equal(image, wanted)
    assert image.dtype == wanted.dtype.newbyteorder("<")
    known = np.ones(shape, bool) if counts is None else counts
    assert np.array_equal(trained[known], labels[known])
    assert (trained[~known] == unannotated(trained)).all()
    assert trained.dtype == (np.uint8 if labels.max() < 255 else np.uint16)
    assert not (trained[known] == unannotated(trained)).any()
    assert record.annotated == known.sum()
    assert record.values == tuple(np.unique(labels[known]))
    restored = reader.restore(entry, axis)[index]
    assert np.array_equal(restored.labels, labels)
    assert (restored.annotated is None) == bool(known.all())
    if restored.annotated is not None:
        assert np.array_equal(restored.annotated, known)


def test_the_project_is_readable_without_this_program(store: SampleStore) -> None:
    volume = scan()
    entry, record = put(store, volume, 2)
    manifest = json.loads((store.folder / "project.json").read_text())
    assert manifest["name"] == "livers"
    assert manifest["classes"][0]["name"] == "liver"
    assert files(store.folder) == {
        "project.json",
        f"scans/{entry.id}/scan.json",
        f"scans/{entry.id}/slices/z0002.npz",
    }
    assert entry.id.startswith("ct-1-")
    about = json.loads((store.folder / "scans" / entry.id / "scan.json").read_text())
    assert about["grid"] == [6, 12, 10]
    assert about["spacing"] == [3, 0.8, 0.7]
    with np.load(store.folder / "scans" / entry.id / "slices" / "z0002.npz", allow_pickle=False) as opened:
        assert np.array_equal(opened["labels"], mask(volume, 0, 2))
        assert json.loads(opened["record.json"])["state"] == record.state


def test_the_newest_correction_of_a_slice_counts(store: SampleStore) -> None:
    volume = scan()
    for seed in range(3):
        _, record = put(store, volume, 1, mask(volume, 0, seed), state="edited")
    assert store.records() == again(store).records() == (record,)
    assert np.array_equal(store.load(record)[1], mask(volume, 0, 2))
    assert not list(store.folder.rglob("history/*"))


def test_what_was_confirmed_stays_in_the_history_when_it_is_replaced_or_taken_back(store: SampleStore) -> None:
    volume = scan()
    entry, first = put(store, volume, 1, mask(volume, 0, 0))
    put(store, volume, 1, mask(volume, 0, 1), state="edited")
    store.drop(entry, 1)
    store.drop(entry, 1)  # taking back what is not there is no error
    assert store.records() == again(store).records() == ()
    kept = sorted(path.name.split(".", 1)[1].split(".", 1)[1] for path in store.folder.rglob("history/*.npz"))
    assert kept == ["replaced.npz", "undone.npz"]
    (replaced,) = store.folder.rglob("history/*.replaced.npz")
    with np.load(replaced) as opened:
        assert np.array_equal(opened["labels"], mask(volume, 0, 0))
        assert json.loads(opened["record.json"])["digest"] == first.digest


def test_the_history_does_not_grow_without_end(store: SampleStore) -> None:
    volume = scan()
    for seed in range(15):
        put(store, volume, 1, mask(volume, 0, seed))
    assert len(list(store.folder.rglob("history/*.npz"))) == 10


def test_equal_content_has_an_equal_digest_whenever_it_was_made(store: SampleStore) -> None:
    volume = scan()
    _, first = put(store, volume, 1, mask(volume, 0, 0), state="edited")
    _, second = put(store, volume, 1, mask(volume, 0, 0))
    _, other = put(store, volume, 1, mask(volume, 0, 0), annotated=mask(volume, 0, 5) > 0)
    assert first.digest == second.digest != other.digest
    assert first.time < second.time


# --- finding the scan again -------------------------------------------------------------------------------------------


def test_a_scan_is_found_again_after_its_file_moved(store: SampleStore, tmp_path: Path) -> None:
    volume = scan()
    at_home = volume.with_data(volume.data, metadata={"source_path": str(tmp_path / "a" / "ct.nii.gz")})
    entry, _ = put(store, at_home, 2)
    assert entry.source_relative == "../a/ct.nii.gz"
    moved = volume.with_data(volume.data, name="other name", metadata={"source_path": str(tmp_path / "b" / "x.nii.gz")})
    reader = again(store)
    found = reader.scan_for(moved)
    assert found.id == entry.id
    assert found.source.endswith("x.nii.gz")
    assert np.array_equal(reader.restore(found)[2].labels, mask(volume, 0, 2))
    put(store, moved, 3)
    assert again(store).scans()[0].source.endswith("x.nii.gz")
    assert len(again(store).records(found)) == 2
    assert reader.scan_for(scan(1)).id != entry.id


def test_looking_for_a_scan_writes_nothing(store: SampleStore) -> None:
    store.scan_for(scan())
    assert files(store.folder) == {"project.json"}


def test_many_scans_in_one_project(store: SampleStore) -> None:
    grey, colour = scan(0, (1, 8, 9), name="us"), scan(0, (1, 8, 9), 3, np.uint8, name="skin")
    put(store, grey, 0)
    entry, _ = put(store, colour, 0)
    assert [scan.name for scan in store.scans()] == ["skin", "us"]
    (record,) = store.records(entry)
    assert store.load(record)[0].shape == (3, 8, 9)
    assert len(store.records()) == 2


# --- whole scans ------------------------------------------------------------------------------------------------------


def test_all_annotations_of_a_scan_as_one_volume(store: SampleStore) -> None:
    volume = scan()
    entry, _ = put(store, volume, 1, mask(volume, 0, 0))
    corner = np.zeros((12, 10), bool)
    corner[:3] = True
    put(store, volume, 4, mask(volume, 0, 1), annotated=corner)
    put(store, volume, 2, mask(volume, 2, 3), axis=2)
    labels = store.labels(entry)
    expected = np.full(volume.grid, 255, np.uint8)
    expected[1] = mask(volume, 0, 0)
    expected[4][corner] = mask(volume, 0, 1)[corner]
    expected[:, :, 2] = mask(volume, 2, 3)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected)
    put(store, volume, 0, np.full((12, 10), 255))
    assert store.labels(entry).dtype == np.uint16
    assert np.array_equal(store.labels(entry)[1:], np.where(expected == 255, 65535, expected.astype(np.uint16))[1:])
    assert (store.labels(entry)[0][:, [0, 1, 3]] == 255).all()


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.int16), (3, np.uint8), (1, np.dtype(">f4"))])
def test_a_whole_scan_is_kept_once(store: SampleStore, channels: int, dtype: Any) -> None:
    volume = scan(0, channels=channels, dtype=dtype)
    seen: list[str] = []
    entry = store.put_scan(volume, lambda done, total, message: seen.append(message))
    path = store.folder / "scans" / entry.id / "voxels.npy"
    written = path.stat().st_mtime_ns
    store.put_scan(volume)
    assert path.stat().st_mtime_ns == written
    back = again(store).volume(entry)
    assert np.array_equal(back.data, volume.data)
    assert (back.spacing, back.unit, back.name) == (volume.spacing, "mm", volume.name)
    assert {"recognising the scan", "keeping the scan"} == set(seen)


def test_a_scan_that_was_not_kept_is_read_from_its_file_while_that_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "scan.npy"
    values = scan().data[0]
    np.save(path, values)
    from napari_llm4seg.io import read

    with SampleStore.open(tmp_path / "p", create=True) as store:
        entry, _ = put(store, read(path), 0)
        assert np.array_equal(store.volume(entry).data[0], values)
        np.save(path, values + 1)
        with pytest.raises(InputError, match=r"not where it was .*scan\.npy.*Open it again"):
            store.volume(entry)


def test_no_room_for_a_scan(store: SampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(InputError, match=r"takes 0 MiB and the disk of .* has 0 MiB free"):
        store.put_scan(scan())


# --- what is refused --------------------------------------------------------------------------------------------------


def test_arrays_that_do_not_fit(store: SampleStore) -> None:
    volume = scan()
    entry = store.scan_for(volume)
    image, labels = image_of(volume, 0, 0), mask(volume, 0)
    cases: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("There is no slice 6 of 'CT 1' along z; it has 6 there", (6, 0, image, labels, "edited"), {}),
        (
            r"mask of slice 0 of 'CT 1' is \(12, 10\); that scan's slices are \(6, 10\)",
            (0, 1, image, labels, "edited"),
            {},
        ),
        (r"The image is \(1, 11, 10\)", (0, 0, image[:, 1:], labels, "edited"), {}),
        (r"The image is \(12, 10\); a slice of 'CT 1' is \(1, 12, 10\)", (0, 0, image[0], labels, "edited"), {}),
        ("The annotated part of slice 0", (0, 0, image, labels, "edited"), {"annotated": labels[1:] > 0}),
        ("whole label values", (0, 0, image, labels * 0.5, "edited"), {}),
        ("holds label 65535", (0, 0, image, labels.astype("i4") + 65533, "edited"), {}),
        ("holds label -1", (0, 0, image, labels.astype("i4") - 1, "edited"), {}),
    ]
    for match, arguments, others in cases:
        with pytest.raises(InputError, match=match):
            store.put(entry, *arguments, **others)
    assert files(store.folder) == {"project.json"}


def test_folders_that_are_no_project(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no project of corrections"):
        SampleStore.open(tmp_path / "none")
    with pytest.raises(InputError, match="no project of corrections"):
        SampleStore.open(tmp_path / "none", create=True, read_only=True)
    (tmp_path / "thesis.txt").write_text("x")
    for folder in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(InputError, match="already holds something else"):
            SampleStore.open(folder, create=True)
    (tmp_path / "project.json").write_text("{}")
    with pytest.raises(InputError, match="name: Field required"):
        SampleStore.open(tmp_path)
    (tmp_path / "project.json").write_text('{"format": "napari-llm4seg-project/9", "name": "x"}')
    with pytest.raises(InputError, match="napari-llm4seg-project/1"):
        SampleStore.open(tmp_path)


def test_a_project_whose_making_was_killed_can_be_made_after_all(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1")
    (tmp_path / ".0123abcd-project.json").write_text("{")
    with SampleStore.open(tmp_path, create=True, name="second try") as store:
        assert store.name == "second try"
        assert files(tmp_path) == {"project.json"}


def test_classes_are_added_but_never_change_their_meaning(store: SampleStore) -> None:
    store.add_classes([ClassSpec(value=2, name="spleen"), LIVER])
    assert [spec.name for spec in again(store).classes] == ["liver", "spleen"]
    with pytest.raises(InputError, match="Label 2 is 'spleen' in this project and 'kidney' in the other"):
        store.add_classes([ClassSpec(value=2, name="kidney")])


def test_what_judges_is_locked_for_good(store: SampleStore) -> None:
    volume = scan()
    _, first = put(store, volume, 1, mask(volume, 0, 0))
    store.hold_back([first.image_digest])
    store.hold_back(["f" * 64])
    _, again_corrected = put(store, volume, 1, mask(volume, 0, 1))
    assert again_corrected.digest != first.digest
    assert again(store).held_back == {again_corrected.image_digest, "f" * 64}


# --- damage -----------------------------------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["cut", "empty", "text", "flipped", "other slice"])
def test_a_damaged_record_is_told_and_set_aside_and_the_others_load(store: SampleStore, how: str) -> None:
    volume = scan()
    for z in (1, 2, 3):
        entry, _ = put(store, volume, z)
    path = store.folder / "scans" / entry.id / "slices" / "z0002.npz"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("no zip at all")
    elif how == "flipped":
        with zipfile.ZipFile(path) as archive:
            start = archive.getinfo("image.npy").header_offset
        flip(path, start + 200)
    else:
        path.write_bytes(path.with_name("z0001.npz").read_bytes())
    store.reload()
    restored = store.restore(entry)
    assert sorted(restored) == [1, 3]
    assert [record.index for record in store.records()] == [1, 3]
    (message,) = store.messages
    assert "z0002.npz" in message
    assert "set aside, all others are as they were" in message
    assert "\n" not in message
    assert sorted(each.name for each in path.parent.iterdir()) == ["z0001.npz", "z0002.npz.damaged", "z0003.npz"]
    put(store, volume, 2)
    assert sorted(again(store).restore(entry)) == [1, 2, 3]


def test_a_damaged_project_file_costs_no_record(store: SampleStore) -> None:
    _, record = put(store, scan(), 1)
    store.close()
    manifest = store.folder / "project.json"
    manifest.write_text("{")
    with pytest.raises(InputError, match=r"cannot be read.*move it away and make the project anew"):
        SampleStore.open(store.folder, create=True)
    manifest.rename(manifest.with_suffix(".old"))
    with SampleStore.open(store.folder, create=True) as mended:
        assert mended.records() == (record,)


def test_a_damaged_scan_entry_costs_no_record(store: SampleStore) -> None:
    volume = scan()
    entry, _ = put(store, volume, 1)
    (store.folder / "scans" / entry.id / "scan.json").write_text("{")
    store.reload()
    assert store.scans() == store.records() == ()
    assert "cannot be read" in store.messages[0]
    put(store, volume, 2)
    assert [record.index for record in store.records()] == [1, 2]


def test_what_a_killed_process_left_is_cleared_away(store: SampleStore) -> None:
    entry, _ = put(store, scan(), 1)
    left = store.folder / "scans" / entry.id / "slices" / ".0123abcd-z0001.npz"
    left.write_bytes(b"half")
    again(store)
    assert left.exists(), "a reader clears nothing away"
    store.reload()
    assert not left.exists()
    assert len(store.records()) == 1


def test_a_scan_whose_entry_was_never_finished_is_nothing_to_tell_of(store: SampleStore) -> None:
    entry = store.scan_for(scan())
    folder = store.folder / "scans" / entry.id
    folder.mkdir(parents=True)
    (folder / ".0123abcd-scan.json").write_text("{")
    store.reload()
    assert store.messages == []
    assert files(store.folder) == {"project.json"}
    put(store, scan(), 1)
    assert len(again(store).records()) == 1


def test_a_reader_changes_nothing(store: SampleStore) -> None:
    entry, _ = put(store, scan(), 1)
    path = store.folder / "scans" / entry.id / "slices" / "z0001.npz"
    path.write_text("damaged")
    reader = again(store)
    assert path.exists()
    assert len(reader.messages) == 1
    for change in (
        lambda: put(reader, scan(), 2),
        lambda: reader.put_scan(scan()),
        lambda: reader.add_classes([LIVER, ClassSpec(value=3, name="x")]),
    ):
        with pytest.raises(InputError, match="for reading only"):
            change()


def test_writing_a_slice_is_quick(store: SampleStore) -> None:
    import time

    volume = Volume(np.random.default_rng(0).integers(-1000, 1000, (1, 1, 512, 512)).astype(np.int16))
    labels = np.zeros((512, 512), np.uint8)
    labels[100:300, 100:300] = 1
    entry = store.scan_for(volume)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        store.put(entry, 0, 0, volume.slice_at(0), labels, "edited", annotated=labels > 0)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1
    assert os.path.getsize(next(store.folder.rglob("z0000.npz"))) < 512 * 512 * 2 + 8000
