"""Overlap and distance between a predicted and a true structure."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[Any]


def _pair(pred: Mask, truth: Mask) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    pred, truth = np.asarray(pred).astype(bool), np.asarray(truth).astype(bool)
    if pred.shape != truth.shape:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} differ in shape")
    return pred, truth


def iou(pred: Mask, truth: Mask) -> float:
    """Return intersection over union, in [0, 1]; 1 where both are empty.

    Parameters
    ----------
    pred, truth : array of any equal shape, boolean or 0/non-0
    """
    pred, truth = _pair(pred, truth)
    union = int(np.count_nonzero(pred | truth))
    return 1.0 if union == 0 else int(np.count_nonzero(pred & truth)) / union


def dice(pred: Mask, truth: Mask) -> float:
    """Return the Dice coefficient, in [0, 1]; 1 where both are empty.

    Parameters
    ----------
    pred, truth : array of any equal shape, boolean or 0/non-0
    """
    pred, truth = _pair(pred, truth)
    total = int(np.count_nonzero(pred)) + int(np.count_nonzero(truth))
    return 1.0 if total == 0 else 2 * int(np.count_nonzero(pred & truth)) / total


def diagonal(shape: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    """Return the distance between opposite corner voxels of a grid, in the unit of ``spacing``."""
    return math.hypot(*((size - 1) * step for size, step in zip(shape, spacing, strict=True)))


def hd95(pred: Mask, truth: Mask, spacing: tuple[float, ...]) -> float:
    """Return the 95th percentile Hausdorff distance between the structures' surfaces, as MONAI computes it.

    Parameters
    ----------
    pred, truth : array (Y, X) or (Z, Y, X), boolean or 0/non-0
    spacing : tuple of float
        Distance between pixels along each axis; the result is in its unit.

    Returns
    -------
    float
        0 where both are empty. Where exactly one is, no distance exists and the grid's diagonal, the largest
        possible one, stands in (as the BraTS challenge does), so that missing a lesion never improves a mean.
    """
    pred, truth = _pair(pred, truth)
    if not pred.any() and not truth.any():
        return 0.0
    if not pred.any() or not truth.any():
        return diagonal(pred.shape, spacing)
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    batches = [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (pred, truth)]
    with warnings.catch_warnings():
        # MONAI calls a deprecated option of its own for every image
        warnings.simplefilter("ignore", FutureWarning)
        distance = compute_hausdorff_distance(
            batches[0], batches[1], include_background=True, percentile=95, spacing=[float(step) for step in spacing]
        )
    return float(distance.item())
