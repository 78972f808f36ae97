from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.paper import (
    LANGUAGE_MODELS,
    language_model_config,
    paper_config,
    read_state_dict,
    translate,
)
from napari_llm4seg.models.spec import LayerSpec


def test_the_preset_is_the_published_set_up() -> None:
    config = paper_config("llama")
    assert config.model.preset == "paper"
    assert config.model.backbone.widths == (16, 32, 128, 160, 256)
    block = config.model.block
    assert block is not None
    assert (block.hidden, block.positions, block.mask, block.gate, block.norm) == (
        2048,
        "paper",
        "causal",
        "none",
        False,
    )
    deepseek = paper_config("deepseek").model.block
    assert deepseek is not None
    assert deepseek.hidden == 1536
    assert paper_config(None).model.block is None
    assert [spec.name for spec in config.model.classes] == ["lesion"]
    pre = config.preprocess
    assert (pre.size, pre.channels, pre.divide, pre.antialias) == ((256, 256), "bgr", 255.0, False)
    assert pre.mean == (0.485, 0.456, 0.406)
    assert not config.predict.flips


@pytest.mark.parametrize(("llm", "weights"), [("llama", 60_821_504), ("deepseek", 46_797_824)])
def test_the_published_language_models(llm: str, weights: int) -> None:
    spec = LayerSpec.from_config(LANGUAGE_MODELS[llm])
    with torch.device("meta"):
        layer = LLMLayer(spec)
    assert sum(parameter.numel() for parameter in layer.parameters()) == weights
    state = {name: tensor for name, tensor in layer.state_dict().items()}
    assert language_model_config(state, spec.hidden) == LANGUAGE_MODELS[llm]


def test_other_language_models_need_their_config() -> None:
    with pytest.raises(CheckpointError, match="576 wide"):
        language_model_config({}, 576)
    with pytest.raises(CheckpointError, match="no language model 'gpt'"):
        language_model_config({}, 576, "gpt")
    assert language_model_config({}, 576, {"model_type": "llama"}) == {"model_type": "llama"}


def state() -> dict[str, torch.Tensor]:
    """A published state dict: our CNN's names are the published ones."""
    net = LLM4SegNet(paper_config(None).model)
    return {name.removeprefix("backbone."): tensor for name, tensor in net.state_dict().items()}


def saved(value: Any, path: Path) -> Path:
    torch.save(value, path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        translate(read_state_dict(path), path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_profilers_counters_are_left_out(tmp_path: Path) -> None:
    counted = state() | {"total_ops": torch.zeros(1), "stem.total_params": torch.zeros(1)}
    found = translate(read_state_dict(saved(counted, tmp_path / "a.pth")), tmp_path / "a.pth")
    assert set(found.tensors) == {f"backbone.{name}" for name in state()}
    assert found.hidden is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("stem.conv.0.weight"), "lacks 'stem.conv.0.weight'"),
        (lambda s: s.pop("Conv_1x1.weight"), "lacks 'Conv_1x1.weight'"),
        (lambda s: s.update({"stem.conv.0.weight": torch.ones(16, 1, 3, 3)}), "from 1 channel"),
        (lambda s: s.update({"Conv_1x1.weight": torch.ones(4, 16, 1, 1)}), r"to 4 output"),
        (lambda s: s.update({"encoder3.block.0.0.fn.0.weight": torch.ones(32, 1, 4, 4)}), "odd sizes"),
        (lambda s: s.update({"llm4seg.llm.mlp.up_proj.weight": torch.ones(2, 2)}), "not both"),
        (lambda s: s.update({"llm4seg.adapter1.weight": torch.ones(2048, 256)}), "not both"),
        (lambda s: s.update({"note": "text"}), "no plain tensor"),
        (lambda s: s.update({"big": torch.ones(1).expand(1 << 20, 1 << 20)}), "claims"),
        (lambda s: s.update({"s": torch.eye(2).to_sparse()}), "no plain tensor"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    broken = state()
    change(broken)
    import re

    assert re.search(words, refused(saved(broken, tmp_path / "broken.pth")))


@pytest.mark.parametrize("value", [[1, 2], {}, {1: torch.ones(1)}, torch.ones(3), "text"])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, value: Any) -> None:
    refused(saved(value, tmp_path / "other.pth"))


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_cut_files_are_refused(tmp_path: Path, keep: float) -> None:
    path = saved(state(), tmp_path / "cut.pth")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    refused(path)


class Hostile:
    """Unpickling it would create a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["alone", "in a state dict", "as a key's neighbour", "plain pickle", "old torch"])
def test_nothing_pickled_is_run(tmp_path: Path, form: str) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "hostile.pth"
    bomb = Hostile(marker)
    if form == "alone":
        torch.save(bomb, path)
    elif form == "in a state dict":
        torch.save(state() | {"stem.conv.0.weight": bomb}, path)
    elif form == "as a key's neighbour":
        torch.save({"state_dict": state(), "args": bomb}, path)
    elif form == "plain pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, path, _use_new_zipfile_serialization=False)
    message = refused(path)
    assert not marker.exists()
    assert "weights_only" not in message, "nobody is told to read it unsafely"
    if "old" not in form and "plain" not in form:
        assert "holds more than tensors (posix.mkdir)" in message or "holds more than tensors (nt.mkdir)" in message
    if form == "plain pickle":
        pickle.loads(path.read_bytes())  # the file is what it is said to be
        assert marker.exists()


def test_compressed_archives_and_scripts_are_refused(tmp_path: Path) -> None:
    path = saved(state(), tmp_path / "plain.pth")
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert "compressed" in refused(bomb)
    script = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    refused(script)
    assert "no file" in refused(tmp_path / "nowhere.pth")
    assert "no file" in refused(tmp_path)
