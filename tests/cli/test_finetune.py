"""``llm4seg finetune``: from a project or folders to a new checkpoint, the old one untouched, worse ones warned of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.cli.finetune import class_doubts
from napari_llm4seg.config import BackboneConfig, Card, CheckpointConfig, ModelConfig, PreprocessConfig
from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.engine import finetune as engine
from napari_llm4seg.engine.corrections import Correction, Corrections
from napari_llm4seg.engine.scores import Score
from napari_llm4seg.engine.scratch import classes_of
from napari_llm4seg.metrics import dice
from napari_llm4seg.models.build import build_network
from napari_llm4seg.predict import Predictor
from napari_llm4seg.volume import Volume
from tests.cli.helpers import write_discs

QUICK = ("--epochs", "1", "--device", "cpu")


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    write_discs(tmp_path / "discs", lambda y, x, i: (y - 16) ** 2 + (x - 8 - i) ** 2 < 40)
    return tmp_path / "discs"


def cube() -> tuple[Volume, np.ndarray]:
    """Return a scan of a bright bar in noise, and its mask."""
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 32, 32), np.uint8)
    mask[:, 8:20, 8:20] = 1
    return Volume((rng.uniform(0, 90, mask.shape) + 120 * mask).astype(np.uint8)[None], name="scan"), mask


@pytest.fixture
def project(tmp_path: Path) -> Path:
    scan, mask = cube()
    with SampleStore.open(tmp_path / "project", create=True) as store:
        entry = store.scan_for(scan)
        for z in (0, 4, 8, 12, 16):
            store.put(entry, z, 0, scan.slice_at(z), mask[z], "edited")
    return tmp_path / "project"


def test_a_project_gives_a_checkpoint_and_locks_what_judges_it(llm4seg, everywhere, project, tmp_path) -> None:
    arguments = ("finetune", "--model", everywhere, "--samples", project, "--parts", "adapters+decoder", *QUICK)
    answer = llm4seg(*arguments, "-o", tmp_path / "new", "--json")
    assert answer.status == 0, answer.err
    found = answer.json
    new = Checkpoint.load(tmp_path / "new")
    assert (new.digest, new.name) == (found["digest"], "new")
    assert found["parent"]["name"] == "Everywhere"
    assert (found["n_train"], found["n_held_back"]) == (4, 1)
    assert found["gate"]["dice_before"] == pytest.approx(2 * 144 / (144 + 1024))
    assert found["worse"] is found["gate"]["worse"]
    with SampleStore.open(project, read_only=True) as store:
        held = store.held_back
    assert held == {each["sha256"] for each in new.config.card.training["held_back"]}
    text = llm4seg(*arguments, "-o", tmp_path / "newer").out
    assert "held-back Dice" in text
    again = Checkpoint.load(tmp_path / "newer").config.card.training["held_back"]
    assert {each["sha256"] for each in again} == held


def test_a_cross_check_judges_every_slice_and_is_refused_before_anything_is_trained(
    llm4seg, everywhere, project, tmp_path
) -> None:
    arguments = ("finetune", "--model", everywhere, "--samples", project, *QUICK, "--cross-check")
    answer = llm4seg(*arguments, "-o", tmp_path / "new", "--json")
    assert answer.status == 0, answer.err
    assert answer.json["cross_check"]["n"] == 5
    assert "cross-check 3 of 3" in answer.err
    assert "cross-check, 5 slices" in llm4seg(*arguments, "-o", tmp_path / "again").out
    known = ("finetune", "--model", tmp_path / "new", *arguments[3:])
    answer = llm4seg(*known, "-o", tmp_path / "no")
    assert answer.status == 1
    assert "needs 4 corrected slices that the model has not learnt from; there are 1" in answer.err
    assert not (tmp_path / "no").exists()


def test_a_volume_with_five_corrected_slices_teaches_a_network_of_volumes(llm4seg, project, tmp_path) -> None:
    torch.manual_seed(0)
    backbone = BackboneConfig(kind="unet", spatial_dims=3, in_channels=1, widths=(4, 8))
    model = ModelConfig(backbone=backbone, block=None)
    preprocess = PreprocessConfig(patch=(8, 16, 16), mean=(0.4,), sd=(0.3,), channels="grey")
    config = CheckpointConfig(model=model, preprocess=preprocess, card=Card(name="cube"))
    Checkpoint(config, dict(build_network(model).trained_tensors())).save(tmp_path / "start")
    arguments = ("finetune", "--model", tmp_path / "start", "--samples", project, "--parts", "all", "--epochs", "80")
    refused = llm4seg(*arguments, "--device", "cpu", "-o", tmp_path / "new")
    assert refused.status == 1
    assert len(refused.err.strip().splitlines()[-1]) > 20
    assert not (tmp_path / "new").exists()
    with SampleStore.open(project) as store:
        store.put_scan(cube()[0])
        (entry,) = store.scans()
        scribble = np.zeros((32, 32), bool)
        scribble[4:24, 4:24] = True
        store.put(entry, 8, 0, cube()[0].slice_at(8), cube()[1][8], "edited", annotated=scribble)
    answer = llm4seg(*arguments, "--device", "cpu", "-o", tmp_path / "new", "--json")
    assert answer.status == 0, answer.err
    assert (answer.json["n_train"], answer.json["n_held_back"]) == (4, 1)
    assert answer.json["gate"]["dice_after"] > answer.json["gate"]["dice_before"] + 0.2
    new = Predictor(Checkpoint.load(tmp_path / "new"), "cpu")
    found = new.predict(cube()[0]).labels
    assert dice(found[[2, 6, 10, 14]] == 1, cube()[1][[2, 6, 10, 14]] == 1) > 0.5, "slices that nobody corrected"


def test_a_project_open_elsewhere_is_read(llm4seg, everywhere, project, tmp_path) -> None:
    with SampleStore.open(project):
        answer = llm4seg("finetune", "--model", everywhere, "--samples", project, *QUICK, "-o", tmp_path / "new")
    assert answer.status == 0
    assert "cannot note which slices are held back" in answer.err


def test_worse_is_warned_of_and_still_written(llm4seg, everywhere, discs, tmp_path, monkeypatch) -> None:
    judged = iter([0.9, 0.8])

    def judge(predictor, held, cancel=None):
        hits = round(1000 * next(judged))
        return [Score(each.name, (hits,), (1000,), (1000,), (1.0,)) for each in held.slices], []

    monkeypatch.setattr(engine, "judge", judge)
    answer = llm4seg(
        "finetune", "--model", everywhere, "--samples", discs, *QUICK, "-o", tmp_path / "new", "--json",
        "--hold-back", "0.3",
    )  # fmt: skip
    assert answer.status == 0
    assert answer.json["worse"] is True
    assert "Warning: Perhaps worse" in answer.err or "Warning: Worse" in answer.err
    assert "held-back Dice 0.900 -> 0.800" in answer.err
    assert Checkpoint.load(tmp_path / "new").config.card.scores["dice_after"] == 0.8


def test_a_new_model_from_named_classes(llm4seg, discs, tmp_path) -> None:
    answer = llm4seg(
        "finetune", "--from-scratch", "--classes", "disc", "--samples", discs, *QUICK, "-o", tmp_path / "new", "--json"
    )
    assert answer.status == 0, answer.err
    new = Checkpoint.load(tmp_path / "new")
    assert [(spec.value, spec.name) for spec in new.config.model.classes] == [(1, "disc")]
    assert answer.json["parent"] is None
    assert new.config.model.block is not None
    assert answer.json["new"]["words"] == "small CMUNeXt with frozen layer 14 of smollm2-135m"
    assert new.build() is not None


def test_a_new_model_is_made_of_what_was_asked_for(llm4seg, discs, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))
    asked = ("--from-scratch", "--classes", "disc", "--samples", discs, *QUICK, "--size", "tiny", "--backbone", "unet")
    answer = llm4seg("finetune", *asked, "--layer", "random", "-o", tmp_path / "new")
    assert answer.status == 0, answer.err
    assert "new, a new tiny U-Net with a frozen random layer" in answer.out
    model = Checkpoint.load(tmp_path / "new").config.model
    assert (model.backbone.kind, model.backbone.widths) == ("unet", (4, 8, 16, 32, 64))
    assert model.block.layers[0].repository == "random/smollm2-135m"
    answer = llm4seg("finetune", *asked, "--layer", "smolm", "-o", tmp_path / "newer")
    assert (answer.status, "There is no frozen layer 'smolm'" in answer.err) == (1, True), answer.err
    assert not (tmp_path / "newer").exists()


def test_wrong_use_is_one_line(llm4seg, everywhere, discs, project, tmp_path) -> None:
    basic = ("finetune", "--samples", discs, "-o", tmp_path / "new")
    for more, words in (
        (("--parts", "head"), "choose from adapters"),
        (("--from-scratch", "--model", everywhere), "leave --model out"),
        (("--from-scratch", "--parts", "adapters"), "leave --parts out"),
        (("--classes", "a"), "give --from-scratch too"),
        (("--from-scratch",), "needs --classes"),
        (("--size", "base"), "--size is for a new model; give --from-scratch too"),
        (("--layer", "none"), "--layer is for a new model"),
        (("--from-scratch", "--size", "huge"), "--size huge: choose from tiny, small, base"),
        (("--from-scratch", "--backbone", "vit"), "--backbone vit: choose from cmunext, unet"),
    ):
        answer = llm4seg(*basic, *more)
        assert (answer.status, words in answer.err) == (2, True), answer.err
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten_and_bad_samples_are_said(llm4seg, everywhere, discs, tmp_path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    answer = llm4seg("finetune", "--model", everywhere, "--samples", discs, "-o", taken)
    assert (answer.status, "choose a new folder" in answer.err) == (1, True)
    answer = llm4seg("finetune", "--model", everywhere, "--samples", taken, "-o", tmp_path / "new")
    assert (answer.status, "has no images/ and masks/ either" in answer.err) == (1, True)
    nowhere = taken / "notes.txt" / "new"
    answer = llm4seg("finetune", "--model", everywhere, "--samples", discs, *QUICK, "-o", nowhere)
    assert (answer.status, "cannot be written" in answer.err, "train" in answer.err) == (1, True, False), answer.err
    answer = llm4seg("finetune", "--model", everywhere, "--parts", "adapters", "--samples", discs, *QUICK, "-o", "new")
    assert (answer.status, "no adapters to train" in answer.err) == (1, True)
    for path in (discs / "masks").iterdir():
        Image.fromarray(np.full((16, 16), 255, np.uint8)).save(path)
    answer = llm4seg("finetune", "--model", everywhere, "--samples", discs, *QUICK, "-o", tmp_path / "new")
    assert answer.status == 1
    assert len(answer.err.strip().splitlines()) == 1


def test_a_new_models_classes_that_may_not_be_meant_are_told_before_it_is_trained() -> None:
    def annotated(*values: int) -> Corrections:
        image, labels = np.zeros((1, 1, 5), np.uint8), np.zeros((1, 5), np.uint8)
        labels[0, : len(values) + 1] = 255, *values
        return Corrections((Correction(image, labels, "a"),))

    liver, both = classes_of(["liver"]), classes_of(["liver", "spleen"])
    assert class_doubts(liver, liver, annotated(1)) == []
    assert class_doubts(both, (), annotated(1, 2)) == []
    assert class_doubts(classes_of(["livr"]), liver, annotated(1)) == [
        "the project calls label 1 liver, the model livr."
    ]
    assert class_doubts(liver, both, annotated(1, 2, 3)) == ["labels 1, 2 and 3 all count as liver, the only class."]
    for named, words in ((liver, "liver"), (both, "liver or spleen")):
        assert class_doubts(named, (), annotated()) == [
            f"no corrected slice holds {words}, which cannot be learnt from them."
        ]
    assert "holds spleen," in class_doubts(both, both, annotated(1))[0]
