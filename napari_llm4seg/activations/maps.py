"""Where features are strong, as a map on the image, and how well that meets a structure.

arXiv 2506.18034 reports an "activation IoU" before and after its block (BUSI 26.4 -> 45.2) without saying how a map is
made of C channels or where it is cut. The formulas here:

- activation map     A(cell) = mean over channels of |feature|, at the bottleneck's cells
- on the image       A grown linearly (bi- or trilinear, cell centres aligned) to the padded image, then cropped
- activation IoU     IoU of {A >= (min A + max A) / 2}, half of the map's own range, with the mask
- matched IoU        the same with the map cut so that as many pixels are inside as the mask has
- activation AUC     probability that a random pixel of the structure has a larger A than a random one outside, ties
                     counting half (area under the ROC curve): needs no cut at all. Below 0.5 the structure is weak
                     rather than strong in the map, which an IoU cannot tell from being unrelated.

So differences between points and between networks are comparable here; the published figures are not comparable
with them beyond their direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from napari_llm4seg.errors import InputError
from napari_llm4seg.metrics import iou

Float = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def activation_map(features: Tensor) -> Tensor:
    """Return the mean over channels of the absolute features.

    Parameters
    ----------
    features : tensor (B, C, *grid)

    Returns
    -------
    tensor (B, *grid), float32, at least 0
    """
    return features.detach().float().abs().mean(dim=1)


def grow(maps: Tensor, padded_grid: Sequence[int], image_grid: Sequence[int]) -> Float:
    """Return maps on the image's own pixels.

    Parameters
    ----------
    maps : tensor (B, *grid), 2-D or 3-D
        One value for each cell of a grid that covers the padded image evenly.
    padded_grid, image_grid
        As ``Activations`` has them; padding lies behind the image along every axis.

    Returns
    -------
    array (B, *image_grid), float32
    """
    mode = {2: "bilinear", 3: "trilinear"}.get(maps.ndim - 1)
    if mode is None or not maps.ndim - 1 == len(padded_grid) == len(image_grid):
        raise InputError(
            f"Maps of shape {tuple(maps.shape)} came for an image of {tuple(image_grid)}; both need 2 or 3 axes."
        )
    grown = F.interpolate(maps[:, None].float().cpu(), tuple(padded_grid), mode=mode)[:, 0]
    values: Float = grown[(slice(None), *(slice(side) for side in image_grid))].numpy()
    return values


def cut(values: npt.ArrayLike, at: Literal["half", "matched"] = "half", size: int = 0) -> Mask:
    """Return where a map is strong.

    Parameters
    ----------
    values : array of any shape
    at : {"half", "matched"}
        "half": at least the middle between the map's smallest and largest value; nowhere in a constant map.
        "matched": the ``size`` largest values; equal ones in raster order.
    size : int
        Read with "matched" alone.
    """
    array = _finite(values)
    if at == "matched":
        inside = np.zeros(array.size, dtype=bool)
        inside[np.argsort(-array, axis=None, kind="stable")[:size]] = True
        return inside.reshape(array.shape)
    low, high = float(array.min()), float(array.max())
    return array >= (low + high) / 2 if high > low else np.zeros(array.shape, dtype=bool)


def activation_iou(values: npt.ArrayLike, truth: npt.ArrayLike, at: Literal["half", "matched"] = "half") -> float:
    """Return the overlap of a map's strong part with a structure, in [0, 1].

    Parameters
    ----------
    values : array (*image grid)
    truth : array of the same shape, boolean or 0/non-0
    at
        As in ``cut``; "matched" takes the structure's own number of pixels.

    Raises
    ------
    InputError
        If the shapes differ, values are not finite, or there is no structure to meet.
    """
    array, mask = _pair(values, truth)
    return iou(cut(array, at, int(mask.sum())), mask)


def activation_auc(values: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the probability that a pixel of the structure has a larger value than one outside, in [0, 1].

    Parameters
    ----------
    values : array (*image grid)
    truth : array of the same shape, boolean or 0/non-0

    Raises
    ------
    InputError
        If the shapes differ, values are not finite, or structure or background are missing.
    """
    from scipy.stats import rankdata

    array, mask = _pair(values, truth)
    inside = int(mask.sum())
    outside = mask.size - inside
    if outside == 0:
        raise InputError("The structure fills the whole image; there is no background to compare with.")
    ranks = rankdata(array, axis=None)  # ties share their mean rank
    return float((ranks[mask.ravel()].sum() - inside * (inside + 1) / 2) / (inside * outside))


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise InputError("The activation map is empty or holds NaN or infinity; check the checkpoint and the scan.")
    return array


def _pair(values: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], Mask]:
    array, mask = _finite(values), np.asarray(truth).astype(bool)
    if array.shape != mask.shape:
        raise InputError(f"A map of {array.shape} came for a mask of {mask.shape}; both need one shape.")
    if not mask.any():
        raise InputError("The mask is empty; an activation's overlap needs a structure.")
    return array, mask
