"""``llm4seg models``: list, describe, fetch, import."""

from __future__ import annotations

import pytest
import torch

from napari_llm4seg.checkpoint import Checkpoint
from tests.cli.helpers import save_model
from tests.models.hub_server import Hub, Repo, use_real_client


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


def test_what_the_hub_refuses_is_one_line(llm4seg, hub, tmp_path) -> None:
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
    answer = llm4seg("segment", tmp_path, "-o", tmp_path / "out", "--model", "hf:someone/kidney")
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
