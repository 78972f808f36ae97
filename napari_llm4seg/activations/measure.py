"""The published analysis of one image: how well its features meet the structure, and how many directions they use."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.activations.maps import activation_auc, activation_iou, activation_map, grow
from napari_llm4seg.activations.recorder import Activations
from napari_llm4seg.activations.spectrum import spectrum_of

# before and after the block; the same place where there is none
BEFORE, AFTER = "bottleneck", "decoder"

OVERLAPS = ("activation_iou", "matched_iou", "activation_auc")
SPECTRA = (
    "entropy",
    "effective_rank",
    "log_inverse_top_share",
    "entropy_centred",
    "effective_rank_centred",
    "log_inverse_top_share_centred",
)


def measure(activations: Activations, point: str, truth: npt.NDArray[Any]) -> list[dict[str, float]]:
    """Return each image's measures at one point.

    Parameters
    ----------
    activations : Activations
    point : str
        A recorded point at the bottleneck's resolution, as features or as tokens.
    truth : array (B, *image grid), boolean or 0/non-0
        On the grid of the image that the network took.

    Returns
    -------
    list of dict, one for each image
        ``OVERLAPS`` as ``napari_llm4seg.activations.maps`` defines them, left out for an empty mask, and ``SPECTRA`` as
        ``napari_llm4seg.activations.spectrum`` does, as they are and centred.
    """
    maps = grow(activation_map(activations.features(point)), activations.padded_grid, activations.image_grid)
    tokens = activations.tokens(point)
    columns: dict[str, npt.NDArray[np.float64]] = {}
    for ending, centred in (("", False), ("_centred", True)):
        found = spectrum_of(tokens, centred)
        columns[f"entropy{ending}"] = found.entropy
        columns[f"effective_rank{ending}"] = found.effective_rank
        columns[f"log_inverse_top_share{ending}"] = found.log_inverse_top_share
    rows = []
    for i, (values, mask) in enumerate(zip(maps, truth, strict=True)):
        row = {name: float(column[i]) for name, column in columns.items()}
        if mask.any():
            row["activation_iou"] = activation_iou(values, mask)
            row["matched_iou"] = activation_iou(values, mask, "matched")
            row["activation_auc"] = activation_auc(values, mask)
        rows.append(row)
    return rows
