from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_llm4seg.checkpoint import Checkpoint, expected_shapes
from napari_llm4seg.config import (
    BackboneConfig,
    BlockConfig,
    Card,
    CheckpointConfig,
    LayerRef,
    ModelConfig,
    PreprocessConfig,
)
from napari_llm4seg.errors import CheckpointError, InputError
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import write_pack
from tests.models.base import LANGUAGE_MODEL, SPEC

BACKBONE = BackboneConfig(kind="cmunext", in_channels=1, widths=(4, 6), depths=(1, 1), kernels=(3, 3))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path_factory.mktemp("cache")))


def make(block: BlockConfig | None = None, name: str = "made", **card: Any) -> CheckpointConfig:
    return CheckpointConfig(
        model=ModelConfig(backbone=BACKBONE, block=block),
        preprocess=PreprocessConfig(size=(32, 32)),
        card=Card(name=name, **card),
    )


def fresh(config: CheckpointConfig | None = None, path: Path | None = None) -> Checkpoint:
    """Return a checkpoint of a fresh network without frozen layers."""
    torch.manual_seed(0)
    config = config or make()
    return Checkpoint(config, LLM4SegNet(config.model).trained_tensors(), path)


def with_layer(root: Path, frozen: bool = True) -> Checkpoint:
    """Return a checkpoint whose frozen layer lies in ``root/layers`` and nowhere else."""
    layer = LLMLayer.random(SPEC, 1)
    pack = write_pack(
        root / "layers" / "made-2", layer.state_dict(), LANGUAGE_MODEL, repository="made/x", revision="1", index=2
    )
    config = make(BlockConfig(layers=(pack.ref,), hidden=SPEC.hidden, frozen=frozen))
    torch.manual_seed(0)
    return Checkpoint(config, LLM4SegNet(config.model, [pack.build(frozen)]).trained_tensors(), root)


def refused(path: Path, named: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(named or path) in message
    assert len(message) < 1000
    return message


# --- round trips ------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_round_trip_of_any_tensors(tmp_path: Path, data: st.DataObject) -> None:
    config = make(name=data.draw(st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)))
    seed, scale = data.draw(st.integers(0, 1000)), data.draw(st.sampled_from([0.0, 1e-30, 1.0, 1e30]))
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, shape in expected_shapes(config).items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(seed)
        else:
            dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
            values = (torch.randn(shape, generator=generator) * scale).to(dtype)
            if values.ndim == 4:
                values = values.to(memory_format=torch.channels_last)
            tensors[name] = values
    checkpoint = Checkpoint(config, tensors)
    for target in (tmp_path / "folder", tmp_path / "file.safetensors"):
        loaded = Checkpoint.load(checkpoint.save(target))
        assert loaded.config == config
        assert loaded.digest == checkpoint.digest
        assert set(loaded.tensors) == set(tensors)
        for name, tensor in tensors.items():
            assert loaded.tensors[name].dtype == tensor.dtype
            assert torch.equal(loaded.tensors[name], tensor)


def test_a_folder_holds_what_it_says(tmp_path: Path) -> None:
    config = make(name="liver", licence="CC0", training_data="made scans", scores={"iou": 0.71})
    out = fresh(config).save(tmp_path / "deep" / "out")
    assert sorted(os.listdir(out)) == ["README.md", "config.json", "weights.safetensors"]
    assert CheckpointConfig.model_validate(json.loads((out / "config.json").read_text())) == config
    card = (out / "README.md").read_text()
    for words in ("# liver", "Not a medical device", "CC0", "made scans", "iou: 0.71", "1 lesion", "cmunext"):
        assert words in card
    assert Checkpoint.load(out).path == out
    assert set(load_file(out / "weights.safetensors")) == set(expected_shapes(config))


