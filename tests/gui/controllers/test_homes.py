"""Which project a scan's corrections go to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.gui.controllers import homes
from napari_llm4seg.gui.controllers.finding import Wanted, find
from napari_llm4seg.gui.controllers.homes import ProjectChoice, folder_title, image_file, shared_home, siblings
from napari_llm4seg.gui.controllers.projects import projects_folder
from napari_llm4seg.io import read, write
from napari_llm4seg.volume import Volume


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM4SEG_PROJECTS", str(tmp_path / "projects"))


def image(path: Path | str, seed: int = 0, n_slices: int = 1, **more: object) -> Volume:
    data = np.random.default_rng(seed).integers(0, 255, (1, n_slices, 6, 7), np.uint8)
    return Volume(data, name=Path(path).stem, metadata={"source_path": str(path), **more} if path else {})


def test_single_images_of_a_folder_share_a_project_and_volumes_do_not(tmp_path):
    a, b = image(tmp_path / "busi" / "images" / "a.png"), image(tmp_path / "busi" / "images" / "b.png", 1)
    home = shared_home(a, 0, ProjectChoice())
    assert home == shared_home(b, 0, ProjectChoice())
    assert home is not None
    assert home.folder.parent == projects_folder()
    assert home.folder.name.startswith("images-busi-images-")
    assert home.name == "images of busi/images"
    assert home.images == tmp_path / "busi" / "images"
    other = shared_home(image(tmp_path / "isic" / "images" / "a.png"), 0, ProjectChoice())
    assert other is not None
    assert other.folder != home.folder
    assert shared_home(image(tmp_path / "a.nii.gz", n_slices=3), 0, ProjectChoice()) is None
    assert shared_home(image(""), 0, ProjectChoice()) is None, "it came from no file"
    assert shared_home(a, 0, ProjectChoice(apart=True)) is None
    assert shared_home(image(tmp_path / "a.nii.gz", n_slices=3), 0, ProjectChoice(tmp_path / "study")) is not None


def test_images_of_stated_kinds_are_kept_apart(tmp_path):
    found = [
        shared_home(image(tmp_path / f"{kind}.dcm", modality=kind), 0, ProjectChoice()) for kind in ("US", "MR", "US")
    ]
    assert all(found)
    assert found[0] == found[2] != found[1]


def test_a_relative_path_is_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert image_file(image("a.png")) == tmp_path / "a.png"
    assert folder_title(Path("/")) == "/"
    assert folder_title(Path("/data")) == "data"


def test_siblings_are_images_by_number_without_masks(tmp_path):
    names = ["a (10).png", "a (2).PNG", "b.jpg", "a (2)_mask.png", "a (10)_mask_1.png", "x_seg.tif", "c.dcm", ".a.png"]
    for name in (*names, "note.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in siblings(tmp_path / "b.jpg")] == ["a (2).PNG", "a (10).png", "b.jpg"]
    assert [path.name for path in siblings(tmp_path / "c.dcm")] == ["c.dcm"]
    assert [path.name for path in siblings(tmp_path / "a (2)_mask.png")][1] == "a (2)_mask.png", "it was opened as one"
    assert siblings(tmp_path / "gone" / "a.png") == (tmp_path / "gone" / "a.png",)


def corrected_apart(scan: Volume) -> Path:
    opened = find(Wanted(scan, choice=ProjectChoice(apart=True)), create=True)
    assert opened.project is not None
    assert opened.entry is not None
    mask = np.ones((6, 7), np.uint8)
    opened.project.store.put(opened.entry, 0, 0, scan.slice_at(0), mask, "confirmed")
    record = opened.project.store.records()[0]
    opened.project.store.hold_back([record.image_digest])
    opened.project.release()
    return opened.home.folder


def corrected_together(folder: Path) -> None:
    for seed, name in enumerate(("a.png", "b.png")):
        write(folder / name, image("x", seed))
        scan = read(folder / name)
        opened = find(Wanted(scan), create=True)
        assert opened.project is not None
        assert opened.entry is not None
        opened.project.store.put(opened.entry, 0, 0, scan.slice_at(0), np.ones((6, 7), np.uint8), "edited")
        opened.project.release()


def test_what_an_image_had_in_a_project_of_its_own_is_found_in_the_shared_one(tmp_path):
    a, b = image(tmp_path / "a.png"), image(tmp_path / "b.png", 1)
    own = corrected_apart(a)
    assert find(Wanted(b), create=False).project is None, "the other image alone makes no project"
    opened = find(Wanted(a), create=False)
    assert opened.project is not None
    assert opened.home.folder != own
    assert set(opened.restored) == {0}
    assert opened.restored[0].record.state == "confirmed"
    assert len(opened.project.store.held_back) == 1, "what judges goes on judging"
    assert opened.said == ""
    opened.project.store.drop(opened.entry, 0)
    opened.project.release()
    again = find(Wanted(a), create=False)
    assert again.restored == {}, "what was taken back since is not brought in again"
    assert again.project is not None
    again.project.release()
    with SampleStore.open(own, read_only=True) as store:
        assert len(store.records()) == 1, "the project of before is as it was"


def test_versions_of_the_project_before_are_told_of(tmp_path, monkeypatch):
    a = image(tmp_path / "a.png")
    own = corrected_apart(a)
    monkeypatch.setattr("napari_llm4seg.corrections.versions.Versions.list", lambda self: [1, 2])
    opened = find(Wanted(a), create=False)
    assert opened.said == (
        f"This image was in another project; the 2 versions trained there can be opened from '{own}'."
    )
    assert opened.project is not None
    opened.project.release()


def test_a_damaged_project_of_before_is_said_and_the_image_goes_on(tmp_path):
    a = image(tmp_path / "a.png")
    own = corrected_apart(a)
    (own / "project.json").write_text("{")
    opened = find(Wanted(a), create=False)
    assert opened.project is not None
    assert opened.entry is not None
    assert opened.restored == {}
    assert "was not brought in" in opened.said
    opened.project.release()


def test_a_chosen_project_brings_nothing_in(tmp_path):
    a = image(tmp_path / "a.png")
    corrected_apart(a)
    opened = find(Wanted(a, choice=ProjectChoice(tmp_path / "study")), create=True)
    assert opened.restored == {}
    assert opened.project is not None
    opened.project.release()
    assert homes.earlier_project(opened.home, a, opened.digest) is None


def test_a_folder_that_was_moved_takes_its_corrections_along(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    corrected_together(old)
    old.rename(new)
    found = find(Wanted(read(new / "b.png")), create=False)
    assert found.project is not None
    assert set(found.restored) == {0}
    assert dict(found.marks) == {new / "a.png": "edited", new / "b.png": "edited"}, "the other image came along"
    assert found.others == 1
    found.project.release()


def test_a_copy_of_an_image_brings_itself_alone(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    corrected_together(old)
    write(new / "copy.png", image("x", 0))
    found = find(Wanted(read(new / "copy.png")), create=False)
    assert found.project is not None
    assert dict(found.marks) == {new / "copy.png": "edited"}
    found.project.release()
