"""The figures come of real trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_llm4seg.bench import retrain
from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import (
    BackboneConfig,
    BlockConfig,
    Card,
    CheckpointConfig,
    FinetuneConfig,
    ModelConfig,
    PreprocessConfig,
)
from napari_llm4seg.models.llm4seg import LLM4SegNet


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    model = ModelConfig(
        backbone=BackboneConfig(widths=(4, 8), depths=(1, 1), kernels=(3, 3)), block=BlockConfig(hidden=8)
    )
    config = CheckpointConfig(model=model, preprocess=PreprocessConfig(size=(32, 32)), card=Card(name="tiny"))
    return Checkpoint(config, dict(LLM4SegNet(model).trained_tensors())).save(tmp_path / "tiny")


def test_made_slices_differ_and_hold_a_structure() -> None:
    scan, mask = retrain.slices(3, 64)
    assert scan.grid == mask.shape == (3, 64, 64)
    assert all(0.01 < each.mean() < 0.3 for each in mask)
    assert scan.data[0][mask > 0].mean() < scan.data[0][mask == 0].mean() - 40


@pytest.mark.slow
def test_both_figures(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FinetuneConfig, "quick", classmethod(lambda cls: cls()))
    found = retrain.cached_epoch(str(tiny), epochs=2)
    assert found["plain"] > 0
    assert found["cached"] > 0
    assert found["loss_difference"] < 1e-4
    monkeypatch.setattr(FinetuneConfig, "quick", classmethod(lambda cls, parts: cls(parts=parts, seconds=1.5)))
    clicked = retrain.click("adapters", str(tiny))
    assert 0 < clicked["until_trained"] < clicked["seconds"]
    assert clicked["epochs"] > 0
