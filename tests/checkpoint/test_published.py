"""What surrounds the import of published state dicts; equality of outputs is in tests/parity/test_published.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_llm4seg.checkpoint import Checkpoint, import_state_dict
from napari_llm4seg.errors import CheckpointError, InputError
from napari_llm4seg.files import sha256
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.paper import paper_config
from tests.models.base import LANGUAGE_MODEL, SPEC


def published(path: Path, block: bool = True) -> Path:
    """Save a state dict with the published names."""
    net = LLM4SegNet(paper_config(None, hidden=SPEC.hidden if block else None).model)
    adapters = {"adapter_in": "adapter1", "adapter_out": "adapter2"}
    state = {}
    for name, tensor in net.state_dict().items():
        for ours, theirs in adapters.items():
            name = name.replace(f"block.bridge.{ours}", f"llm4seg.{theirs}")
        state[name.removeprefix("backbone.")] = tensor
    if block:
        state |= {f"llm4seg.llm.{name}": tensor for name, tensor in LLMLayer.random(SPEC, 1).state_dict().items()}
    torch.save(state, path)
    return path


def test_the_record_says_where_it_came_from(tmp_path: Path) -> None:
    file = published(tmp_path / "weird ~ näme.pth")
    checkpoint = import_state_dict(file, tmp_path / "out", llm=LANGUAGE_MODEL)
    digest = sha256(file)
    assert checkpoint.config.card.training == {"imported_from": file.name, "sha256": digest}
    assert checkpoint.name == "weird ~ näme"
    block = checkpoint.config.model.block
    assert block is not None
    ref = block.layers[0]
    assert (ref.repository, ref.revision, ref.index) == ("imported/weird-n-me", digest[:12], 14)
    about = json.loads(next((tmp_path / "out" / "layers").rglob("pack.json")).read_text())
    assert about["sha256"] == ref.sha256
    assert checkpoint.config.model.preset == "paper"
    assert sorted(os.listdir(tmp_path)) == ["out", file.name]
    moved = checkpoint.save(tmp_path / "moved")
    assert Checkpoint.load(moved).build().llm_block().running()


def test_an_unknown_language_model_asks_for_its_config(tmp_path: Path) -> None:
    file = published(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth.*48 wide.*config\.json"):
        import_state_dict(file, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.pth"]


@pytest.mark.parametrize("llm", ["llama", {"model_type": "gpt2"}, {**LANGUAGE_MODEL, "intermediate_size": 96}])
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, llm: Any) -> None:
    file = published(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth") as caught:
        import_state_dict(file, tmp_path / "out", llm=llm)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["a.pth"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("Up3.up.1.weight"), r"Up3\.up\.1\.weight' is missing"),
        (lambda s: s.update({"surprise.weight": torch.ones(2)}), "'backbone.surprise.weight'"),
        (lambda s: s.update({"Conv_1x1.bias": torch.tensor([torch.nan])}), "NaN"),
        (lambda s: s.update({"Conv_1x1.bias": torch.ones(1, dtype=torch.int64)}), "int64"),
    ],
)
def test_half_a_model_replaces_nothing(tmp_path: Path, change: Any, words: str) -> None:
    file = published(tmp_path / "a.pth", block=False)
    before = import_state_dict(file, tmp_path / "out").digest
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=words) as caught:
        import_state_dict(tmp_path / "b.pth", tmp_path / "out")
    assert "b.pth" in str(caught.value)
    assert Checkpoint.load(tmp_path / "out").digest == before
    assert sorted(os.listdir(tmp_path)) == ["a.pth", "b.pth", "out"]


def test_somebodys_folder_is_left_alone(tmp_path: Path) -> None:
    file = published(tmp_path / "a.pth", block=False)
    with pytest.raises(InputError, match="something else"):
        import_state_dict(file, tmp_path)
    with pytest.raises(CheckpointError, match="needs a folder"):
        import_state_dict(file, tmp_path / "out.safetensors")
    assert os.listdir(tmp_path) == ["a.pth"]
