"""Small made data for the training tests: bright discs on noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_llm4seg.config import BackboneConfig, BlockConfig, FitConfig, LayerRef, ModelConfig
from napari_llm4seg.engine.data import Samples
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.spec import LayerSpec

SPEC = LayerSpec(family="llama", hidden=16, intermediate=32, heads=4, kv_heads=2, head_dim=4)
MODEL = ModelConfig(
    backbone=BackboneConfig(kind="cmunext", widths=(4, 8), depths=(1, 1), kernels=(3, 3)),
    block=BlockConfig(layers=(LayerRef(repository="made", index=0, sha256="0" * 64),), hidden=16),
)
FIT = FitConfig(epochs=4, batch=4, lr=0.01, warmup_epochs=0.5, augment="none", ema=0.9)


def disc(seed: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return a uint8 image (size, size) of noise with a bright disc, and the disc's bool mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centre, radius = rng.uniform(size * 0.3, size * 0.7, 2), rng.uniform(size * 0.12, size * 0.25)
    mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    return (rng.uniform(0, 90, (size, size)) + 120 * mask).astype(np.uint8), mask


@pytest.fixture
def make_net() -> Callable[[], LLM4SegNet]:
    """Return a maker of equal small networks with a random frozen layer."""

    def make() -> LLM4SegNet:
        torch.manual_seed(0)
        return LLM4SegNet(MODEL, [LLMLayer.random(SPEC)])

    return make


@pytest.fixture
def made_samples() -> tuple[Samples, Samples]:
    def samples(seeds: range) -> Samples:
        pairs = [disc(seed) for seed in seeds]
        images = torch.stack([torch.from_numpy(image).float()[None] / 127.5 - 1 for image, _ in pairs])
        labels = torch.stack([torch.from_numpy(mask.astype(np.uint8)) for _, mask in pairs])
        return Samples(images, labels, tuple(f"case{seed}" for seed in seeds))

    return samples(range(13)), samples(range(100, 104))


@pytest.fixture
def made_folder(tmp_path: Path) -> Path:
    """Return a data root with 20 images, masks and an index in which cases 2i and 2i+1 are near-duplicates."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows = ["file,class,near_duplicate_group"]
    for i in range(20):
        image, mask = disc(i)
        Image.fromarray(image).save(root / "images" / f"case{i:02d}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(root / "masks" / f"case{i:02d}.png")
        rows.append(f"case{i:02d}.png,{'a' if i % 4 < 2 else 'b'},{i // 2}")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root
