"""A made scan whose organ is bright, and a plan on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

import napari_llm4seg as l4s
from napari_llm4seg.config import ClassSpec
from napari_llm4seg.volume import Volume
from training.annotation_effort.cases import Case

SLICES, SIDE = 12, 40

PLAN: dict[str, Any] = {
    "title": "How much?",
    "cases": {"ball": {"image": "scan.nii.gz", "mask": "labels.nii.gz", "values": {"ball": 7}}},
    "methods": {
        "forest": {"kind": "forest", "label": "random forest"},
        "scratch": {
            "kind": "scratch",
            "label": "from scratch",
            "passes": 1,
            "fit": {"warmup_epochs": 0, "validate_every": 100},
            "more": {"variants": 2},
        },
        "again": {"kind": "forest", "label": "the same slices", "follows": "forest"},
    },
    "blocks": [
        {"cases": ["ball"], "methods": ["forest"], "choices": ["suggested", "uniform", "organ"], "steps": [1, 3]},
        {"cases": ["ball"], "methods": ["again"], "choices": ["suggested"], "steps": [3]},
    ],
}


def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Return a scan and its labels (Z, Y, X): a ball of value 7 in slices 4 to 11, a small box of value 2."""
    z, y, x = np.mgrid[:SLICES, :SIDE, :SIDE]
    ball = (3 * (z - 8)) ** 2 + (y - 20) ** 2 + (x - 18) ** 2 < 13**2
    labels = np.where(ball, 7, 0).astype(np.uint8)
    labels[0:3, 2:6, 2:6] = 2
    noise = np.random.default_rng(0).normal(0, 4, labels.shape)
    return (60 * ball + 20 + noise).astype(np.float32), labels


def case() -> Case:
    """Return the ball as a case."""
    scan, labels = arrays()
    truth = list((labels == 7).astype(np.uint8))
    return Case("ball", (Volume(scan[None], name="made"),), truth, (ClassSpec(value=1, name="ball"),))


def write(folder: Path, plan: dict[str, Any] | None = None) -> Path:
    """Write the scan and its labels below ``folder/data`` and the plan; return the plan's path."""
    data = folder / "data"
    data.mkdir(parents=True)
    scan, labels = arrays()
    l4s.write(data / "scan.nii.gz", Volume(scan[None], unit="mm"))
    l4s.write(data / "labels.nii.gz", Volume(labels[None], kind="label", unit="mm"))
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan or PLAN))
    return path
