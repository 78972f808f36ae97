"""Checkpoints: what was trained, as safetensors, with everything needed to run it again.

A folder holds ``weights.safetensors``, ``config.json`` (model, preprocessing, prediction, classes, the frozen layer by
repository, revision, index and sha256, the card) and the card as ``README.md``; ``layers/`` may carry frozen layer
packs. A single ``.safetensors`` file holds the same config in its metadata. Nothing here is ever unpickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_llm4seg.lazy import from_home

if TYPE_CHECKING:
    from napari_llm4seg.checkpoint.card import render_card
    from napari_llm4seg.checkpoint.catalogue import StarterEntry, resolve, starters
    from napari_llm4seg.checkpoint.published import import_state_dict
    from napari_llm4seg.checkpoint.store import Checkpoint, expected_shapes

__all__ = [
    "Checkpoint",
    "StarterEntry",
    "expected_shapes",
    "import_state_dict",
    "render_card",
    "resolve",
    "starters",
]

# Loaded when asked for: listing what there is must not wait for torch.
_HOME = {
    "Checkpoint": "store",
    "StarterEntry": "catalogue",
    "expected_shapes": "store",
    "import_state_dict": "published",
    "render_card": "card",
    "resolve": "catalogue",
    "starters": "catalogue",
}


__getattr__ = from_home(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
