from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from napari_llm4seg.assets import asset
from napari_llm4seg.config import LayerRef
from napari_llm4seg.errors import CheckpointError, InputError
from napari_llm4seg.files import cache_folder, sha256
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import (
    PACK,
    WEIGHTS,
    LayerPack,
    find_pack,
    layer_from_checkpoint,
    packs_beside,
    read_pack,
    tensors_digest,
    write_pack,
)
from tests.models.base import LANGUAGE_MODEL, SPEC


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))


def layer(seed: int = 0) -> dict[str, Tensor]:
    return LLMLayer.random(SPEC, seed).state_dict()


def write(folder: Path, seed: int = 0, **changes: Any) -> LayerPack:
    fields: dict[str, Any] = {"repository": "made/layer", "revision": "1", "index": 2, "licence": "MIT"} | changes
    return write_pack(folder, layer(seed), LANGUAGE_MODEL, **fields)


def test_a_pack_reads_back_as_written(tmp_path: Path) -> None:
    licence = tmp_path / "LICENSE.txt"
    licence.write_text("free")
    pack = write(tmp_path / "pack", licence_file=licence, note="made")
    again = read_pack(tmp_path / "pack")
    assert tensors_digest(again.tensors) == tensors_digest(pack.tensors) == tensors_digest(layer())
    assert again.ref == pack.ref
    assert (pack.ref.repository, pack.ref.revision, pack.ref.index) == ("made/layer", "1", 2)
    assert pack.ref.sha256 == sha256(tmp_path / "pack" / WEIGHTS)
    assert (pack.licence, pack.note, pack.spec) == ("MIT", "made", SPEC)
    assert (tmp_path / "pack" / "LICENSE").read_text() == "free"
    built = pack.build()
    assert built.frozen
    assert not pack.build(frozen=False).frozen
    assert tensors_digest(built.state_dict()) == tensors_digest(layer())


def test_a_pack_replaces_a_pack_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "pack", seed=0)
    assert tensors_digest(write(tmp_path / "pack", seed=1).tensors) == tensors_digest(layer(1))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="already holds something else"):
        write(mine)
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_half_a_layer_is_not_written(tmp_path: Path) -> None:
    tensors = layer()
    del tensors["mlp.up_proj.weight"]
    with pytest.raises(CheckpointError, match=r"mlp\.up_proj"):
        write_pack(tmp_path / "pack", tensors, LANGUAGE_MODEL, repository="a", revision="b", index=0)
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_pack_is_whole_and_licensed() -> None:
    folder = asset("layers", "smollm2-135m-instruct-14")
    pack = read_pack(folder)
    assert pack.ref.repository == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert pack.ref.index == 14
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert sum(t.numel() for t in pack.tensors.values()) == 3_540_096
    assert find_pack(pack.ref).ref == pack.ref


def test_an_altered_layer_is_refused(tmp_path: Path) -> None:
    pack = write(tmp_path / "near" / "layers" / "pack")
    weights = tmp_path / "near" / "layers" / "pack" / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for refused in (lambda: read_pack(weights.parent), lambda: find_pack(pack.ref, tmp_path / "near")):
        with pytest.raises(CheckpointError, match="was altered") as caught:
            refused()
        assert "\n" not in str(caught.value)
        assert str(weights) in str(caught.value)
    # a good copy elsewhere still serves
    write(cache_folder() / "layers" / "copy")
    assert find_pack(pack.ref, tmp_path / "near").ref == pack.ref


def test_a_missing_layer_names_what_is_near(tmp_path: Path) -> None:
    pack = write(tmp_path / "layers" / "pack")
    other = pack.ref.model_copy(update={"revision": "2"})
    with pytest.raises(CheckpointError, match="another revision or sha256") as caught:
        find_pack(other, tmp_path)
    assert "\n" not in str(caught.value)
    absent = pack.ref.model_copy(update={"repository": "made/other"})
    with pytest.raises(CheckpointError, match=r"layer 2 of made/other .* not at hand") as caught:
        find_pack(absent, tmp_path)
    assert str(cache_folder()) in str(caught.value)


