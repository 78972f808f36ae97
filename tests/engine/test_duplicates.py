from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from napari_llm4seg.engine.data import load_cases
from napari_llm4seg.engine.duplicates import near_duplicate_groups
from napari_llm4seg.engine.recipe import DataConfig


def texture(seed: int, side: int = 96) -> Image.Image:
    """A blob in the middle, as in every image of its kind, with a grain of its own."""
    rng = np.random.default_rng(seed)
    grain = np.asarray(Image.fromarray(rng.uniform(0, 255, (24, 24)).astype(np.uint8)).resize((side, side)))
    y, x = np.mgrid[:side, :side]
    blob = 120 * np.exp(-((y - side / 2) ** 2 + (x - side / 2) ** 2) / 500)
    return Image.fromarray(np.clip(0.4 * grain + 150 - blob, 0, 255).astype(np.uint8))


def test_copies_are_found_and_others_are_not(tmp_path: Path) -> None:
    variants = {
        "a0": texture(0),
        "a1": ImageEnhance.Contrast(texture(0)).enhance(0.7),
        "a2": texture(0).resize((140, 140)),
        "a3": texture(0).crop((1, 1, 96, 96)),
        "b0": texture(1),
        "c0": texture(2),
    }
    paths = []
    for name, image in variants.items():
        paths.append(tmp_path / f"{name}.png")
        image.save(paths[-1])
    groups = near_duplicate_groups(paths)
    of = defaultdict(set)
    for path, group in zip(paths, groups, strict=True):
        of[group].add(path.stem)
    assert sorted(map(sorted, of.values())) == [["a0", "a1", "a2", "a3"], ["b0"], ["c0"]]


def test_flat_images_are_no_duplicates_of_anything(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for grey, path in zip((0, 0, 90), paths, strict=True):
        Image.new("L", (80, 80), grey).save(path)
    assert len(set(near_duplicate_groups(paths))) == 3


def test_cases_take_their_groups_from_the_images(made_folder: Path) -> None:
    copy = made_folder / "images" / "case00.png"
    (made_folder / "images" / "case11.png").write_bytes(copy.read_bytes())
    config = DataConfig(root=str(made_folder), images="images", masks="masks", group="near-duplicates")
    cases = {case.name: case for case in load_cases(config)}
    assert cases["case00"].group == cases["case11"].group


@pytest.mark.data
@pytest.mark.slow
def test_known_near_duplicates_are_found(data_dir: Path) -> None:
    named = defaultdict(list)
    with (data_dir / "busi" / "index.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["near_duplicate_group"]:
                named[row["near_duplicate_group"]].append(data_dir / "busi" / "images" / row["file"])
    some = [group for group in list(named.values()) if len(group) > 1][:30]
    paths = [path for group in some for path in group]
    found = dict(zip(paths, near_duplicate_groups(paths), strict=True))
    joined = sum(len({found[path] for path in group}) == 1 for group in some)
    assert joined >= 0.9 * len(some)
    assert len(set(found.values())) >= 0.5 * len(some), "others are not swallowed"