def test_digests_follow_what_is_computed(tmp_path: Path) -> None:
    base = fresh()
    other_card = Checkpoint(make(name="another"), base.tensors)
    assert other_card.digest == base.digest
    assert len(base.digest) == 64
    changed = dict(base.tensors)
    changed["backbone.Conv_1x1.bias"] = changed["backbone.Conv_1x1.bias"] + 1
    assert Checkpoint(base.config, changed).digest != base.digest
    grey = base.config.model_copy(update={"preprocess": PreprocessConfig(size=(32, 32), mean=(0.1,))})
    assert Checkpoint(grey, base.tensors).digest != base.digest


def test_saving_again_replaces_and_keeps_what_is_not_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fresh(make(name="one")).save(out)
    (out / "LICENSE").write_text("free")
    (out / "figures").mkdir()
    (out / "figures" / "a.txt").write_text("x")
    fresh(make(name="two")).save(out)
    assert Checkpoint.load(out).name == "two"
    assert (out / "LICENSE").read_text() == "free"
    assert (out / "figures" / "a.txt").exists()
    assert os.listdir(tmp_path) == ["out"]


def test_nobodys_work_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.nii.gz").write_text("scan")
    with pytest.raises(InputError, match="already holds something else"):
        fresh().save(tmp_path / "scans")
    assert os.listdir(tmp_path / "scans") == ["a.nii.gz"]


