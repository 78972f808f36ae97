"""Settings of their own and the fakes for every GUI test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def _load(file):
    name = f"llm4seg_gui_{file}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{file}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def fakes():
    """The module ``fakes.py``; tests are no package, so it cannot be imported by name."""
    return _load("fakes")


@pytest.fixture(scope="session")
def correct_bench():
    """The module ``correct_bench.py``."""
    return _load("correct_bench")


@pytest.fixture(autouse=True)
def _own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM4SEG_SETTINGS", str(tmp_path / "llm4seg-settings.json"))
    monkeypatch.setenv("LLM4SEG_PROJECTS", str(tmp_path / "llm4seg-projects"))
