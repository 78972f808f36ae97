from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_llm4seg.config import BlockConfig, LayerRef, ModelConfig
from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.files import cache_folder
from napari_llm4seg.models.build import build_network
from napari_llm4seg.models.inventory import layers_at_hand, name_of, resolve_layer
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import WEIGHTS, find_pack, tensors_digest, write_pack
from tests.models.base import LANGUAGE_MODEL, SPEC

# of layer.safetensors; torch's CPU generator and safetensors give it on every machine
RANDOM_SMOLLM2 = "74b9ff9182dbddf452cde47ef891b3552887f122871a6ee979a7abf53180b056"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))


def write(name: str, seed: int = 0, **changes: Any) -> LayerRef:
    fields: dict[str, Any] = {"repository": "org/model", "revision": "a", "index": 2} | changes
    layer = LLMLayer.random(SPEC, seed).state_dict()
    return write_pack(cache_folder() / "layers" / name, layer, LANGUAGE_MODEL, **fields).ref


def test_the_shipped_layer_is_found_by_the_models_name() -> None:
    ref = resolve_layer("smollm2-135m")
    assert (ref.repository, ref.index) == ("HuggingFaceTB/SmolLM2-135M-Instruct", 14)
    assert find_pack(ref).ref == ref
    assert resolve_layer("smollm2-135m", 14) == ref
    assert name_of(ref) == "smollm2-135m"
    # another revision in the cache does not take its place
    write("other", repository=ref.repository, index=14)
    assert resolve_layer("smollm2-135m", 14) == ref


def test_a_fetched_layer_is_found_by_repository_and_revision() -> None:
    first = write("first")
    assert resolve_layer("hf:org/model", 2) == first
    second = write("second", seed=1, revision="b")
    assert resolve_layer("hf:org/model@b", 2) == second
    assert resolve_layer("hf:org/model@a", 2) == first
    with pytest.raises(CheckpointError, match=r"several revisions \(a, b\)"):
        resolve_layer("hf:org/model", 2)
    (cache_folder() / "layers" / "first" / "pack.json").write_text("{")
    assert resolve_layer("hf:org/model", 2) == second
    assert second in {layer.ref for layer in layers_at_hand()}
    assert first not in {layer.ref for layer in layers_at_hand()}


@pytest.mark.parametrize(
    ("source", "index", "command"),
    [
        ("qwen2.5-coder-1.5b", 27, "llm4seg models fetch qwen2.5-coder-1.5b --layer 27"),
        ("llama-3.2-1b", None, "llm4seg models fetch llama-3.2-1b --layer 14"),
        ("hf:org/other@main", 3, "llm4seg models fetch hf:org/other@main --layer 3"),
        ("/models/a b", 3, 'llm4seg models fetch "/models/a b" --layer 3'),
    ],
)
def test_a_layer_that_is_not_at_hand_names_the_command(source: str, index: int | None, command: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_layer(source, index)
    assert str(caught.value).endswith(command)
    assert "\n" not in str(caught.value)


def test_a_layer_that_cannot_be() -> None:
    with pytest.raises(CheckpointError, match="layers 0 to 29"):
        resolve_layer("smollm2-135m", 30)
    with pytest.raises(CheckpointError, match="Which layer"):
        resolve_layer("hf:org/model")


def test_a_checkpoint_that_lacks_its_layer_names_the_command() -> None:
    ref = LayerRef(repository="org/model", revision="abc", index=3, sha256="0" * 64)
    with pytest.raises(CheckpointError, match="llm4seg models fetch hf:org/model --layer 3 --revision abc"):
        find_pack(ref)
    for foreign in ("imported/x", "local/x"):
        with pytest.raises(CheckpointError) as caught:
            find_pack(ref.model_copy(update={"repository": foreign}))
        assert "models fetch" not in str(caught.value)


def test_random_layers_are_the_same_everywhere() -> None:
    ref = resolve_layer("random:smollm2-135m", 0)
    assert (ref.repository, ref.revision, ref.index) == ("random/smollm2-135m", "seed-0", 0)
    assert ref.sha256 == RANDOM_SMOLLM2
    pack = find_pack(ref)
    expected = LLMLayer.random(pack.spec, 0).state_dict()
    assert tensors_digest(pack.tensors) == tensors_digest(expected)
    other = resolve_layer("random:smollm2-135m", 1)
    assert other.sha256 != ref.sha256
    assert resolve_layer("random:smollm2-135m") == ref
    # a network with two of them in a row, on a machine that has none
    for folder in (cache_folder() / "layers").iterdir():
        (folder / WEIGHTS).unlink()
    block = BlockConfig(layers=(ref, other), hidden=576)
    layers = build_network(ModelConfig(block=block)).block.layers
    assert [layer.spec.hidden for layer in layers] == [576, 576]
    assert torch.equal(layers[0].state_dict()["mlp.up_proj.weight"], expected["mlp.up_proj.weight"])
    assert not torch.equal(layers[1].state_dict()["mlp.up_proj.weight"], expected["mlp.up_proj.weight"])


def test_a_random_layer_of_another_digest_is_refused() -> None:
    ref = resolve_layer("random:smollm2-135m", 0)
    with pytest.raises(CheckpointError, match="this machine makes") as caught:
        find_pack(ref.model_copy(update={"sha256": "0" * 64}))
    assert "\n" not in str(caught.value)
    for wrong in ({"revision": "main"}, {"repository": "random/nothing"}):
        with pytest.raises(CheckpointError, match="There is no random layer"):
            find_pack(ref.model_copy(update=wrong))
    with pytest.raises(CheckpointError, match="0 or above"):
        resolve_layer("random:smollm2-135m", -1)


def test_looking_waits_for_no_torch() -> None:
    code = (
        "import sys; from napari_llm4seg.models.inventory import resolve_layer; resolve_layer('smollm2-135m'); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
