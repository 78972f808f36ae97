"""What all tests share: where the real data lies, what is skipped where, and settings of their own."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# napari reads this when its settings are first imported, which a fixture would come too late for.
_settings = tempfile.TemporaryDirectory(prefix="llm4seg-settings-", ignore_cleanup_errors=True)
os.environ["NAPARI_CONFIG"] = str(Path(_settings.name) / "settings.yaml")
os.environ["XDG_CONFIG_HOME"] = _settings.name
# A test that reached for the network would pass or fail with the weather.
os.environ["HF_HUB_OFFLINE"] = "1"


def _outside(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / default)
    if not folder.is_dir():
        pytest.skip(f"{variable} is not set and {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the real scans (``LLM4SEG_DATA``); skips the test where there is none."""
    return _outside("LLM4SEG_DATA", "data")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Folder with the pre-trained layers (``LLM4SEG_WEIGHTS``); skips the test where there is none."""
    return _outside("LLM4SEG_WEIGHTS", "weights")


def _has_screen() -> bool:
    if sys.platform != "linux" or os.environ.get("QT_QPA_PLATFORM"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


# Before the fixtures, because Qt ends the whole process when there is no screen.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    needs_qt = {"qtbot", "qapp", "make_napari_viewer"} & set(getattr(item, "fixturenames", ()))
    if (item.get_closest_marker("gui") or needs_qt) and not _has_screen():
        pytest.skip("no screen: set DISPLAY or use `make test`, which starts Xvfb")
    if item.get_closest_marker("gpu") and not _has_cuda():
        pytest.skip("no CUDA device")
