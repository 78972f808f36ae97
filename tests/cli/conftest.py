"""A small model in a cache of its own, small scans, and the command line run inside the test's process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_llm4seg.cli.app import run
from tests.cli.helpers import save_model


@dataclass
class Answer:
    """What one command line gave."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object, which must be all there is on standard output."""
        lines = self.out.strip().splitlines()
        assert len(lines) == 1
        return json.loads(lines[0])


@pytest.fixture
def llm4seg(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Return a function that runs a command line and gives its answer."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Answer(status, out, err)

    return call


@pytest.fixture
def everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a cached model that says "lesion" everywhere, with probability 0.88."""
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))
    save_model(tmp_path / "cache" / "checkpoints" / "everywhere", "Everywhere", 2.0)
    return "everywhere"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An 8-bit grey image of 40 x 30 pixels."""
    path = tmp_path / "scans" / "scan.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40), dtype=np.uint8)).save(path)
    return path
