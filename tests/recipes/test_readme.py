"""What the recipes' README tells people to type works on folders laid out as the public releases are."""

from __future__ import annotations

import csv
import itertools
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_llm4seg.engine.data import load_cases
from napari_llm4seg.engine.recipe import load_recipe
from napari_llm4seg.io.pairs import read_mask

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "training" / "recipes" / "README.md").read_text(encoding="utf-8")


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def test_every_recipe_is_named() -> None:
    recipes = [p for p in (ROOT / "training" / "recipes").rglob("*.yaml") if p.parent.name != "parts"]
    assert [path.stem for path in recipes if not re.search(rf"`{path.stem}(\.yaml)?`", README)] == []


def test_the_busi_release_becomes_what_its_recipes_expect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((6, 8, 3), 90, np.uint8)
    first, second = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    first[1, 1], second[4, 5] = 255, 255
    release = tmp_path / "Dataset_BUSI_with_GT"
    for kind in ("benign", "malignant", "normal"):
        for number in (1, 11):
            save(release / kind / f"{kind} ({number}).png", image)
            save(release / kind / f"{kind} ({number})_mask.png", first * (kind != "normal"))
    save(release / "benign" / "benign (1)_mask_1.png", second)
    monkeypatch.chdir(tmp_path)
    snippet = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippet is not None
    exec(snippet[1], {})  # our own README
    recipe = load_recipe(ROOT / "training" / "recipes" / "paper" / "busi_unet.yaml", [f"data.root={tmp_path}"])
    cases = load_cases(recipe.data)
    assert [case.name for case in cases] == ["benign (1)", "benign (11)", "malignant (1)", "malignant (11)"]
    np.testing.assert_array_equal(read_mask(cases[0].pair.mask, (1, 6, 8))[0], (first | second) > 0)
    np.testing.assert_array_equal(read_mask(cases[1].pair.mask, (1, 6, 8))[0], first > 0)
    with (tmp_path / "busi" / "index.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["benign"] * 2 + ["malignant"] * 2 + ["normal"] * 2


def test_the_isic_release_is_read_as_it_comes(tmp_path: Path) -> None:
    images, masks = "ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"
    for number in range(3):
        save(tmp_path / images / f"ISIC_{number}.jpg", np.zeros((6, 8, 3), np.uint8))
        save(tmp_path / images / f"ISIC_{number}_superpixels.png", np.zeros((6, 8, 3), np.uint8))
        save(tmp_path / masks / f"ISIC_{number}_segmentation.png", np.zeros((6, 8), np.uint8))
    command = re.search(rf"llm4seg (train [^`]*?{images}.*?)\n```", README, re.DOTALL)
    assert command is not None
    words = shlex.split(command[1].replace("\\\n", " "))
    overrides = [value for flag, value in itertools.pairwise(words) if flag == "--set"]
    recipe = load_recipe(ROOT / words[1], [*overrides, f"data.root={tmp_path}"])
    assert [(case.name, case.pair.image.suffix) for case in load_cases(recipe.data)] == [
        (f"ISIC_{number}", ".jpg") for number in range(3)
    ]
