"""``llm4seg models``: list, describe, fetch, import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.models.packs import read_pack, tensors_digest
from tests.cli.helpers import save_model
from tests.models.hub_server import Hub, Repo, use_real_client
from tests.models.made_models import config_like, layer_of, safetensors_files


def test_list(llm4seg, everywhere) -> None:
    answer = llm4seg("models", "list")
    assert answer.status == 0
    (row,) = [text for text in answer.out.splitlines() if text.startswith("everywhere")]
    assert row.split() == ["everywhere", "ultrasound", "CC0-1.0", "0.500"]
    (entry,) = [model for model in llm4seg("models", "list", "--json").json["models"] if model["name"] == "everywhere"]
    assert (entry["modality"], entry["licence"], entry["iou"]) == ("ultrasound", "CC0-1.0", 0.5)


def test_info(llm4seg, everywhere, tmp_path) -> None:
    found = llm4seg("models", "info", everywhere, "--json").json
    checkpoint = Checkpoint.load(tmp_path / "cache" / "checkpoints" / "everywhere")
    weights = sum(weight.numel() for weight in checkpoint.build().parameters())
    assert found["weights"] == {"trained": weights, "total": weights}
    assert found["digest"] == checkpoint.digest
    assert found["classes"][0]["name"] == "lesion"
    text = llm4seg("models", "info", everywhere).out
    assert checkpoint.digest in text
    assert f"{weights:,}" in text
    assert "CC0-1.0" in text


def test_info_of_nothing(llm4seg, everywhere) -> None:
    answer = llm4seg("models", "info", "nope")
    assert answer.status == 1
    assert len(answer.err.strip().splitlines()) == 1


@pytest.fixture
def hub(everywhere, tmp_path, monkeypatch):
    with Hub() as server:
        use_real_client(server, monkeypatch, tmp_path / "hf")
        yield server


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fetch_from_the_hub_keeps_a_copy(llm4seg, hub, tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    files = files_of(save_model(tmp_path / "published", "Kidney", 1.0))
    hub.repos = {
        "someone/kidney": Repo.of(files | {"code.py": b"boom()", "weights.bin": b"pickled", "old.pth": b"pickled"}),
        "other/everywhere": Repo.of(files_of(save_model(tmp_path / "other", "Another", 1.0))),
    }
    found = llm4seg("models", "fetch", "hf:someone/kidney", "--json").json
    assert found["name"] == "kidney"
    assert found["digest"] == Checkpoint.load(tmp_path / "published").digest
    assert not any(asked.path.endswith((".bin", ".pth", ".py")) for asked in hub.log)
    assert "kidney" in {model["name"] for model in llm4seg("models", "list", "--json").json["models"]}
    # fetching anew replaces; another organisation's model of a name that is taken must not replace it
    assert llm4seg("models", "fetch", "hf:someone/kidney", "--json").json["name"] == "kidney"
    assert llm4seg("models", "fetch", "hf:other/everywhere", "--json").json["name"] == "other--everywhere"
    assert Checkpoint.load(tmp_path / "cache" / "checkpoints" / "everywhere").name == "Everywhere"
    # without a network it comes out of the Hub's own cache
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert llm4seg("models", "info", "hf:someone/kidney", "--json").json["name"] == "Kidney"
    assert llm4seg("models", "fetch", "hf:someone/kidney", "--json").json["digest"] == found["digest"]


def test_a_revision_of_a_model(llm4seg, hub, tmp_path) -> None:
    first = files_of(save_model(tmp_path / "first", "Kidney", 1.0))
    repo = hub.repos["someone/kidney"] = Repo.of(first)
    commit = repo.branches["main"]
    repo.push(files_of(save_model(tmp_path / "second", "Kidney", 2.0)))
    digests = [Checkpoint.load(tmp_path / name).digest for name in ("first", "second")]
    assert llm4seg("models", "fetch", "hf:someone/kidney", "--json").json["digest"] == digests[1]
    answer = llm4seg("models", "fetch", "hf:someone/kidney", "--revision", commit, "--json").json
    assert (answer["name"], answer["digest"]) == ("kidney", digests[0])
    assert llm4seg("models", "fetch", "hf:someone/kidney", "--layer", "3").status == 2


def test_what_the_hub_refuses_is_one_line(llm4seg, hub, scan, tmp_path) -> None:
    hub.repos["someone/kidney"] = Repo.of(files_of(save_model(tmp_path / "first", "Kidney", 1.0)), gated=True)
    for name, words in (
        ("hf:someone/kidney", "https://huggingface.co/someone/kidney"),
        ("hf:someone/nothing", "no such repository"),
        ("hf:nothing", "could not be fetched"),
    ):
        for command in (("info", name), ("fetch", name)):
            answer = llm4seg("models", *command)
            assert answer.status == 1
            assert words in answer.err
            assert len(answer.err.strip().splitlines()) == 1
    answer = llm4seg("segment", scan, "-o", tmp_path / "out", "--model", "hf:someone/kidney")
    assert "https://huggingface.co/someone/kidney" in answer.err


def test_fetch_what_is_there_already(llm4seg, everywhere, tmp_path) -> None:
    answer = llm4seg("models", "fetch", everywhere)
    assert answer.status == 0
    assert str(tmp_path / "cache" / "checkpoints" / "everywhere") in answer.out


def test_import_refuses_what_is_no_state_dict(llm4seg, tmp_path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    answer = llm4seg("models", "import", tmp_path / "other.pth", "-o", tmp_path / "out")
    assert answer.status == 1
    assert len(answer.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_import_a_published_state_dict(llm4seg, tmp_path) -> None:
    from napari_llm4seg.config import BackboneConfig, ModelConfig
    from napari_llm4seg.models.llm4seg import LLM4SegNet

    torch.manual_seed(0)
    net = LLM4SegNet(ModelConfig(backbone=BackboneConfig(in_channels=3))).eval()
    state = {name.removeprefix("backbone."): tensor for name, tensor in net.state_dict().items()}
    torch.save(state, tmp_path / "cnn.pth")
    found = llm4seg("models", "import", tmp_path / "cnn.pth", "-o", tmp_path / "out", "--json").json
    imported = Checkpoint.load(tmp_path / "out")
    assert found["digest"] == imported.digest
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(imported.build()(image), net(image))


# --- language models --------------------------------------------------------------------------------------------------

QWEN = config_like("qwen2.5-coder-1.5b")


def test_layers_of_a_language_model(llm4seg, hub, tmp_path) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    found = llm4seg("models", "fetch", "hf:org/model", "--layer", "1,3-4", "--json").json
    assert [(row["index"], row["new"]) for row in found["layers"]] == [(1, True), (3, True), (4, True)]
    for row in found["layers"]:
        pack = read_pack(Path(row["path"]))
        assert pack.ref.sha256 == row["sha256"]
        assert tensors_digest(pack.tensors) == tensors_digest(layer_of(QWEN, row["index"]))
    hub.forget()
    answer = llm4seg("models", "fetch", "hf:org/model", "--layer", "3")
    assert "was at hand" in answer.out
    assert not hub.log
    listed = llm4seg("models", "list", "--json").json
    assert [row["index"] for row in listed["layers"] if row["repository"] == "org/model"] == [1, 3, 4]
    about = llm4seg("models", "info", "hf:org/model", "--json").json
    assert (about["kind"], about["layers"], len(about["at_hand"])) == ("language model", 6, 3)
    assert about["layer_weights"] == sum(t.numel() for t in layer_of(QWEN, 1).values())
    for options in (("--layer", "9"), ("--layer", "1", "--sha256", "0" * 64)):
        answer = llm4seg("models", "fetch", "hf:org/model", *options)
        assert answer.status == 1
        assert len(answer.err.strip().splitlines()) == 1
    for wrong in ((), ("--layer", "x"), ("--layer", "2-1"), ("--layer", "1", "--llm", "llama-3.2-1b")):
        answer = llm4seg("models", "fetch", "hf:org/model", *wrong)
        assert answer.status == 1
        assert len(answer.err.strip().splitlines()) == 1


def test_the_registry_is_listed_and_described(llm4seg, everywhere) -> None:
    rows = {row["name"]: row for row in llm4seg("models", "list", "--json").json["language_models"]}
    assert rows["smollm2-135m"]["at_hand"] == [14]
    assert rows["llama-3.2-1b"]["gated"] is True
    text = llm4seg("models", "list").out
    assert all(name in text for name in rows)
    about = llm4seg("models", "info", "llama-3.2-1b", "--json").json
    assert (about["layer_weights"], about["layers"], about["default_layer"]) == (60_821_504, 16, 14)
    text = llm4seg("models", "info", "llama-3.2-1b").out
    assert "https://huggingface.co/meta-llama/Llama-3.2-1B" in text
    assert "llm4seg models fetch llama-3.2-1b --layer 14" in text
    assert "llama-3.2-1b" in llm4seg("models", "fetch", "nothing").err
    assert "was at hand" in llm4seg("models", "fetch", "smollm2-135m").out


def test_random_layers(llm4seg, everywhere) -> None:
    found = llm4seg("models", "fetch", "random:smollm2-135m", "--layer", "0-1", "--json").json["layers"]
    assert [row["revision"] for row in found] == ["seed-0", "seed-1"]
    assert found[0]["sha256"] != found[1]["sha256"]


def test_import_with_another_language_model(llm4seg, tmp_path) -> None:
    from napari_llm4seg.config import BackboneConfig, BlockConfig, LayerRef, ModelConfig
    from napari_llm4seg.models.llm4seg import LLM4SegNet
    from napari_llm4seg.models.llm_layer import LLMLayer
    from napari_llm4seg.models.spec import LayerSpec

    torch.manual_seed(0)
    spec = LayerSpec.from_config(QWEN)
    made = LayerRef(repository="made/layer", index=0, sha256="0" * 64)
    block = BlockConfig(layers=(made,), hidden=spec.hidden, positions="paper")
    net = LLM4SegNet(ModelConfig(backbone=BackboneConfig(in_channels=3), block=block), [LLMLayer.random(spec)])
    names = {"block.bridge.adapter_in": "llm4seg.adapter1", "block.bridge.adapter_out": "llm4seg.adapter2"}
    state = {}
    for name, tensor in net.state_dict().items():
        ours = name.replace("block.layers.0.", "llm4seg.llm.").removeprefix("backbone.")
        for mine, theirs in names.items():
            ours = ours.replace(mine, theirs)
        state[ours] = tensor
    torch.save(state, tmp_path / "net.pth")
    answer = llm4seg("models", "import", tmp_path / "net.pth", "-o", tmp_path / "out")
    assert answer.status == 1
    assert "config.json" in answer.err
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    found = llm4seg(
        "models", "import", tmp_path / "net.pth", "-o", tmp_path / "out", "--llm", tmp_path / "config.json",
        "--layer", 3, "--json",
    ).json  # fmt: skip
    imported = Checkpoint.load(tmp_path / "out")
    assert found["digest"] == imported.digest
    (ref,) = imported.config.model.block.layers
    assert ref.index == 3
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(imported.build()(image), net.eval()(image))
    for wrong, words in (("nothing", "no config.json"), ("llama-3.2-1b", "net.pth")):
        answer = llm4seg("models", "import", tmp_path / "net.pth", "-o", tmp_path / "other", "--llm", wrong)
        assert answer.status == 1
        assert words in answer.err
        assert len(answer.err.strip().splitlines()) == 1


# --- as a process of its own, which reads the Hub's environment itself ------------------------------------------------

TOKEN = "hf_averysecrettoken1234567890"


def environment(hub, tmp_path, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "LLM4SEG_CACHE": str(tmp_path / "own-cache"),
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_DEBUG": "1",
        "HF_HUB_VERBOSITY": "debug",
        "LLM4SEG_DEBUG": "1",
    }
    return kept | own | more


def command(*arguments):
    return [sys.executable, "-m", "napari_llm4seg.cli", "models", *arguments]


def test_a_gated_layer_by_environment(hub, tmp_path) -> None:
    config = config_like("llama-3.2-1b", layers=16)
    hub.repos["meta-llama/Llama-3.2-1B"] = Repo.of(safetensors_files(config), gated=True)
    hub.accepted = {TOKEN}
    said = []

    def run(**more):
        done = subprocess.run(
            command("fetch", "llama-3.2-1b", "--json"),
            env=environment(hub, tmp_path, **more), capture_output=True, text=True, check=False,
        )  # fmt: skip
        said.extend((done.stdout, done.stderr))
        return done

    refused = run()
    assert refused.returncode == 1
    assert "https://huggingface.co/meta-llama/Llama-3.2-1B" in json.loads(refused.stdout)["error"]
    done = run(HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["layers"]
    assert tensors_digest(read_pack(Path(row["path"])).tensors) == tensors_digest(layer_of(config, 14))
    hub.forget()
    offline = run(HF_HUB_OFFLINE="1")
    assert json.loads(offline.stdout)["layers"][0]["sha256"] == row["sha256"]
    assert not hub.log
    # with every library's debugging on, the token is neither said nor kept
    assert not any(TOKEN in text for text in said)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="sends an interrupt")
def test_an_interrupt_keeps_what_came(hub, tmp_path) -> None:
    hub.repos["org/model"] = Repo.of(safetensors_files(QWEN))
    hub.pause = 0.5  # seconds between pieces of 64 KiB: a busy machine looks late
    env = environment(hub, tmp_path, LLM4SEG_DEBUG="0", HF_DEBUG="0", HF_HUB_VERBOSITY="error")
    partial = tmp_path / "own-cache" / "partial"
    with subprocess.Popen(
        command("fetch", "hf:org/model", "--layer", "4"), env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 120
        while sum(path.stat().st_size for path in partial.glob("*safetensors/*-*")) < 200_000:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on from there" in err
    assert "Traceback" not in err
    kept = sum(path.stat().st_size for path in partial.glob("*safetensors/*-*"))
    hub.pause = 0.0
    hub.forget()
    subprocess.run(command("fetch", "hf:org/model", "--layer", "4"), env=env, check=True, capture_output=True)
    assert hub.sent < sum(t.nbytes for t in layer_of(QWEN, 4).values()) + 70_000 - kept
