"""A training child that is killed at any moment loses no correction and leaves no half checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .made_project import make_checkpoint, make_project, settings


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model")
    make_project(tmp_path / "project")
    (tmp_path / "config.json").write_text(json.dumps(settings(epochs=3)))
    script = Path(__file__).with_name("killed_trainers.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "50"], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert len(report["last"]) == 50
    # the kills met different moments: within the training and after it
    assert len(set(report["last"])) >= 3, report
    assert 0 < report["whole"] < 50, report
