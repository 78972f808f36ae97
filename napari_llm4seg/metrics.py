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


def dice_of_counts(
    hits: npt.ArrayLike,
    said: npt.ArrayLike,
    true: npt.ArrayLike,
    *,
    alone: bool = False,
    weights: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Return the Dice coefficient of several slices together, from their counts of pixels.

    Parameters
    ----------
    hits, said, true : array (n, K)
        Pixels of each of K classes in prediction and truth, in the prediction, and in the truth.
    alone : bool
        False: twice the hits over the sizes, both summed over the slices, then the mean over the classes. True: the
        mean over the slices of their means over the classes, for images that have nothing in common.
    weights : array (R, n), optional
        How often each slice counts, for R resamples; by default each once.

    Returns
    -------
    array (R,), or (1,) without weights
        In [0, 1]. A class that the slices (if ``alone``, the slice) do not truly hold does not count; NaN where they
        hold none.
    """
    hits, said, true = (np.asarray(each, dtype=np.float64) for each in (hits, said, true))
    times = np.ones((1, len(true))) if weights is None else np.asarray(weights, dtype=np.float64)
    if alone:
        each, holds = _mean_over_classes(2 * hits, said + true, true > 0), true.any(axis=1)
        return _ratio(times @ np.where(holds, each, 0), times @ holds.astype(np.float64))
    return _mean_over_classes(2 * (times @ hits), times @ (said + true), times @ true > 0)


def _mean_over_classes(
    over: npt.NDArray[np.float64], under: npt.NDArray[np.float64], held: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the means (m,) of ratios (m, K) over the held classes; NaN where none is held."""
    values = np.divide(over, under, out=np.zeros_like(over), where=held)
    return _ratio(values.sum(axis=1), held.sum(axis=1).astype(np.float64))


def _ratio(over: npt.NDArray[np.float64], under: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)


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
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    with warnings.catch_warnings():
        # MONAI calls a deprecated option of its own for every image
        warnings.simplefilter("ignore", FutureWarning)
        distance = compute_hausdorff_distance(
            _batch(pred),
            _batch(truth),
            include_background=True,
            percentile=95,
            spacing=[float(step) for step in spacing],
        )
    return float(distance.item())


def surface_dice(pred: Mask, truth: Mask, spacing: tuple[float, ...], tolerance: float) -> float:
    """Return which part of both surfaces lies within ``tolerance`` of the other, in [0, 1], as MONAI computes it.

    Surfaces are weighed by their area or length, not by their voxels, which anisotropic ones would distort. Source:
    Nikolov et al., J Med Internet Res 23 (2021) e26151.

    Parameters
    ----------
    pred, truth : array (Y, X) or (Z, Y, X), boolean or 0/non-0
    spacing : tuple of float
        Distance between pixels along each axis.
    tolerance : float
        In the unit of ``spacing``, 0 or more.

    Returns
    -------
    float
        1 where both are empty, 0 where exactly one is.
    """
    pred, truth = _pair(pred, truth)
    if not pred.any() or not truth.any():
        return float(pred.any() == truth.any())
    from monai.metrics.surface_dice import compute_surface_dice

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = compute_surface_dice(
            _batch(pred),
            _batch(truth),
            class_thresholds=[float(tolerance)],
            include_background=True,
            spacing=[float(step) for step in spacing],
            use_subvoxels=True,
        )
    return float(found.item())


def warm_up() -> None:
    """Import what distances need, which takes seconds, before time is measured or a person waits for the first."""
    import monai.metrics.hausdorff_distance
    import monai.metrics.surface_dice  # noqa: F401


def _batch(mask: Mask) -> Any:
    """Return a mask as MONAI takes it: a tensor (1, 1, ...)."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(mask))[None, None]