@pytest.mark.parametrize("name", ["../../escape", "/etc/x", "a\\b", "a\0b", "..", "🫀", "# not\n## a title"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    out = fresh(make(name=name)).save(tmp_path / "a" / "b" / "out")
    assert Checkpoint.load(out).name == name
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert sorted(os.listdir(out)) == ["README.md", "config.json", "weights.safetensors"]


# --- frozen layers ----------------------------------------------------------------------------------------------------


def same(a: Checkpoint, b: Checkpoint) -> None:
    image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(a.build()(image), b.build()(image))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("target", ["new", "new/model.safetensors", "origin"])
def test_layers_beside_a_checkpoint_go_along(tmp_path: Path, frozen: bool, target: str) -> None:
    origin = with_layer(tmp_path / "origin", frozen)
    if target == "origin":
        # the folder holds nothing but the layers yet, so it is told to be a checkpoint's
        (tmp_path / "origin" / "config.json").write_text("{}")
    saved = Checkpoint.load(origin.save(tmp_path / target))
    same(saved, origin)
    if target != "origin":
        import shutil

        shutil.rmtree(tmp_path / "origin")
        saved.build()
        third = Checkpoint.load(saved.save(tmp_path / "third"))
        shutil.rmtree(tmp_path / "new")
        third.build()


def test_layers_that_are_links_are_carried_as_files(tmp_path: Path) -> None:
    # as in the Hugging Face cache: every file is a relative link to a blob
    origin = with_layer(tmp_path / "blobs" / "origin")
    pack = tmp_path / "snapshot" / "layers" / "made-2"
    pack.mkdir(parents=True)
    for file in (tmp_path / "blobs" / "origin" / "layers" / "made-2").iterdir():
        (pack / file.name).symlink_to(os.path.relpath(file, pack))
    linked = Checkpoint(origin.config, origin.tensors, tmp_path / "snapshot")
    for target in ("deep/er/out", "other/model.safetensors"):
        same(Checkpoint.load(linked.save(tmp_path / target)), origin)
        carried = (tmp_path / target).parent / "layers" if target.endswith("rs") else tmp_path / target / "layers"
        assert not any(file.is_symlink() for file in carried.rglob("*"))
        assert os.listdir(carried) == ["made-2"]


def test_a_layer_of_the_same_folder_name_is_not_mistaken(tmp_path: Path) -> None:
    first = with_layer(tmp_path / "first")
    other = LLMLayer.random(SPEC, 2).state_dict()
    write_pack(tmp_path / "out" / "layers" / "made-2", other, LANGUAGE_MODEL, repository="o/o", revision="1", index=2)
    saved = Checkpoint.load(first.save(tmp_path / "out" / "model.safetensors"))
    same(saved, first)
    assert len(os.listdir(tmp_path / "out" / "layers")) == 2


def test_shipped_layers_are_not_copied(tmp_path: Path) -> None:
    ref = LayerRef(
        repository="HuggingFaceTB/SmolLM2-135M-Instruct",
        revision="gguf-4bit-dequantised",
        index=14,
        sha256="4413bb22afa2541de0fa8eb9dcc2e9b38be78063f65faf9abc78d4c085b8fe7b",
    )
    config = make(BlockConfig(layers=(ref,), hidden=576))
    hollow = LLM4SegNet(make(BlockConfig(hidden=576)).model)
    out = Checkpoint(config, hollow.trained_tensors(), tmp_path).save(tmp_path / "out")
    assert "layers" not in os.listdir(out)
    net = Checkpoint.load(out).build()
    assert sum(p.numel() for p in net.llm_block().layers.parameters()) == 3_540_096


def test_a_missing_or_altered_layer_gives_one_line(tmp_path: Path) -> None:
    origin = with_layer(tmp_path / "origin")
    out = origin.save(tmp_path / "out")
    weights = next(out.rglob("layer.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.unlink()  # it may share its blocks with the original
    weights.write_bytes(data)
    for words in ("was altered", "not at hand"):
        with pytest.raises(CheckpointError, match=words) as caught:
            Checkpoint.load(out).build()
        assert "\n" not in str(caught.value)
        assert str(out) in str(caught.value)
        weights.unlink(missing_ok=True)
        for rest in weights.parent.iterdir() if weights.parent.exists() else ():
            rest.unlink()


def test_a_layer_of_another_width_gives_one_line(tmp_path: Path) -> None:
    origin = with_layer(tmp_path / "origin")
    block = origin.config.model.block
    assert block is not None
    config = make(block.model_copy(update={"hidden": 64}))
    hollow = LLM4SegNet(make(BlockConfig(hidden=64)).model)
    out = Checkpoint(config, hollow.trained_tensors(), tmp_path / "origin").save(tmp_path / "out")
    with pytest.raises(CheckpointError, match="width 48 came for a block of width 64") as caught:
        Checkpoint.load(out).build()
    assert str(out) in str(caught.value)


def test_a_trained_layer_is_held_to_its_pack(tmp_path: Path) -> None:
    origin = with_layer(tmp_path / "origin", frozen=False)
    for change in ("missing", "shape"):
        tensors = dict(origin.tensors)
        name = "block.layers.0.mlp.up_proj.weight"
        if change == "missing":
            del tensors[name]
        else:
            tensors[name] = torch.ones(3, 3)
        out = Checkpoint(origin.config, tensors, origin.path).save(tmp_path / "out")
        with pytest.raises(CheckpointError, match=r"mlp\.up_proj"):
            Checkpoint.load(out).build()


# --- wrong files ------------------------------------------------------------------------------------------------------

FORMS = ["folder", "file"]


def stored(tmp_path: Path, form: str, checkpoint: Checkpoint | None = None) -> tuple[Path, Path]:
    """Return a saved checkpoint's path and that of its weights file."""
    path = tmp_path / ("out" if form == "folder" else "out.safetensors")
    (checkpoint or fresh()).save(path)
    return path, path / "weights.safetensors" if form == "folder" else path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keep", [0, 1, 4, 7, 8, 9, 100, 0.5, -1])
def test_cut_weights(tmp_path: Path, form: str, keep: float) -> None:
    path, weights = stored(tmp_path, form)
    data = weights.read_bytes()
    weights.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    refused(path)


@pytest.mark.parametrize("keep", [0, 1, 4, 100, 0.5, -2])
def test_cut_configs(tmp_path: Path, keep: float) -> None:
    path, _ = stored(tmp_path, "folder")
    data = (path / "config.json").read_bytes()
    (path / "config.json").write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    refused(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_load_or_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Damage in a value cannot be seen without a digest; anywhere else it is one clear error."""
    path, weights = stored(tmp_path, data.draw(st.sampled_from(FORMS)))
    content = bytearray(weights.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 2000).filter(lambda i: i < len(content)))
    content[where] ^= data.draw(st.integers(1, 255))
    weights.write_bytes(content)
    problem = ""
    try:
        Checkpoint.load(path).build()
    except CheckpointError as error:
        problem = str(error)
    assert "\n" not in problem


def test_absent_things(tmp_path: Path) -> None:
    assert "no checkpoint" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path / "empty")
    path, weights = stored(tmp_path, "folder")
    weights.unlink()
    assert "missing" in refused(path)
    weights.mkdir()
    assert "missing" in refused(path)


def test_foreign_files(tmp_path: Path) -> None:
    other = tmp_path / "model.safetensors"
    save_file({"conv.weight": torch.ones(3)}, other, {"format": "pt"})
    assert "another program" in refused(other)
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "config.json").write_text(json.dumps(LANGUAGE_MODEL))
    assert "no checkpoint of this program" in refused(tmp_path / "llm")
    for name, content in (("scan.nii.gz", b"\x1f\x8b\x08" + bytes(400)), ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(99))):
        (tmp_path / name).write_bytes(content)
        assert "damaged or not a checkpoint" in refused(tmp_path / name)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.ckpt", "a.bin", "a.PT", "folder"])
@pytest.mark.parametrize("writer", [lambda b, p: p.write_bytes(pickle.dumps(b)), torch.save])
def test_pickles_are_never_run(tmp_path: Path, name: str, writer: Callable[[Any, Path], None]) -> None:
    marker = tmp_path / "marker"
    path, weights = (stored(tmp_path, "folder")) if name == "folder" else (tmp_path / name,) * 2
    writer(Hostile(marker), weights)
    message = refused(path)
    assert not marker.exists()
    if name.lower().endswith(("pth", "ckpt", "bin", "pt")):
        assert "llm4seg models import" in message


def rewrite(path: Path, weights: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the config of a saved checkpoint, in whichever form it is."""
    if weights != path:
        value = json.loads((path / "config.json").read_text())
        value = change(value) or value
        (path / "config.json").write_text(value if isinstance(value, str) else json.dumps(value))
        return
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    value = json.loads(header["__metadata__"]["napari-llm4seg"])
    value = change(value) or value
    header["__metadata__"]["napari-llm4seg"] = value if isinstance(value, str) else json.dumps(value)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = value

    return change


def deep(opening: str, closing: str, depth: int) -> Callable[[dict[str, Any]], str]:
    """Return a change that nests the card's scores ``depth`` deep."""

    def change(config: dict[str, Any]) -> str:
        config["card"]["scores"] = {"x": "HERE"}
        return json.dumps(config).replace('"HERE"', opening * depth + "1" + closing * depth)

    return change


ABSURD = [4096] * 8
WRONG_CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "format": (put("format", value="napari-llm4seg/9"), "Update the program"),
    "format number": (put("format", value=7), "says format"),
    "format list": (put("format", value=[1] * 1000), "says format"),
    "unknown field": (put("model", "attention", value=3), "Extra inputs"),
    "unknown field below": (put("model", "backbone", "norm", value="x"), "Extra inputs"),
    "newline in a field's name": (put("model", "a\nb\x1b[2J", value="x"), "Extra inputs"),
    "missing field": (lambda c: c.pop("preprocess") and None, "preprocess"),
    "no model": (put("model", value=None), "model"),
    "NaN": (put("preprocess", "sd", value=[float("nan")]), "finite number"),
    "infinity": (put("preprocess", "divide", value=float("inf")), "finite number"),
    "text for a number": (put("predict", "threshold", value="half"), "threshold"),
    "negative": (put("predict", "batch", value=-1), "batch"),
    "channels": (put("preprocess", "channels", value="rgb"), "need 3 values"),
    "other widths": (put("model", "backbone", "widths", value=[4, 8]), "needs (8"),
    "other classes": (
        put("model", "classes", value=[{"value": 1, "name": "a"}, {"value": 2, "name": "b"}]),
        "needs (2",
    ),
    "absurd widths": (put("model", "backbone", "widths", value=[4096, 4096]), "needs (4096"),
    "absurd network": (
        put("model", "backbone", value={"widths": ABSURD, "depths": [64] * 8, "kernels": [31] * 8}),
        "needs (4096",
    ),
    "wider still": (put("model", "backbone", "widths", value=[1 << 40, 1 << 40]), "1 to 4096"),
    "more stages": (
        put("model", "backbone", value={"widths": [1] * 9999, "depths": [1] * 9999, "kernels": [1] * 9999}),
        "two to eight stages",
    ),
    "absurd hidden": (put("model", "block", value={"hidden": 1 << 40}), "less than or equal to 65536"),
    "wide hidden": (put("model", "block", value={"hidden": 1 << 16}), "adapter_in.weight' is missing"),
    "many layers": (
        put("model", "block", value={"layers": [{"repository": "a", "index": 0, "sha256": "0" * 64}] * 5000}),
        "at most 32",
    ),
    "deep scores": (deep("[", "]", 300), ""),
    "deeper scores": (deep('{"a":', "}", 100_000), ""),
    "list": (lambda c: "[1]", ""),
    "nothing": (lambda c: "null", ""),
    "empty object": (lambda c: "{}", "no checkpoint of this program"),
    "surrogate": (put("card", "name", value="\ud800"), "surrogates"),
    "huge": (put("card", "task", value="x" * (2 << 20)), ""),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", WRONG_CONFIGS)
def test_wrong_configs(tmp_path: Path, form: str, name: str) -> None:
    path, weights = stored(tmp_path, form)
    change, words = WRONG_CONFIGS[name]
    rewrite(path, weights, change)
    message = refused(path)
    assert words in message
    assert message.isprintable()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory through Linux")
def test_an_absurd_network_allocates_nothing(tmp_path: Path) -> None:
    """Its weights would take hundreds of gigabytes; refusing it must not take a visible part of that."""
    good, _ = stored(tmp_path / "good", "folder")
    path, weights = stored(tmp_path, "folder")
    rewrite(path, weights, WRONG_CONFIGS["absurd network"][0])
    code = (
        "import resource, sys\n"
        "from napari_llm4seg.checkpoint import Checkpoint\n"
        "from napari_llm4seg.errors import CheckpointError\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "Checkpoint.load(sys.argv[1])\n"
        "before = peak()\n"
        "try:\n    Checkpoint.load(sys.argv[2])\n"
        "except CheckpointError:\n    print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, good, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * 1024  # in KiB


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("backbone.Conv_1x1.bias"), "'backbone.Conv_1x1.bias' is missing"),
        (lambda t: t.update({"backbone.Conv_1x1.bias": torch.ones(7)}), "needs (1,)"),
        (lambda t: t.update({"backbone.Conv_1x1.bias": torch.full((1,), torch.nan)}), "NaN or infinity"),
        (lambda t: t.update({"backbone.stem.conv.1.running_var": torch.full((4,), torch.inf)}), "NaN or infinity"),
        (lambda t: t.update({"backbone.Conv_1x1.bias": torch.ones(1, dtype=torch.int32)}), "torch.int32"),
        (lambda t: t.update({"backbone.Conv_1x1.bias": torch.ones(1, dtype=torch.complex64)}), ""),
        (lambda t: t.update({"backbone.Conv_1x1.bias": torch.ones(1).to(torch.float8_e4m3fn)}), "float8"),
        (lambda t: t.update({"extra": torch.ones(1)}), "hold 'extra'"),
        (lambda t: t.update({"block.layers.0.mlp.up_proj.weight": torch.ones(1)}), "hold 'block.layers.0"),
        (lambda t: t.update({"a\nb": torch.ones(1)}), "has no place"),
    ],
)
def test_wrong_weights(tmp_path: Path, form: str, change: Callable[[dict[str, Tensor]], Any], words: str) -> None:
    checkpoint = fresh()
    tensors = dict(checkpoint.tensors)
    change(tensors)
    path, _ = stored(tmp_path, form, Checkpoint(checkpoint.config, tensors))
    assert words in refused(path)
