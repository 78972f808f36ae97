"""Near-duplicate images, found by what they show: those that must not sit on both sides of a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import PreprocessConfig
from napari_llm4seg.io import read
from napari_llm4seg.preprocess import Preprocessor
from napari_llm4seg.volume import Volume

Float = npt.NDArray[np.float32]

SIDE, MARGIN, SHIFT = 64, 4, 1


def near_duplicate_groups(
    images: Sequence[Path], threshold: float = 0.6, progress: Callable[[int, int, str], None] | None = None
) -> list[int]:
    """Return a group number per image; images of one group are near-duplicates, directly or through others.

    Two images are near-duplicates where their fine structure correlates above ``threshold`` at one of nine shifts of
    up to a pixel of a 64 x 64 thumbnail. Coarse brightness is taken out and local contrast evened first, because
    distinct moles on skin, or polyps in one endoscope's frame, are alike in both.

    Parameters
    ----------
    images : sequence of Path
    threshold : float in (0, 1)
        The default finds 108 of the 109 pairs that BUSI's catalogue names, and every re-photographed or re-coloured
        copy met in ISIC 2017; at it the first pairs of distinct moles of the same size appear, so that a group is
        rather too large than too small. Frames of one polyp from another angle are not found.
    progress : callable(done, total, message), optional

    Returns
    -------
    list of int
        Numbered in the images' order.
    """
    thumbs = []
    for done, path in enumerate(images):
        thumbs.append(thumbnail(read(path)))
        if progress:
            progress(done + 1, len(images), "looking for near-duplicates")
    return groups_of(np.stack(thumbs), threshold)


def thumbnail(volume: Volume) -> Float:
    """Return the middle slice as ``groups_of`` takes it, (64, 64) in [0, 1]."""
    small = Preprocessor(PreprocessConfig(size=(SIDE, SIDE), mean=(0.0,), sd=(1.0,)))
    thumb: Float = small.apply(volume, [volume.n_slices // 2])[0][0, 0].numpy()
    return thumb


def groups_of(thumbnails: Float, threshold: float = 0.6) -> list[int]:
    """Return a group number for each of the thumbnails (N, 64, 64), as ``near_duplicate_groups``."""
    still = fine_structure(thumbnails)
    shifts = [(dy, dx) for dy in range(-SHIFT, SHIFT + 1) for dx in range(-SHIFT, SHIFT + 1)]
    linked = np.zeros((len(thumbnails), len(thumbnails)), dtype=bool)
    for shift in shifts:
        linked |= still @ fine_structure(np.roll(thumbnails, shift, (1, 2))).T > threshold
    from scipy.sparse.csgraph import connected_components

    _, groups = connected_components(linked, directed=False)
    return [int(group) for group in groups]


def fine_structure(images: Float) -> Float:
    """Return images (N, S, S) as unit vectors (N, M) of their locally normalised detail, so that products correlate."""
    from scipy.ndimage import gaussian_filter

    detail = images - gaussian_filter(images, (0, SIDE / 16, SIDE / 16))
    contrast = np.sqrt(gaussian_filter(detail**2, (0, SIDE / 10, SIDE / 10)))
    even = detail / (contrast + 0.012)  # 3 of 255 grey levels: what is flatter is noise
    inner = even[:, MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(len(images), -1)
    inner = inner - inner.mean(axis=1, keepdims=True)
    unit: Float = (inner / np.maximum(np.linalg.norm(inner, axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return unit
