"""State dicts of the published code, imported, against the published computation written anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_llm4seg.checkpoint import Checkpoint, import_state_dict
from napari_llm4seg.models.cmunext import SIZES
from napari_llm4seg.models.paper import LANGUAGE_MODELS
from napari_llm4seg.preprocess import Preprocessor
from napari_llm4seg.volume import Volume
from tests.parity.published import Published, decoder_layer, made_images, randomise

pytestmark = [pytest.mark.parity, pytest.mark.slow]

TINY = ((4, 6, 8, 8, 12), (1, 1, 2, 1, 1), (3, 3, 5, 5, 7))
SMALL_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
}


def published_input(image: np.ndarray) -> Tensor:
    """What the published loader makes of an RGB image (256, 256, 3): BGR as OpenCV reads it, normalised, / 255."""
    bgr = image[:, :, ::-1].astype(np.float32)
    mean, sd = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    normalised = (bgr - mean * 255) / (sd * 255)
    return torch.from_numpy((normalised.astype(np.float32) / 255).transpose(2, 0, 1)[None].copy())


def check(net: torch.nn.Module, checkpoint: Checkpoint, seed: int = 0) -> None:
    """Hold the imported checkpoint's logits and probabilities to the published network's, from the image on."""
    image = (made_images(1, seed + 100)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    volume = Volume(image.transpose(2, 0, 1)[:, None])
    batch, _ = Preprocessor(checkpoint.config.preprocess).apply(volume, [0])
    wanted_input = published_input(image)
    torch.testing.assert_close(batch, wanted_input, rtol=1e-5, atol=1e-7)
    with torch.inference_mode():
        wanted = net(wanted_input)
        built = checkpoint.build()
        assert wanted.std() > 0.03
        torch.testing.assert_close(built(batch), wanted, rtol=0, atol=1e-4)
        torch.testing.assert_close(built.folded()(batch), wanted, rtol=0, atol=1e-4)


def saved(state: Mapping[str, Any], path: Path) -> Path:
    torch.save(dict(state), path)
    return path


@pytest.mark.parametrize("wrapped", ["plain", "module.", "state_dict"])
def test_a_small_language_model_gives_equal_logits(tmp_path: Path, wrapped: str) -> None:
    torch.manual_seed(0)
    net = randomise(Published(*TINY, decoder_layer(SMALL_LLAMA)))
    state: dict[str, Any] = net.state_dict()
    if wrapped == "module.":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    elif wrapped == "state_dict":
        state = {"epoch": 3, "state_dict": state}
    file = saved(state, tmp_path / "best model.pth")
    checkpoint = import_state_dict(file, tmp_path / "out", llm=SMALL_LLAMA)
    block = checkpoint.config.model.block
    assert block is not None
    assert block.layers[0].repository == "imported/best-model"
    assert block.layers[0].index == 14
    assert checkpoint.config.model.backbone.widths == TINY[0]
    assert checkpoint.config.model.backbone.depths == TINY[1]
    assert checkpoint.config.model.backbone.kernels == TINY[2]
    check(net, checkpoint)
    check(net, Checkpoint.load(tmp_path / "out"), seed=1)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "temporary files are left"


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_the_cnn_alone_gives_equal_logits(tmp_path: Path, size: str) -> None:
    torch.manual_seed(1)
    net = randomise(Published(*SIZES[size]))
    checkpoint = import_state_dict(saved(net.state_dict(), tmp_path / "cnn.pth"), tmp_path / "out", name="CNN")
    assert checkpoint.config.model.block is None
    assert checkpoint.name == "CNN"
    assert (checkpoint.config.model.backbone.widths, checkpoint.config.model.backbone.depths) == SIZES[size][:2]
    check(net, checkpoint)


@pytest.mark.parametrize("llm", ["llama", "deepseek"])
def test_the_published_language_models_shapes_are_known(tmp_path: Path, llm: str) -> None:
    """Random weights in the real layer's shape; its pack says what the layer is."""
    torch.manual_seed(2)
    config = LANGUAGE_MODELS[llm]
    net = randomise(Published(*SIZES["base"], decoder_layer(config)))
    if llm == "llama":
        assert sum(p.numel() for p in net.llm4seg.llm.parameters()) == 60_821_504
    file = saved(net.state_dict(), tmp_path / f"{llm}.pth")
    checkpoint = import_state_dict(file, tmp_path / "out")
    packs = list((tmp_path / "out" / "layers").iterdir())
    assert len(packs) == 1
    assert json.loads((packs[0] / "config.json").read_text())["model_type"] == config["model_type"]
    check(net, checkpoint)


def test_positions_and_mask_matter_to_the_comparison(tmp_path: Path) -> None:
    """With another position or mask rule the same weights give other logits, so equality above says something."""
    torch.manual_seed(0)
    net = randomise(Published(*TINY, decoder_layer(SMALL_LLAMA)))
    checkpoint = import_state_dict(saved(net.state_dict(), tmp_path / "a.pth"), tmp_path / "out", llm=SMALL_LLAMA)
    check(net, checkpoint)
    image = (made_images(1, 5) - 0.45) / 0.225 / 255
    block = checkpoint.config.model.block
    assert block is not None
    for change in ({"positions": "own"}, {"mask": "full"}):
        other = checkpoint.config.model.model_copy(update={"block": block.model_copy(update=change)})
        changed = Checkpoint(
            checkpoint.config.model_copy(update={"model": other}), checkpoint.tensors, checkpoint.path
        ).build()
        with torch.inference_mode():
            assert (changed(image) - net(image)).abs().max() > 1e-3, change
