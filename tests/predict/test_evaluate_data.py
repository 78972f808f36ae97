"""Evaluation on real scans: a network that answers by brightness, so that the figures are known to be poor but real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_llm4seg.predict import Predictor
from napari_llm4seg.predict.evaluate import evaluate
from tests.predict.helpers import checkpoint


@pytest.mark.data
@pytest.mark.slow
def test_real_ultrasound_images_are_paired_segmented_and_scored(data_dir: Path, tmp_path: Path) -> None:
    images, masks = data_dir / "busi" / "images", data_dir / "busi" / "masks"
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    stems = sorted(path.stem for path in masks.iterdir())
    for stem in stems[:: len(stems) // 12]:
        for source in (images, masks):
            for path in source.glob(f"{stem}.*"):
                (tmp_path / source.name / path.name).symlink_to(path)
    found = evaluate(Predictor(checkpoint(size=(64, 64)), "cpu"), tmp_path / "images", tmp_path / "masks")
    assert found.failures == ()
    assert len(found.cases) >= 12
    told = found.as_dict()
    assert told["hd95_unit"] == "pixel"
    assert told["n_lesion"] + told["n_empty"] == told["n"]
    for case in found.cases:
        assert case.dice == pytest.approx(2 * case.iou / (1 + case.iou))
        assert np.isfinite(case.hd95)
        assert case.hd95 >= 0
