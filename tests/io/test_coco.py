"""COCO: pycocotools must find exactly the labelled pixels again."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools.coco import COCO

from napari_llm4seg.errors import InputError
from napari_llm4seg.io import write
from napari_llm4seg.io.coco import instances, outline_loops, write_coco
from napari_llm4seg.volume import Prediction, Volume

FILES = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
CLASSES = ((1, "lesion", "#E69F00"), (3, "cyst", "#56B4E9"))
RING = np.pad(np.pad(np.zeros((1, 2), np.uint8), 1, constant_values=1), 1)
PINCHED = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)  # a ring that is open at a corner


def opened(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def case(labels: np.ndarray, name: str = "a.png") -> tuple[Volume, Prediction]:
    scan = Volume(np.zeros((1, 1, *labels.shape), np.uint8), name=name, metadata={"source_path": f"/scans/{name}"})
    return scan, Prediction(labels[None], None, scan.affine, "pixel", name, CLASSES)


@FILES
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 1, 3])))
@example(RING)
@example(PINCHED)
@example(np.eye(5, dtype=np.uint8))
@example(np.ones((4, 4), np.uint8))
def test_the_same_pixels_come_back(tmp_path: Path, labels: np.ndarray) -> None:
    coco = opened(write_coco(tmp_path / "c.json", [case(labels)]))
    found = np.zeros_like(labels)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation).astype(bool)
        assert annotation["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["bbox"] == box
        assert not found[mask].any()
        found[mask] = annotation["category_id"]
    np.testing.assert_array_equal(found, labels)


def test_instances_are_connected_parts() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool)
    found = list(instances(mask))
    assert sorted(each["area"] for each in found) == [2, 2, 2]
    diagonal = next(each for each in found if each["bbox"] == [0, 0, 2, 2])
    assert diagonal["segmentation"] == [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]


def test_holes_are_run_lengths_and_open_rings_are_not() -> None:
    assert isinstance(next(iter(instances(RING > 0)))["segmentation"], dict)
    assert len(outline_loops(PINCHED > 0)) == 1
    assert len(outline_loops(RING > 0)) == 2


def test_several_images_in_one_file(tmp_path: Path) -> None:
    square = np.zeros((6, 8), np.uint8)
    square[1:3, 2:5] = 1
    other = np.zeros((4, 4), np.uint8)
    other[0, 0] = 9  # painted, but no class
    coco = opened(write_coco(tmp_path / "c.json", [case(square), case(other, "b.png")]))
    assert [(each["file_name"], each["width"], each["height"]) for each in coco.dataset["images"]] == [
        ("a.png", 8, 6),
        ("b.png", 4, 4),
    ]
    assert [(each["id"], each["name"]) for each in coco.dataset["categories"]] == [
        (1, "lesion"),
        (3, "cyst"),
        (9, "label 9"),
    ]
    assert coco.dataset["categories"][0]["color"] == [0xE6, 0x9F, 0x00]
    assert [each["image_id"] for each in coco.dataset["annotations"]] == [1, 2]
    assert coco.dataset["annotations"][0]["segmentation"] == [[2, 1, 5, 1, 5, 3, 2, 3]]


def test_equal_names_keep_their_folders(tmp_path: Path) -> None:
    labels = np.ones((2, 2), np.uint8)
    cases = []
    for folder in ("x/1", "x/2"):
        scan, result = case(labels)
        cases.append((scan.with_data(scan.data, metadata={"source_path": f"/scans/{folder}/a.png"}), result))
    document = json.loads(write_coco(tmp_path / "c.json", cases).read_text())
    assert [each["file_name"] for each in document["images"]] == ["1/a.png", "2/a.png"]


def test_stacks_and_scans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 2 slices"):
        write(tmp_path / "c.json", Volume(np.zeros((1, 2, 3, 3), np.uint8), kind="label"))
    with pytest.raises(InputError, match="hold labels"):
        write(tmp_path / "c.json", Volume(np.zeros((1, 1, 3, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == []
