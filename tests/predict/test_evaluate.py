from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.predict import Predictor
from napari_llm4seg.predict.evaluate import CaseScore, Evaluation, Failure, evaluate, score_case
from tests.predict.helpers import LESION, checkpoint

BOX = np.s_[4:8, 4:8]
TWO = (LESION, ClassSpec(value=3, name="vessel"))


def png(path: Path, *boxes: tuple[slice, slice], size: tuple[int, int] = (16, 16)) -> None:
    """Write a picture that is bright in ``boxes``: as a scan, the identity network segments just these."""
    pixels = np.zeros(size, dtype=np.uint8)
    pixels[0, 0] = 1  # not constant
    for box in boxes:
        pixels[box] = 255
    path.parent.mkdir(exist_ok=True)
    if path.parent.name == "masks":
        pixels[0, 0] = 0
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    png(images / "exact.png", BOX)
    png(masks / "exact.png", BOX)
    png(images / "missed.png")
    png(masks / "missed.png", BOX)
    png(images / "normal.png")
    png(masks / "normal.png")
    png(images / "phantom.png", BOX)
    png(masks / "phantom.png")
    png(images / "wrong-size.png", BOX)
    png(masks / "wrong-size.png", BOX, size=(8, 16))
    return images, masks


def model() -> Predictor:
    return Predictor(checkpoint(), "cpu")


@pytest.mark.slow
def test_every_mean_by_hand(folders: tuple[Path, Path]) -> None:
    found = evaluate(model(), *folders)
    told = json.loads(json.dumps(found.as_dict()))
    diagonal = math.hypot(15, 15)
    assert {case.case: case.iou for case in found.cases} == {"exact": 1, "missed": 0, "normal": 1, "phantom": 0}
    expected = {
        "n": 4,
        "iou": 0.5,
        "dice": 0.5,
        "hd95_mm": diagonal / 2,
        "hd95_unit": "pixel",
        "n_hd95_diagonal": 2,
        "n_lesion": 2,
        "iou_lesion": 0.5,
        "dice_lesion": 0.5,
        "hd95_lesion": diagonal / 2,
        "n_empty": 2,
        "empty_correct": 0.5,
        "n_failed": 1,
    }
    assert {name: told[name] for name in expected} == pytest.approx(expected)
    assert told["failed"][0]["case"] == "wrong-size"
    assert "8 x 16" in told["failed"][0]["error"]
    assert told["config"]["checkpoint"] == "identity"


def test_progress_and_cancel(folders: tuple[Path, Path]) -> None:
    for name in ("exact", "phantom", "missed", "wrong-size"):
        for folder in folders:
            (folder / f"{name}.png").unlink()
    seen: list[tuple[int, int, str]] = []
    evaluate(model(), *folders, progress=lambda *args: seen.append(args))
    assert seen == [(0, 1, "normal"), (1, 1, "done")]
    with pytest.raises(Cancelled):
        evaluate(model(), *folders, cancel=lambda: True)


def test_without_pairs(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        evaluate(model(), tmp_path, tmp_path)


def test_classes_are_averaged() -> None:
    truth = np.zeros((1, 8, 8), dtype=np.uint8)
    labels = truth.copy()
    labels[0, 4:6] = 3  # made up, while the other class is rightly absent
    score = score_case("x", labels, truth, TWO, (1, 1, 1), "mm")
    assert (score.iou, score.dice, score.hd95) == (0.5, 0.5, math.hypot(7, 7) / 2)
    assert (score.empty, score.predicted_empty) == (True, False)
    assert score.class_dice == {"lesion": 1, "vessel": 0}
    assert score_case("x", labels, truth * 0, (LESION,), (1, 1, 1), "mm").class_dice == {}


def test_labels_the_checkpoint_does_not_know_are_named() -> None:
    truth = np.zeros((1, 8, 8), dtype=np.uint8)
    truth[0, 7, 7] = 9
    with pytest.raises(InputError, match="holds label 9, which is none of the model"):
        score_case("x", np.zeros_like(truth), truth, TWO, (1, 1, 1), "mm")


def test_one_class_takes_everything_above_zero_as_itself() -> None:
    truth = np.zeros((1, 8, 8), dtype=np.uint8)
    labels = truth.copy()
    score = score_case("x", labels, truth, (ClassSpec(value=4, name="a"),), (1, 1, 1), "mm")
    assert (score.iou, score.dice, score.hd95, score.empty, score.predicted_empty) == (1, 1, 0, True, True)
    truth[:] = 200
    score = score_case("x", labels, truth, (ClassSpec(value=4, name="a"),), (2, 1, 1), "mm")
    assert (score.iou, score.hd95_is_diagonal, score.hd95) == (0, True, math.hypot(7, 7))


def test_volumes_measure_distance_along_z_too() -> None:
    truth = np.zeros((3, 8, 8), dtype=np.uint8)
    truth[1, 2:4, 2:4] = 1
    score = score_case("x", np.zeros_like(truth), truth, (LESION,), (5, 1, 1), "mm")
    assert score.hd95 == math.hypot(10, 7, 7)


CASES = (
    CaseScore("a", False, False, 0.5, 0.6, 3.0, "mm", False),
    CaseScore("b", True, True, 1.0, 1.0, 0.0, "pixel", False),
)


def test_rows_and_csv(tmp_path: Path) -> None:
    path = Evaluation(CASES, (Failure("c", "no such file"),), {}).write_csv(tmp_path / "cases.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a", "b", "c"]
    assert (rows[0]["iou"], rows[0]["hd95_unit"], rows[0]["error"]) == ("0.5", "mm", "")
    assert (rows[2]["iou"], rows[2]["error"]) == ("", "no such file")
    assert [item.name for item in tmp_path.iterdir()] == ["cases.csv"]


def test_classes_have_means_and_columns_of_their_own(tmp_path: Path) -> None:
    cases = [
        CaseScore(name, False, False, 0.5, 0.6, 3.0, "mm", False, {"lesion": found, "vessel": found / 2})
        for name, found in (("a", 0.8), ("b", 0.6))
    ]
    evaluation = Evaluation(tuple(cases), (Failure("c", "no such file"),), {})
    assert evaluation.as_dict()["dice_by_class"] == pytest.approx({"lesion": 0.7, "vessel": 0.35})
    assert Evaluation(CASES, (), {}).as_dict()["dice_by_class"] == {}
    with evaluation.write_csv(tmp_path / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dice vessel"] for row in rows] == ["0.4", "0.3", ""]


def test_units_that_differ_and_means_of_nothing() -> None:
    assert Evaluation(CASES, (), {}).as_dict()["hd95_unit"] == "mixed"
    nothing = Evaluation((), (Failure("c", "no such file"),), {}).as_dict()
    assert (nothing["n"], nothing["iou"], nothing["empty_correct"], nothing["hd95_unit"]) == (0, None, None, "none")