def test_a_damaged_pack_hides_no_good_one(tmp_path: Path) -> None:
    pack = write(tmp_path / "layers" / "b")
    shutil.copytree(tmp_path / "layers" / "b", tmp_path / "layers" / "a")
    (tmp_path / "layers" / "a" / PACK).write_text("{")
    assert find_pack(pack.ref, tmp_path).ref == pack.ref
    assert packs_beside(pack.ref, tmp_path) == [tmp_path / "layers" / "b"]
    assert packs_beside(pack.ref, None) == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (PACK, "{"),
        (PACK, "[]"),
        (PACK, '{"repository": "a"}'),
        (PACK, '{"repository": "a", "revision": "b", "index": -1, "sha256": "c"}'),
        (PACK, "[" * 100_000),
        ("config.json", '{"model_type": "llama"}'),
        ("config.json", json.dumps(LANGUAGE_MODEL | {"hidden_size": 96})),
        ("config.json", None),
        (PACK, None),
        (WEIGHTS, None),
        (WEIGHTS, ""),
    ],
)
def test_damaged_packs_give_one_line(tmp_path: Path, file: str, content: str | None) -> None:
    folder = tmp_path / "pack"
    write(folder)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        read_pack(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_weights_that_are_no_safetensors_are_refused_even_with_their_own_digest(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    write(folder)
    (folder / WEIGHTS).write_bytes(b"\x80\x04pickle")
    about = json.loads((folder / PACK).read_text())
    (folder / PACK).write_text(json.dumps(about | {"sha256": sha256(folder / WEIGHTS)}))
    with pytest.raises(CheckpointError, match="damaged or not safetensors"):
        read_pack(folder)


# --- one layer out of a whole model -----------------------------------------------------------------------------------


class Counted:
    """Stands in for ``safetensors.safe_open`` and counts what is opened and read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: Counter[str] = Counter()
        self.tensors: list[str] = []
        real, seen = safetensors.safe_open, self

        class Opened:
            def __init__(self, file: Path, framework: str) -> None:
                seen.files[Path(file).name] += 1
                self.real = real(file, framework=framework)

            def __enter__(self) -> Opened:
                self.inner = self.real.__enter__()
                return self

            def __exit__(self, *error: object) -> None:
                self.real.__exit__(*error)

            def keys(self) -> list[str]:
                return list(self.inner.keys())

            def get_tensor(self, name: str) -> Tensor:
                seen.tensors.append(name)
                return self.inner.get_tensor(name)

        monkeypatch.setattr(safetensors, "safe_open", Opened)


def whole_model(folder: Path, layers: int = 12, shards: int = 6) -> dict[str, str]:
    """Write a many-layer, many-shard checkpoint, its tensors dealt out so that every layer lies in two shards."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LANGUAGE_MODEL | {"num_hidden_layers": layers}))
    parts: list[dict[str, Tensor]] = [{} for _ in range(shards)]
    parts[0]["model.embed_tokens.weight"] = torch.ones(100, 48)
    parts[-1]["lm_head.weight"] = torch.ones(100, 48)
    for index in range(layers):
        for n, (name, tensor) in enumerate(layer(index).items()):
            parts[(index // 2 + (n > 4)) % shards][f"model.layers.{index}.{name}"] = tensor
    where = {}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, folder / file)
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return where


@pytest.mark.parametrize("index", [0, 1, 7, 10, 11])
def test_only_the_shards_and_tensors_of_the_layer_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    where = whole_model(tmp_path / "model")
    counted = Counted(monkeypatch)
    spec, tensors = layer_from_checkpoint(tmp_path / "model", index)
    assert spec == SPEC
    assert tensors_digest(tensors) == tensors_digest(layer(index))
    # "model.layers.1." must not take layers 10 and 11 along
    needed = {file for name, file in where.items() if name.startswith(f"model.layers.{index}.")}
    assert len(needed) == 2
    assert counted.files == Counter(needed)
    assert sorted(counted.tensors) == sorted(f"model.layers.{index}.{name}" for name in SPEC.tensor_shapes())


def test_a_single_file_is_read_as_sparingly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_model(tmp_path / "model", layers=5, shards=1)
    (tmp_path / "model" / "model-00001-of-00001.safetensors").rename(tmp_path / "model" / "model.safetensors")
    counted = Counted(monkeypatch)
    _, tensors = layer_from_checkpoint(tmp_path / "model", 3)
    assert tensors_digest(tensors) == tensors_digest(layer(3))
    assert len(counted.tensors) == len(SPEC.tensor_shapes())


def test_stored_rotary_frequencies_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LANGUAGE_MODEL))
    tensors = {f"model.layers.0.{name}": tensor for name, tensor in layer().items()}
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    save_file(tensors, tmp_path / "model.safetensors")
    assert len(layer_from_checkpoint(tmp_path, 0)[1]) == len(SPEC.tensor_shapes())


def test_a_shard_index_reaches_nothing_outside_the_folder(tmp_path: Path) -> None:
    where = whole_model(tmp_path / "model")
    save_file({f"model.layers.3.{name}": t for name, t in layer(3).items()}, tmp_path / "secret.safetensors")
    hostile = {name: "../secret.safetensors" for name in where}
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": hostile}))
    with pytest.raises(CheckpointError, match="secret"):
        layer_from_checkpoint(tmp_path / "model", 3)


@pytest.mark.parametrize("index", [-1, 12, 99])
def test_a_layer_that_is_not_there(tmp_path: Path, index: int) -> None:
    whole_model(tmp_path / "model")
    with pytest.raises(CheckpointError, match="layers 0 to 11"):
        layer_from_checkpoint(tmp_path / "model", index)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", '{"model_type": "gpt2"}'),
        ("model.safetensors.index.json", "{}"),
        ("model.safetensors.index.json", '{"weight_map": [1, 2]}'),
        ("model.safetensors.index.json", '{"weight_map": {}}'),
        ("model-00002-of-00006.safetensors", "x"),
    ],
)
def test_damaged_models_give_one_line(tmp_path: Path, file: str, content: str) -> None:
    whole_model(tmp_path / "model")
    (tmp_path / "model" / file).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        layer_from_checkpoint(tmp_path / "model", 2)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "model") in str(caught.value)


def test_digests_tell_names_shapes_dtypes_and_values_apart() -> None:
    base = {"a": torch.arange(6.0)}
    variants = [
        {"b": base["a"]},
        {"a": base["a"].reshape(2, 3)},
        {"a": base["a"].double()},
        {"a": base["a"] + 1},
        {"a": base["a"], "b": torch.tensor(1)},
    ]
    digests = {tensors_digest(tensors) for tensors in (base, *variants)}
    assert len(digests) == 6
    assert tensors_digest({"a": torch.arange(6.0).reshape(2, 3).T.contiguous().T.flatten()}) in digests


def test_a_layer_ref_is_checked() -> None:
    with pytest.raises(ValueError, match="sha256"):
        LayerRef(repository="a", index=0, sha256="short")
