"""A run long enough to be killed in its middle; started in a process of its own by test_fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from napari_llm4seg.engine.data import Samples
from napari_llm4seg.engine.fit import fit, make_fabric
from napari_llm4seg.engine.source import ImageTraining, ImageValidation
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer

from .conftest import FIT, MODEL, SPEC, disc


def samples(seeds: range) -> Samples:
    pairs = [disc(seed) for seed in seeds]
    images = torch.stack([torch.from_numpy(image).float()[None] / 127.5 - 1 for image, _ in pairs])
    labels = torch.stack([torch.from_numpy(mask.astype(np.uint8)) for _, mask in pairs])
    return Samples(images, labels, tuple(map(str, seeds)))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = FIT.model_copy(update={"epochs": 30, "augment": "strong"})
    net = LLM4SegNet(MODEL, [LLMLayer.random(SPEC)])
    data = ImageTraining(samples(range(24)), config.augment), ImageValidation(samples(range(100, 103)))
    result = fit(make_fabric(config, "cpu"), net, data, config, folder=folder)
    torch.save(result.tensors, folder / "best.pt")
