"""What a network holds inside while it segments: recorded from the very same forward, measured, mapped on the scan.

``inspection`` records one slice and is where to begin; ``points`` names the places, ``recorder`` reads them, ``proof``
shows that they are the forward's; ``attention``, ``features``, ``spectrum`` and ``maps`` measure what was read,
``interventions`` and ``faithfulness`` run the slice again with something changed, ``export`` writes it all down.

>>> seen = inspect_slice(model, volume, z=40)
>>> token = seen.token_at(128, 200)
>>> where = seen.volume(seen.attention(token))   # lies on the scan in the world
>>> switch_off(seen).dice
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_llm4seg.lazy import from_home

if TYPE_CHECKING:
    from napari_llm4seg.activations.attention import TokenMap
    from napari_llm4seg.activations.export import Export
    from napari_llm4seg.activations.faithfulness import Faithfulness
    from napari_llm4seg.activations.gradcam import grad_cam
    from napari_llm4seg.activations.inspection import Answer, Inspection, inspect_slice
    from napari_llm4seg.activations.interventions import (
        Effect,
        block_tokens,
        heads_table,
        knock_out,
        randomise,
        swap,
        swappable,
        switch_off,
    )
    from napari_llm4seg.activations.maps import activation_auc, activation_iou, activation_map, grow
    from napari_llm4seg.activations.place import TokenGrid
    from napari_llm4seg.activations.points import inner_points_of, points_of
    from napari_llm4seg.activations.proof import Proof, prove, prove_layer
    from napari_llm4seg.activations.recorder import ActivationRecorder, Activations
    from napari_llm4seg.activations.spectra import across_versions, along_stack
    from napari_llm4seg.activations.spectrum import Spectrum, spectrum_of

__all__ = [
    "ActivationRecorder",
    "Activations",
    "Answer",
    "Effect",
    "Export",
    "Faithfulness",
    "Inspection",
    "Proof",
    "Spectrum",
    "TokenGrid",
    "TokenMap",
    "across_versions",
    "activation_auc",
    "activation_iou",
    "activation_map",
    "along_stack",
    "block_tokens",
    "grad_cam",
    "grow",
    "heads_table",
    "inner_points_of",
    "inspect_slice",
    "knock_out",
    "points_of",
    "prove",
    "prove_layer",
    "randomise",
    "spectrum_of",
    "swap",
    "swappable",
    "switch_off",
]

# Loaded when asked for, as everything that needs torch.
_HOME = {
    "ActivationRecorder": "recorder",
    "Activations": "recorder",
    "Answer": "inspection",
    "Effect": "interventions",
    "Export": "export",
    "Faithfulness": "faithfulness",
    "Inspection": "inspection",
    "Proof": "proof",
    "Spectrum": "spectrum",
    "TokenGrid": "place",
    "TokenMap": "attention",
    "across_versions": "spectra",
    "activation_auc": "maps",
    "activation_iou": "maps",
    "activation_map": "maps",
    "along_stack": "spectra",
    "block_tokens": "interventions",
    "grad_cam": "gradcam",
    "grow": "maps",
    "heads_table": "interventions",
    "inner_points_of": "points",
    "inspect_slice": "inspection",
    "knock_out": "interventions",
    "points_of": "points",
    "prove": "proof",
    "prove_layer": "proof",
    "randomise": "interventions",
    "spectrum_of": "spectrum",
    "swap": "interventions",
    "swappable": "interventions",
    "switch_off": "interventions",
}


__getattr__ = from_home(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
