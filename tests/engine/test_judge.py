"""What is counted in a held-back slice: annotated pixels alone, absent classes without a distance."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from napari_llm4seg.config import ClassSpec, PredictConfig
from napari_llm4seg.engine.corrections import Correction, Corrections
from napari_llm4seg.engine.gate import compare
from napari_llm4seg.engine.judge import judge

CLASSES = (ClassSpec(value=1, name="liver"), ClassSpec(value=4, name="spleen"), ClassSpec(value=7, name="kidney"))


class Says:
    """Stands for a predictor that gives every slice these labels."""

    volumetric = False
    config = PredictConfig()
    checkpoint = SimpleNamespace(config=SimpleNamespace(model=SimpleNamespace(classes=CLASSES)))

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def with_config(self, config: PredictConfig) -> Says:
        return self

    def predict(self, volume: Any, **more: Any) -> Any:
        return SimpleNamespace(labels=self.labels[None])


def test_pixels_of_each_class_are_counted_where_something_is_annotated() -> None:
    truth = np.full((10, 12), 255, np.uint8)
    truth[:8] = 0
    truth[2:4, 2:6] = 1
    said = np.zeros((10, 12), np.uint8)
    said[2:4, 3:7] = 1
    said[6:, :3] = 4  # half of it where nobody looked
    said[9] = 7
    image = np.zeros((1, 10, 12), np.float32)
    each = Correction(image, truth, "ct, slice 3", "ct", 0, 3, False, (2.0, 0.5), "mm")
    (score,), (labels,) = judge(Says(said), Corrections((each,)))  # type: ignore[arg-type]
    assert labels is not said
    assert np.array_equal(labels, said)
    assert (score.hits, score.said, score.true) == ((6, 0, 0), (8, 6, 0), (8, 0, 0))
    assert score.distances == (0.5, None, None)
    assert (score.name, score.unit, score.pixels, score.alone) == ("ct, slice 3", "mm", 96, False)
    assert score.lacks
    found = compare([score], [score])
    assert found.strays == (6, 6)
    assert found.as_dict()["dice_after"] == 2 * 6 / 16


def test_of_a_volume_only_what_the_held_back_slices_need_is_segmented() -> None:
    asked: list[set[int] | None] = []

    class Volumes(Says):
        volumetric = True

        def predict(self, volume: Any, **more: Any) -> Any:
            asked.append(more["slices"])
            return SimpleNamespace(labels=self.labels)

    truth, image = np.ones((10, 12), np.uint8), np.zeros((1, 10, 12), np.float32)

    def at(axis: int, index: int) -> Correction:
        plane = truth if axis == 0 else np.ones((20, 12), np.uint8)
        return Correction(image, plane, f"{axis} {index}", "ct", axis, index, False)

    said = Volumes(np.ones((20, 10, 12), np.uint8))
    for slices in ((at(0, 3), at(0, 9)), (at(0, 3), at(1, 4))):
        found, _ = judge(said, Corrections(slices, {"ct": lambda: None}))  # type: ignore[arg-type, return-value]
        assert all(score.hits[0] == score.true[0] for score in found)
    assert asked == [{3, 9}, None]
