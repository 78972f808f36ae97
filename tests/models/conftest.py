"""Fixtures of the model tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_llm4seg.assets import asset
from napari_llm4seg.models.gguf import layer_from_gguf
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import read_pack

pytest.register_assert_rewrite("tests.models.base")


@pytest.fixture(scope="session")
def smollm2() -> LLMLayer:
    """The real SmolLM2 layer that is shipped."""
    return read_pack(asset("layers", "smollm2-135m-instruct-14")).build()


@pytest.fixture(scope="session")
def qwen2(weights_dir: Path) -> LLMLayer:
    """The real Qwen2.5 layer; skips the test where it is not at hand."""
    folder = weights_dir / "qwen2.5-coder-1.5b-instruct"
    config = json.loads((folder / "config.json").read_text())
    return LLMLayer.from_tensors(*layer_from_gguf(folder / "layer27.gguf", 27, config))
