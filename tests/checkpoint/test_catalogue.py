from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from napari_llm4seg.checkpoint import resolve, starters
from napari_llm4seg.errors import CheckpointError
from tests.checkpoint.test_store import fresh, make


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checkpoints"


def test_models_in_the_cache_are_found_by_name(cache: Path) -> None:
    before = {entry.name for entry in starters()}
    fresh(make(name="Liver, version 3", modality="CT")).save(cache / "liver-v3")
    (cache / "broken").mkdir()
    (cache / "broken" / "config.json").write_text("{")
    found = {entry.name: entry for entry in starters()}
    assert set(found) == before | {"liver-v3"}
    assert found["liver-v3"].card.modality == "CT"
    assert resolve("liver-v3") == cache / "liver-v3"


def test_paths_resolve_to_themselves(cache: Path, tmp_path: Path) -> None:
    file = fresh().save(tmp_path / "a.safetensors")
    assert resolve(file) == file
    assert resolve(str(file)) == file


@pytest.mark.parametrize("name", ["nothing", "", "x" * 5000, "a\0b", "a\nb"])
def test_an_unknown_name_lists_the_known_ones(cache: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh().save(cache / "liver-v3")
    if not name:
        monkeypatch.chdir(cache)
    with pytest.raises(CheckpointError, match="liver-v3") as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hf:", "hf:../..", "hf:org/does-not-exist", "hf:a b"])
def test_the_hub_answers_in_one_line(cache: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="could not be fetched") as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_listing_waits_for_no_torch() -> None:
    code = "import sys, napari_llm4seg.checkpoint as c; c.starters(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
