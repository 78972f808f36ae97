"""From a config to a network, its frozen layers found: the one place that joins the two."""

from __future__ import annotations

from pathlib import Path

from napari_llm4seg.config import ModelConfig
from napari_llm4seg.models.llm4seg import LLM4SegNet
from napari_llm4seg.models.packs import find_pack


def build_network(config: ModelConfig, near: Path | None = None) -> LLM4SegNet:
    """Return a fresh network with its frozen layers.

    Parameters
    ----------
    config : ModelConfig
    near : Path, optional
        A checkpoint's folder, whose own ``layers/`` are looked at first.

    Raises
    ------
    CheckpointError
        If a frozen layer is not at hand with the repository, revision, index and sha256 the config names.
    ConfigError
        If a layer does not fit the config.
    """
    block = config.block
    layers = [find_pack(ref, near).build(block.frozen) for ref in block.layers] if block else []
    return LLM4SegNet(config, layers)
