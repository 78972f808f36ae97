"""LLM4Seg in napari: segment medical images with a CNN that carries one frozen language-model layer.

Importing the package costs nothing: torch, Qt and the readers are loaded by the names that need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_llm4seg.lazy import from_home

if TYPE_CHECKING:
    from napari_llm4seg.activations import inspect_slice
    from napari_llm4seg.checkpoint import Checkpoint
    from napari_llm4seg.io import read, write
    from napari_llm4seg.predict import Predictor, load_model
    from napari_llm4seg.volume import Prediction, Volume

__version__ = "0.1.0"
__all__ = [
    "Checkpoint",
    "Prediction",
    "Predictor",
    "Volume",
    "__version__",
    "inspect_slice",
    "load_model",
    "read",
    "write",
]

_HOME = {
    "Checkpoint": "checkpoint",
    "Prediction": "volume",
    "Predictor": "predict",
    "Volume": "volume",
    "inspect_slice": "activations",
    "load_model": "predict",
    "read": "io",
    "write": "io",
}


__getattr__ = from_home(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
