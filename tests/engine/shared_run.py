"""What two processes compute together; each is started on its own by test_distributed, which also runs it alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from napari_llm4seg.cli.launch import leave
from napari_llm4seg.config import FitConfig
from napari_llm4seg.engine.distributed import Share
from napari_llm4seg.engine.fit import fit, make_fabric
from napari_llm4seg.engine.source import ImageTraining, ImageValidation
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer

from .conftest import FIT, MODEL, SPEC
from .killed_run import samples

# 4, 4 and 5 of 13 samples to a batch: no even halves. SGD, because Adam makes whole steps of the rounding errors that
# are the gradient of a bias before a batch normalisation.
CONFIG = FIT.model_copy(update={"epochs": 2, "augment": "strong", "ema": 0.9, "optimiser": "sgd", "lr": 0.1})


def trained(folder: Path, config: FitConfig = CONFIG, processes: int = 1) -> dict[str, Any]:
    """Return weights and scores of a short fit, of this process's share where there are several."""
    torch.manual_seed(0)
    net = LLM4SegNet(MODEL, [LLMLayer.random(SPEC)])
    data = ImageTraining(samples(range(13)), config.augment), ImageValidation(samples(range(100, 107)))
    result = fit(make_fabric(config, "cpu", processes), net, data, config, folder=folder)
    kinds = [type(module).__name__ for module in net.modules()]
    return {"net": net.trained_tensors(), "best": result.tensors, "history": result.history, "kinds": kinds}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    fabric = make_fabric(CONFIG, "cpu", 2)
    share = Share(fabric.global_rank, fabric.world_size)
    found = {"ranks": share.same_for_all(share.rank), "fit": trained(folder / "run", processes=2)}
    torch.save(found, folder / f"{share.rank}.pt")
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
