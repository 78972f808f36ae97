"""What a run keeps: parameter groups, devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from napari_llm4seg.engine.data import Samples
from napari_llm4seg.engine.fit import make_fabric
from napari_llm4seg.engine.source import ImageTraining, ImageValidation
from napari_llm4seg.engine.state import RunState
from napari_llm4seg.models.llm4seg import LLM4SegNet

from .conftest import FIT

Maker = Callable[[], LLM4SegNet]
Data = tuple[Samples, Samples]


def sources(data: Data) -> tuple[ImageTraining, ImageValidation]:
    return ImageTraining(data[0], "none"), ImageValidation(data[1])


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_only_matrices_and_kernels_are_shrunk(
    make_net: Maker, made_samples: Data, tmp_path: Path, optimiser: str
) -> None:
    config = FIT.model_copy(update={"optimiser": optimiser, "weight_decay": 0.3})
    net = make_net()
    state = RunState(make_fabric(config, "cpu"), net, config, sources(made_samples), tmp_path)
    decay = {id(p): group["weight_decay"] for group in state.optimiser.param_groups for p in group["params"]}
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert len(decay) == len(trained)
    assert {name: decay[id(p)] for name, p in trained.items()} == {
        name: 0.3 if p.ndim > 1 else 0.0 for name, p in trained.items()
    }
    assert decay[id(trained["backbone.Conv_1x1.bias"])] == 0.0


@pytest.mark.gpu
def test_the_moving_average_lies_on_the_device_it_is_validated_on(
    make_net: Maker, made_samples: Data, tmp_path: Path
) -> None:
    state = RunState(make_fabric(FIT, "cuda"), make_net(), FIT, sources(made_samples), tmp_path)
    assert state.ema is not None
    assert {tensor.device.type for tensor in (*state.ema.parameters(), *state.net.parameters())} == {"cuda"}
    assert all(torch.equal(a, b) for a, b in zip(state.ema.module.parameters(), state.net.parameters(), strict=True))
