"""What a network holds inside while it segments: recorded from the very same forward, measured, mapped on the scan.

``points`` names the places, ``recorder`` reads them, ``spectrum`` and ``maps`` measure what was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_llm4seg.lazy import from_home

if TYPE_CHECKING:
    from napari_llm4seg.activations.attention import TokenMap
    from napari_llm4seg.activations.inspection import Answer, Inspection, inspect_slice
    from napari_llm4seg.activations.maps import activation_auc, activation_iou, activation_map, grow
    from napari_llm4seg.activations.place import TokenGrid
    from napari_llm4seg.activations.points import inner_points_of, points_of
    from napari_llm4seg.activations.proof import Proof, prove, prove_layer
    from napari_llm4seg.activations.recorder import ActivationRecorder, Activations
    from napari_llm4seg.activations.spectrum import Spectrum, spectrum_of

__all__ = [
    "ActivationRecorder",
    "Activations",
    "Answer",
    "Inspection",
    "Proof",
    "Spectrum",
    "TokenGrid",
    "TokenMap",
    "activation_auc",
    "activation_iou",
    "activation_map",
    "grow",
    "inner_points_of",
    "inspect_slice",
    "points_of",
    "prove",
    "prove_layer",
    "spectrum_of",
]

# Loaded when asked for, as everything that needs torch.
_HOME = {
    "ActivationRecorder": "recorder",
    "Activations": "recorder",
    "Answer": "inspection",
    "Inspection": "inspection",
    "Proof": "proof",
    "Spectrum": "spectrum",
    "TokenGrid": "place",
    "TokenMap": "attention",
    "activation_auc": "maps",
    "activation_iou": "maps",
    "activation_map": "maps",
    "grow": "maps",
    "inner_points_of": "points",
    "inspect_slice": "inspection",
    "points_of": "points",
    "prove": "proof",
    "prove_layer": "proof",
    "spectrum_of": "spectrum",
}


__getattr__ = from_home(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
