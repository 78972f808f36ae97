from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import BackboneConfig, Card, CheckpointConfig, ModelConfig, PreprocessConfig
from napari_llm4seg.corrections.store import SampleStore
from napari_llm4seg.corrections.versions import Versions
from napari_llm4seg.engine.gate import compare
from napari_llm4seg.engine.scores import Score
from napari_llm4seg.errors import CheckpointError, InputError
from napari_llm4seg.models.llm4seg import LLM4SegNet

from .made import files, put, scan

BACKBONE = BackboneConfig(kind="cmunext", in_channels=1, widths=(4, 6), depths=(1, 1), kernels=(3, 3))


def checkpoint(seed: int, name: str = "liver starter") -> Checkpoint:
    torch.manual_seed(seed)
    config = CheckpointConfig(
        model=ModelConfig(backbone=BACKBONE),
        preprocess=PreprocessConfig(size=(32, 32)),
        card=Card(name=name, licence="CC0", scores={"iou": 0.7}),
    )
    return Checkpoint(config, LLM4SegNet(config.model).trained_tensors())


START = checkpoint(0)


def score(name: str, hits: int, true: int = 1000, distance: float | None = 5.0) -> Score:
    return Score(name, (hits,), (1000,), (true,), (distance,), "mm", 5000)


def gate(before: float, after: float, names: str = "abcd") -> dict[str, Any]:
    pair = [
        [score(name, round(1000 * dice) - 10 * i, distance=9 - dice) for i, name in enumerate(names)]
        for dice in (before, after)
    ]
    return compare(*pair).as_dict()


def as_kept_before_pixels_were_counted(before: float, after: float, names: str = "abcd") -> dict[str, Any]:
    kept = {"n", "verdict", "worse", "dice_before", "dice_after", "interval", "hd95_before", "hd95_after", "hd95_unit"}
    found = gate(before, after, names)
    slices = [{key: each[key] for key in ("name", "dice", "hd95")} for each in found["slices"]]
    return {key: found[key] for key in kept} | {"slices": slices}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    with SampleStore.open(tmp_path / "project", create=True) as opened:
        put(opened, scan(), 1)
        put(opened, scan(), 3, axis=1, state="edited")
        yield opened


@pytest.fixture
def versions(store: SampleStore) -> Versions:
    return Versions(store)


def test_a_version_says_what_it_came_from_and_is_a_checkpoint_like_any_other(
    store: SampleStore, versions: Versions
) -> None:
    records = store.records()
    trained = checkpoint(1)
    version = versions.add(
        trained,
        parent=START,
        samples=records[:1],
        held_back=records[1:],
        parts="adapters",
        gate=gate(0.8, 0.9),
        training={"seconds": 9},
        cross_check={"n": 2, "new": False},
    )
    assert version.cross_check == {"n": 2, "new": False}
    assert (version.number, version.name) == (1, "liver starter v1")
    assert version.parent == START.digest
    assert [sample.digest for sample in version.samples] == [records[0].digest]
    assert (version.held_back[0].axis, version.held_back[0].index) == (1, 3)
    folder = store.folder / "versions" / "v1"
    assert Checkpoint.load(folder).digest == trained.digest == version.digest
    card = Checkpoint.load(folder).config.card
    assert card.licence == "CC0", "what bound the parent binds the child"
    assert card.training["parent"].startswith("liver starter (")
    assert card.scores["held_back_dice_after"] == pytest.approx(0.885)
    assert "iou" not in card.scores, "those of the parent are not this one's"
    assert json.loads((folder / "version.json").read_text())["parts"] == "adapters"
    reader = Versions(SampleStore.open(store.folder, read_only=True))
    assert reader.list() == (version,)
    assert reader.current == version


def test_numbers_go_up_and_nothing_is_overwritten(store: SampleStore, versions: Versions) -> None:
    first = versions.add(checkpoint(1), parent=START, samples=[])
    before = {name: (store.folder / name).read_bytes() for name in files(store.folder) if "/v1/" in name}
    second = versions.add(checkpoint(2), parent=versions.load(first), samples=[])
    assert (second.number, second.name) == (2, "liver starter v2")
    assert second.parent == first.digest
    assert {name: (store.folder / name).read_bytes() for name in before} == before
    (versions.path(second) / "version.json").write_text("{")
    third = versions.add(checkpoint(3), parent=None, samples=[], name="from nothing")
    assert third.number == 3, "also the number of a damaged one is not used again"
    assert [version.number for version in versions.list()] == [1, 3]
    assert len(versions.messages) == 1
    assert "v2" in versions.messages[0]


def test_rolling_back_follows_the_parents_and_deletes_nothing(store: SampleStore, versions: Versions) -> None:
    assert versions.current is None
    with pytest.raises(InputError, match="nothing before it"):
        versions.roll_back()
    first = versions.add(checkpoint(1), parent=START, samples=[])
    second = versions.add(checkpoint(2), parent=versions.load(first), samples=[])
    versions.roll_back()
    sibling = versions.add(checkpoint(3), parent=versions.load(first), samples=[])
    assert versions.current == sibling
    before = {name for name in files(store.folder) if "/v" in name}
    assert versions.roll_back() == first
    assert versions.current == first
    assert versions.roll_back() is None
    assert versions.current is None
    versions.use(second)
    assert Versions(store).current == second
    assert {name for name in files(store.folder) if "/v" in name} == before


