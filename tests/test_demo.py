"""``make run``: without a screen the same job runs headless and says where its results lie."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_llm4seg import demo
from napari_llm4seg.cli.predictor import DEFAULT_MODEL
from napari_llm4seg.io import read
from tests.cli.helpers import save_model


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default model, whatever is shipped: one that says "lesion" everywhere."""
    path = save_model(tmp_path / "model", DEFAULT_MODEL, 2.0)
    monkeypatch.setattr("napari_llm4seg.cli.predictor.default_model", lambda: str(path))
    return path


def results(out: str) -> tuple[Path, Path]:
    """The two paths that were printed."""
    named = dict(text.split(":", 1) for text in out.strip().splitlines())
    return Path(named["Mask"].strip()), Path(named["Overlay picture"].strip())


def test_a_scan_of_ones_own(no_screen, model, tmp_path, capsys) -> None:
    scan = tmp_path / "my scan.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40), dtype=np.uint8)).save(scan)
    assert demo.main([str(scan), "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "no screen" in err
    mask, picture = results(out)
    assert mask.parent == tmp_path / "out"
    assert (np.asarray(Image.open(mask)) == 3).all()
    assert Image.open(picture).size == (40, 30)


def test_the_sample(no_screen, model, tmp_path, capsys) -> None:
    assert demo.main(["-o", str(tmp_path / "out")]) == 0
    mask, picture = results(capsys.readouterr().out)
    assert read(mask).grid == (1, 470, 560)
    assert Image.open(picture).size == (560, 470)


def test_a_scan_that_is_not_there(no_screen, tmp_path, capsys) -> None:
    assert demo.main([str(tmp_path / "none.png")]) == 1
    err = capsys.readouterr().err.strip()
    assert "none.png" in err
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="displays are named on Linux")
@pytest.mark.gui
def test_a_display_that_is_named_but_not_there(monkeypatch) -> None:
    assert demo.has_screen()
    monkeypatch.setenv("DISPLAY", ":9731")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    assert not demo.has_screen()


def test_no_display_is_no_screen(no_screen) -> None:
    assert not demo.has_screen()
