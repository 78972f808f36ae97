"""Layers out of language models on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from napari_llm4seg.errors import CheckpointError, ConfigError
from napari_llm4seg.models.gguf_header import ShortHeader, language_model_config, parse_header
from napari_llm4seg.models.inventory import resolve_layer
from napari_llm4seg.models.packs import find_pack, tensors_digest
from napari_llm4seg.models.registry import LANGUAGE_MODELS
from napari_llm4seg.models.sources import fetch
from napari_llm4seg.models.spec import LayerSpec
from tests.models.made_models import config_like, gguf_file, layer_of, safetensors_files

QWEN = config_like("qwen2.5-coder-1.5b", layers=2)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def layers(config: dict[str, Any]) -> dict[int, dict[str, Tensor]]:
    return {index: layer_of(config, index, torch.float32) for index in range(2)}


@pytest.mark.parametrize("shards", [1, 2])
def test_a_folder_of_safetensors(tmp_path: Path, shards: int) -> None:
    folder = folder_of(tmp_path / "My Model", safetensors_files(QWEN, shards))
    several = fetch(str(folder), [1, 0])
    assert [fetched.ref.index for fetched in several] == [1, 0]
    for fetched in several:
        assert fetched.ref.repository == "local/my-model"
        assert tensors_digest(find_pack(fetched.ref).tensors) == tensors_digest(layer_of(QWEN, fetched.ref.index))
        assert resolve_layer(str(folder), fetched.ref.index) == fetched.ref
    assert fetch(str(folder), [1])[0].ref == several[0].ref


@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-coder-1.5b"])
@pytest.mark.parametrize("given", ["file", "beside", "folder"])
def test_a_gguf_file(tmp_path: Path, name: str, given: str) -> None:
    config = config_like(name, layers=2)
    path = gguf_file(tmp_path / "model.gguf", config, layers(config))
    if given == "beside":
        (tmp_path / "config.json").write_text(json.dumps(config))
    (fetched,) = fetch(str(tmp_path if given == "folder" else path), [1])
    pack = find_pack(fetched.ref)
    written = LayerSpec.from_config(config)
    assert pack.spec.inverse_frequencies().equal(written.inverse_frequencies())
    assert (pack.spec.family, pack.spec.heads, pack.spec.kv_heads, pack.spec.qkv_bias) == (
        written.family,
        written.heads,
        written.kv_heads,
        written.qkv_bias,
    )
    assert pack.spec.eps == pytest.approx(written.eps)
    for key, tensor in pack.tensors.items():
        # Q8_0 keeps 1/254 of a block's largest value, about 0.3 here
        torch.testing.assert_close(tensor.float(), layer_of(config, 1, torch.float32)[key], rtol=0, atol=2e-3)


def test_a_rotary_scaling_that_the_file_does_not_tell_is_asked_for(tmp_path: Path) -> None:
    """llama.cpp writes llama3's scaling as a tensor of factors, from which its constants do not follow."""
    config = config_like("llama-3.2-1b", layers=2)
    path = gguf_file(tmp_path / "model.gguf", config, layers(config), rope_factors=True)
    with pytest.raises(CheckpointError, match=r"put that beside the file") as caught:
        fetch(str(path), [1])
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find_pack(fetch(str(path), [1])[0].ref).spec == LayerSpec.from_config(config)


def test_a_header_that_goes_on_says_so_wherever_it_is_cut(tmp_path: Path) -> None:
    data = gguf_file(tmp_path / "model.gguf", QWEN, layers(QWEN), vocabulary=30).read_bytes()
    whole = parse_header(data)
    assert language_model_config(whole)["num_hidden_layers"] == 2
    for length in range(3000):
        try:
            assert parse_header(data[:length]) == whole
        except ShortHeader:
            continue
        break
    else:
        pytest.fail("no length sufficed")
    # everything before that length was short, the last tensor's offset being the header's last 8 bytes
    assert length > 1000
    with pytest.raises(ShortHeader):
        parse_header(data[: length - 1])


def test_a_path_can_be_said_to_hold_a_known_model(tmp_path: Path) -> None:
    model = LANGUAGE_MODELS["smollm2-135m"]
    spec = LayerSpec.from_config(model.config)
    tensors = {f"model.layers.29.{name}": torch.ones(shape) for name, shape in spec.tensor_shapes().items()}
    files = {"config.json": json.dumps(dict(model.config)).encode(), "model.safetensors": save(tensors)}
    folder = folder_of(tmp_path / "mine", files)
    (fetched,) = fetch(str(folder), [29], llm=model.name)
    assert fetched.ref.repository == model.repository
    assert resolve_layer(model.name, 29) == fetched.ref
    with pytest.raises(CheckpointError, match=r"is not qwen2\.5-coder-1\.5b"):
        fetch(str(folder), [29], llm="qwen2.5-coder-1.5b")
    with pytest.raises(ConfigError, match="--llm takes one of"):
        fetch(str(folder), [29], llm="gpt-2")


@pytest.mark.data
def test_the_real_qwen2_layer_by_its_path(weights_dir: Path) -> None:
    file = weights_dir / "qwen2.5-coder-1.5b-instruct" / "layer27.gguf"
    (fetched,) = fetch(str(file), llm="qwen2.5-coder-1.5b-instruct")
    assert (fetched.ref.repository, fetched.ref.index) == ("Qwen/Qwen2.5-Coder-1.5B-Instruct", 27)
    # quantised matrices as float16: 94 MB
    assert 93e6 < (fetched.folder / "layer.safetensors").stat().st_size < 95e6
    assert fetched.ref.sha256 == "a0a1240b923016618bd07323ec676f463dffac6780c0af606d92aa86ca128421"


def test_what_is_no_layer_gives_one_line(tmp_path: Path) -> None:
    whole = safetensors_files(QWEN)
    endless = {
        key: t * torch.inf if key.endswith("o_proj.weight") else t
        for key, t in load(whole["model.safetensors"]).items()
    }
    folder = folder_of(tmp_path / "endless", whole | {"model.safetensors": save(endless)})
    for path, index, words in (
        (folder, 1, "holds values that are no numbers"),
        (folder, 7, "layers 0 to 1"),
        (tmp_path / "nowhere", 1, "There is no language model"),
        (folder / "LICENSE", 1, "needs a folder with safetensors or a .gguf file"),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            fetch(str(path), [index])
        assert "\n" not in str(caught.value)
        with pytest.raises(CheckpointError):
            resolve_layer(str(path), index)
    with pytest.raises(ConfigError, match="Which layer"):
        fetch(str(folder))
    with pytest.raises(ConfigError, match="is for the Hub"):
        fetch(str(folder), [1], revision="main")
    with pytest.raises(ConfigError, match="of one layer"):
        fetch(str(folder), [0, 1], sha256="0" * 64)