def test_a_name_can_be_changed(store: SampleStore, versions: Versions) -> None:
    version = versions.add(checkpoint(1), parent=START, samples=[])
    renamed = versions.rename(version, " without the motion artefacts ")
    assert versions.list() == (renamed,)
    assert versions.current == renamed
    assert versions.load(renamed).name == "without the motion artefacts"
    assert versions.load(renamed).digest == version.digest
    for name in ("", "  ", "x" * 201):
        with pytest.raises(InputError, match="1 to 200 characters"):
            versions.rename(version, name)


def test_versions_are_compared_on_the_slices_that_judged_both(versions: Versions) -> None:
    a = versions.add(checkpoint(1), parent=START, samples=[], gate=gate(0.7, 0.8, "abcd"))
    b = versions.add(checkpoint(2), parent=START, samples=[], gate=gate(0.7, 0.9, "abcde"))
    found = versions.compare(a, b)
    assert found.n == 4
    (dice, hd95) = found.rows
    assert dice == ("Dice", pytest.approx(0.785), pytest.approx(0.885), pytest.approx(0.1))
    assert hd95 == ("HD95 (mm)", pytest.approx(8.2), pytest.approx(8.1), pytest.approx(-0.1))
    assert found.words == "1 held-back slice(s) judged one of them only and do not count here."
    assert versions.compare(a, a).words == ""
    c = versions.add(checkpoint(3), parent=START, samples=[], gate=gate(0.7, 0.9, "x"))
    none = versions.add(checkpoint(4), parent=START, samples=[])
    for other in (c, none):
        assert (versions.compare(a, other).n, versions.compare(a, other).rows) == (0, ())
        assert "not judged by the same slices" in versions.compare(a, other).words


def test_versions_are_compared_by_all_pixels_of_those_slices(versions: Versions) -> None:
    small, end = score("end", 0, 0, None), score("small", 10, 20)
    both = [score("a", 900), small, end]
    a = versions.add(checkpoint(1), parent=START, samples=[], gate=compare(both, both).as_dict())
    changed = [score("a", 950), replace(small, said=(1001,)), end]
    b = versions.add(checkpoint(2), parent=START, samples=[], gate=compare(both, changed).as_dict())
    (dice, hd95) = versions.compare(a, b).rows
    assert dice[1:3] == (pytest.approx(2 * 910 / 4020), pytest.approx(2 * 960 / 4021))
    assert hd95[1:3] == (5.0, 5.0)
    empty = [score("end", 0, 0, None)]
    c = versions.add(checkpoint(3), parent=START, samples=[], gate=compare(empty, empty).as_dict())
    assert (versions.compare(a, c).n, versions.compare(a, c).rows) == (1, ())


def test_versions_of_before_are_read_and_compared_by_what_they_have(versions: Versions) -> None:
    old = as_kept_before_pixels_were_counted(0.7, 0.8)
    a = versions.add(checkpoint(1), parent=START, samples=[], gate=old)
    b = versions.add(checkpoint(2), parent=START, samples=[], gate=gate(0.7, 0.9))
    (dice, hd95) = versions.compare(versions.list()[0], b).rows
    assert dice == ("Dice", pytest.approx(0.785), pytest.approx(0.885), pytest.approx(0.1))
    assert hd95[1:3] == (pytest.approx(8.2), pytest.approx(8.1))
    assert versions.load(a).config.card.scores["held_back_dice_after"] == pytest.approx(0.785)


def test_another_checkpoint_in_its_place_is_refused(store: SampleStore, versions: Versions) -> None:
    version = versions.add(checkpoint(1), parent=START, samples=[])
    checkpoint(2).save(versions.path(version))
    with pytest.raises(CheckpointError, match="not the checkpoint that was kept there"):
        versions.load(version)


def test_a_failed_save_changes_nothing(store: SampleStore, versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    first = versions.add(checkpoint(1), parent=START, samples=[])
    before = files(store.folder)
    with monkeypatch.context() as patch:

        def full(handle: int) -> None:
            raise OSError(28, os.strerror(28))

        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            versions.add(checkpoint(2), parent=START, samples=[])
    assert files(store.folder) == before
    assert versions.current == first
    left = store.folder / "versions" / ".v2-0123abcd"
    left.mkdir()
    assert versions.add(checkpoint(2), parent=START, samples=[]).number == 2
    assert not left.exists()


def test_a_reader_adds_nothing(store: SampleStore) -> None:
    version = Versions(store).add(checkpoint(1), parent=START, samples=[])
    reader = Versions(SampleStore.open(store.folder, read_only=True))
    for change in (
        lambda: reader.add(checkpoint(1), parent=START, samples=[]),
        lambda: reader.rename(version, "x"),
        reader.roll_back,
    ):
        with pytest.raises(InputError, match="for reading only"):
            change()


def test_a_damaged_pointer_is_told(store: SampleStore, versions: Versions) -> None:
    versions.add(checkpoint(1), parent=START, samples=[])
    (store.folder / "versions" / "current.json").write_text("nonsense")
    assert versions.current is None
    assert "The starting checkpoint is in use" in versions.messages[0]
