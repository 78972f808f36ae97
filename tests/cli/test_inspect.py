"""``llm4seg inspect``: everything headless, and one line where it cannot."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import BackboneConfig, BlockConfig, Card, CheckpointConfig, ModelConfig, PreprocessConfig
from napari_llm4seg.io import read, write
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import write_pack
from napari_llm4seg.volume import Volume
from tests.models.base import LANGUAGE_MODEL, SPEC, lively


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model with one made layer beside it; about half of a noisy image is its structure."""
    folder = tmp_path / "model"
    pack = write_pack(
        folder / "layers" / "made",
        LLMLayer.random(SPEC, 7).state_dict(),
        LANGUAGE_MODEL,
        repository="made/layer",
        revision="1",
        index=2,
    )
    backbone = BackboneConfig(kind="cmunext", widths=(4, 8, 16), depths=(1, 1, 1), kernels=(3, 3, 3))
    config = ModelConfig(backbone=backbone, block=BlockConfig(layers=(pack.ref,), hidden=SPEC.hidden))
    torch.manual_seed(0)
    net = lively(LLM4SegNet(config, [pack.build()]), torch.rand(2, 1, 32, 32))
    whole = CheckpointConfig(model=config, preprocess=PreprocessConfig(size=(32, 32)), card=Card(name="made"))
    return Checkpoint(whole, net.trained_tensors(), folder).save(tmp_path / "saved")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 255, (1, 3, 30, 40)).astype(np.int16)
    affine = np.diag([3.0, 0.5, 0.7, 1.0])
    affine[:3, 3] = (10, -20, 30)
    return write(tmp_path / "stack.nii.gz", Volume(values, affine, unit="mm"))


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_everything_of_a_slice(llm4seg: Callable[..., Any], model: Path, stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = [
        "--what-if",
        "off",
        "--what-if",
        "random:3",
        "--what-if",
        "head:1",
        "--what-if",
        "block:0,0,9,9",
        "--heads",
        "--stack",
    ]
    more = ["--version-of", model, "--faithfulness", "2", "--figures", "both"]
    answer = llm4seg(
        "inspect", stack, "--model", model, "--slice", 1, "--token", "12,30", "-o", out, "--json", *asked, *more
    )
    assert answer.status == 0, answer.err
    report = answer.json
    assert report["proof"]["ok"] is True
    assert report["proof"]["relative"] < 1e-5
    assert (report["slice"], report["tokens"]) == (1, [8, 8])
    assert json.loads((out / "inspection.json").read_text())["token"] == report["token"]
    for path in report["files"].values():
        assert Path(path).stat().st_size > 0
    shown, scan = read(report["files"]["attention_from"]), read(stack)
    assert shown.grid == (1, 8, 8)
    assert float(shown.data.sum()) == pytest.approx(1, abs=1e-4)
    cell = np.asarray([3.75 / 2 - 0.5, 5 / 2 - 0.5])  # 30 x 40 pixels on 8 x 8 tokens
    np.testing.assert_allclose(shown.affine @ [0, 0, 0, 1], scan.affine @ [1, *cell, 1], atol=1e-4)
    assert report["token"]["number"] == 3 * 8 + 6
    assert [row["change"] for row in report["what_if"]] == [
        "layer off (adapters only)",
        "random layer (seed 3)",
        "without head 1",
        "6 token(s) blocked",  # three rows of two
    ]
    assert len(report["heads"]) == SPEC.heads
    assert len(rows(report["files"]["tokens table"])) == 64
    assert {row["slice"] for row in report["spectrum_stack"]["rows"]} == {0, 1, 2}
    assert report["spectrum_versions"]["formulas"]["effective_rank"].startswith("exp")
    assert set(report["faithfulness"]) == {"attention", "activation", "grad_cam"}
    assert read(report["files"]["difference_without_head_1"]).kind == "label"


def test_a_picture_needs_nothing_but_its_name(llm4seg: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40), dtype=np.uint8)).save(scan)
    answer = llm4seg("inspect", scan, "--model", model, "-o", tmp_path / "out", "--figures", "none")
    assert answer.status == 0
    assert "Same forward" in answer.out
    assert "Strongest at" in answer.out
    assert not list((tmp_path / "out").glob("*.png"))
    shown = read(tmp_path / "out" / "attention_to.tif")
    assert shown.spacing == pytest.approx((1, 3.75, 5))


def test_a_model_without_a_layer_has_no_attention(
    llm4seg: Callable[..., Any], everywhere: str, scan: Path, tmp_path: Path
) -> None:
    answer = llm4seg("inspect", scan, "--model", everywhere, "-o", tmp_path / "out", "--json")
    assert answer.status == 0, answer.err
    assert "no language-model layer" in answer.err
    assert "attention" not in answer.json
    assert answer.json["spectrum"]["rows"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--token", "3"], "Y,X"),
        (["--figures", "bmp"], "png, svg, both or none"),
        (["--what-if", "on"], "off, random"),
        (["--what-if", "head:x"], "head:K"),
        (["--what-if", "block:1,2"], "block:Y,X,Y,X"),
        (["--head", "some"], "mean, max"),
        (["--faithfulness", "0"], "at least 1"),
    ],
)
def test_wrong_use_is_said_before_anything_runs(
    llm4seg: Callable[..., Any], scan: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    answer = llm4seg("inspect", scan, "--model", "nothing", "-o", tmp_path / "out", *arguments)
    assert answer.status == 2
    assert words in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--slice", "3"], "slices 0 to 2"),
        (["--token", "50,3"], "30 x 40"),
        (["--head", "9"], "no head"),
        (["--layer", "2"], "no layer 2"),
        (["--what-if", "block:50,50,60,60"], "holds no token"),
        (["--what-if", "layer:smollm2-135m:14"], "does not fit"),
    ],
)
def test_what_is_not_there_is_one_line(
    llm4seg: Callable[..., Any], model: Path, stack: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    answer = llm4seg("inspect", stack, "--model", model, "-o", tmp_path / "out", "--figures", "none", *arguments)
    assert answer.status == 1
    assert words in answer.err
