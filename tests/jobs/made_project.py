"""A tiny checkpoint and a project with a few corrected slices, for the tests of the training child."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import (
    BackboneConfig,
    BlockConfig,
    Card,
    CheckpointConfig,
    FinetuneConfig,
    FitConfig,
    ModelConfig,
    PreprocessConfig,
)
from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.volume import Volume

SIZE = 16


def make_checkpoint(folder: Path, size: int = SIZE) -> Checkpoint:
    torch.manual_seed(0)
    model = ModelConfig(
        backbone=BackboneConfig(widths=(4, 8), depths=(1, 1), kernels=(3, 3)), block=BlockConfig(hidden=8)
    )
    config = CheckpointConfig(model=model, preprocess=PreprocessConfig(size=(size, size)), card=Card(name="tiny"))
    checkpoint = Checkpoint(config, dict(LLM4SegNet(model).trained_tensors()))
    checkpoint.save(folder)
    return checkpoint


def make_project(folder: Path, slices: tuple[int, ...] = (0, 3, 6, 9, 12), size: int = SIZE) -> str:
    """Write a project of a scan with corrected slices; return the scan's id."""
    rng = np.random.default_rng(0)
    mask = np.zeros((14, size, size), dtype=np.uint8)
    mask[:, 4:12, 4:12] = 1
    scan = Volume((rng.uniform(0, 90, mask.shape) + 120 * mask).astype(np.uint8)[None], name="scan")
    with SampleStore.open(folder, create=True) as store:
        entry = store.scan_for(scan)
        for z in slices:
            store.put(entry, z, 0, scan.slice_at(z), mask[z], "edited")
        return entry.id


def settings(epochs: int = 4, **changes: object) -> dict[str, object]:
    """Return a quick ``FinetuneConfig`` as JSON."""
    fit = FitConfig(epochs=epochs, batch=2, lr=0.01, augment="none", warmup_epochs=0, validate_every=2)
    config = FinetuneConfig.model_validate({"fit": fit, "variants": 2, "seconds": None, **changes})
    found: dict[str, object] = json.loads(config.model_dump_json())
    return found
