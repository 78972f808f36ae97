"""Made plans and runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from napari_llm4seg.cli.train import identity
from napari_llm4seg.engine.recipe import load_recipe
from tests.cli.helpers import RECIPE
from training.study.plan import planned_runs, read_plan

LAYER = {"repository": "made/layer", "revision": "1", "index": 2, "sha256": "0" * 64}
PLAN: dict[str, Any] = {
    "title": "Does it help?",
    "recipes": {"discs": "discs.yaml"},
    "seeds": [0, 1],
    "arms": {
        "cnn": {"label": "CNN", "role": "reference", "set": {"model.block": None}},
        "adapters": {"label": "adapters alone", "role": "control", "set": {"model.block": {"hidden": 16}}},
        "small": {"label": "small layer", "role": "llm", "set": {"model.block": {"layers": [LAYER], "hidden": 24}}},
        "large": {"label": "large layer", "role": "llm", "set": {"model.block": {"layers": [LAYER], "hidden": 48}}},
    },
    "variants": {
        "full": {"label": "full attention", "axis": "mask", "of": "best", "set": {"model.block.mask": "full"}},
        "none": {"label": "no positions", "of": "small", "set": {"model.block.positions": "none"}, "seeds": [0]},
    },
}


def write_plan(folder: Path, plan: dict[str, Any] | None = None) -> Path:
    """Write the recipe and a plan beside it; returns the plan's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "discs.yaml").write_text(yaml.safe_dump(RECIPE))
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN if plan is None else plan, sort_keys=False))
    return path


def write_images(root: Path, cases: int = 12) -> Path:
    """Write images of discs in noise, some without a disc, and their masks; returns ``root``."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    for i in range(cases):
        mask = (y - 16) ** 2 + (x - 16) ** 2 < 60 + 10 * i
        for name, values in (("images", rng.uniform(0, 90, (32, 32)) + 120 * mask), ("masks", 255 * mask)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(root / name / f"c{i:02d}.png")
    return root


def write_run(folder: Path, recipe: dict[str, Any], ious: np.ndarray, val: float) -> None:
    """Write what ``llm4seg train`` leaves of a run, with these test scores and this validation score."""
    rows = [
        {
            "case": f"t{i:03d}",
            "empty": False,
            "predicted_empty": False,
            "iou": float(value),
            "dice": float(2 * value / (1 + value)),
            "hd95": float(10 * (1 - value)),
            "hd95_unit": "pixel",
            "hd95_is_diagonal": False,
            "error": "",
        }
        for i, value in enumerate(ious)
    ]
    stage = {"size": [32, 32], "fit": recipe["fit"], "best_epoch": 2, "val_iou": val, "seconds": 7.0}
    report = {
        "name": folder.parent.name,
        "digest": "d" * 64,
        "scores": {"test_n": len(rows)},
        "test": {"n": len(rows), "hd95_unit": "pixel", "n_failed": 0},
        "test_cases": rows,
        "training": {
            "cases": {"train": 6, "val": 2, "test": len(rows)},
            "stages": [stage],
            "versions": {"python": "3.11", "torch": "2.13.0", "numpy": "2.4"},
            "threads": 1,
        },
        "recipe": recipe,
    }
    (folder / "stage1").mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    split = {"train": ["a"], "val": ["b"], "test": [row["case"] for row in rows]}
    (folder / "split.json").write_text(json.dumps(split))
    log = ["epoch,loss,lr,val_loss,val_iou,seconds", f"1,1.2,0.1,1.1,{val / 2},3.5", f"2,1.0,0.1,0.9,{val},7.0"]
    (folder / "stage1" / "log.csv").write_text("\n".join(log) + "\n")


def write_runs(folder: Path, gain: dict[str, float], cases: int = 80, val: dict[str, float] | None = None) -> Path:
    """Write all runs of ``PLAN``, each arm's IoU the CNN's plus ``gain`` and a little noise; returns ``folder``."""
    path = write_plan(folder / "made")
    (folder / "plan.yaml").write_text(path.read_text().replace("discs.yaml", "made/discs.yaml"))
    plan = read_plan(folder / "plan.yaml")
    hard = np.random.default_rng(0).uniform(0.3, 0.8, cases)
    best = "large"
    for run in planned_runs(plan, best):
        noise = np.random.default_rng([run.seed, *run.arm.encode()]).normal(0, 0.02, cases)
        ious = np.clip(hard + gain.get(run.arm, 0.0) + noise, 0, 1)
        recipe = identity(load_recipe(plan.recipes[run.dataset], run.settings()))
        default = {"small": 0.6, "large": 0.7}.get(run.arm, 0.5)
        write_run(folder / run.path, recipe, ious, (val or {}).get(run.arm, default) + 0.001 * run.seed)
    return folder
