"""From probabilities to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import ClassSpec

Labels = npt.NDArray[np.unsignedinteger[Any]]


def label_dtype(classes: Sequence[ClassSpec]) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest dtype that holds every label value."""
    return np.uint8 if max(spec.value for spec in classes) <= 255 else np.uint16


def labels_from_probabilities(
    probabilities: npt.NDArray[Any],
    classes: Sequence[ClassSpec],
    head: Literal["sigmoid", "softmax"],
    threshold: float = 0.5,
) -> Labels:
    """Return the label of every pixel.

    Parameters
    ----------
    probabilities : array (K, Y, X) or (K, Z, Y, X) in [0, 1]
        Sigmoid: one channel per class. Softmax: background first, then the classes.
    classes : sequence of ClassSpec
    head : {"sigmoid", "softmax"}
    threshold : float
        Sigmoid only: a class is there from this probability on; where several are, the most probable one wins.

    Returns
    -------
    array (Y, X) or (Z, Y, X), uint8 or uint16
        Values of ``classes``, 0 = background.
    """
    values = np.array([0, *(spec.value for spec in classes)], dtype=label_dtype(classes))
    winner = probabilities.argmax(axis=0)
    labels: Labels = values[winner if head == "softmax" else winner + 1]
    if head == "sigmoid":
        labels[probabilities.max(axis=0) < threshold] = 0
    return labels


def drop_islands(labels: Labels, min_area: float) -> Labels:
    """Return ``labels`` without connected pieces of one class below ``min_area``.

    Parameters
    ----------
    labels : array (Y, X) or (Z, Y, X)
    min_area : float in [0, 1)
        Fraction of all its pixels or voxels; diagonal neighbours are connected.
    """
    least = min_area * labels.size
    if least <= 1 or not labels.any():
        return labels
    from scipy import ndimage  # here, because most predictions do not need it

    kept = labels.copy()
    for value in np.unique(labels[labels > 0]):
        islands, _ = ndimage.label(labels == value, structure=np.ones((3,) * labels.ndim))
        small = np.bincount(islands.ravel()) < least
        small[0] = False
        kept[small[islands]] = 0
    return kept
