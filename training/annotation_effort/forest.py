"""The yardstick: a random forest on scikit-image's multiscale features, as interactive pixel classifiers use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import ConfigError
from napari_llm4seg.windows import CT_WINDOWS, DEFAULT_CT, is_ct

Array = npt.NDArray[Any]

TREES = 100
# Pixels that each tree is grown from, at most: more takes longer and told nothing more on the liver.
PIXELS = 15_000
# Pixels of an image's longer side; the networks' grids are no finer.
_LONGEST = 256


class Forest:
    """Learns from slices and says how probable each class is in every pixel of another.

    Parameters
    ----------
    classes : sequence of int
        Label values, without 0.
    modality : str
        "CT" maps intensities by the same window as a new network's.
    seed : int
    """

    def __init__(self, classes: Sequence[int], modality: str = "", seed: int = 0) -> None:
        try:
            from sklearn.ensemble import RandomForestClassifier
        except ImportError:
            raise ConfigError("The random forest needs scikit-learn: pip install 'napari-llm4seg[study]'.") from None
        self.classes, self.modality, self.seed = tuple(classes), modality, seed
        self._make: Any = RandomForestClassifier
        self._forest: Any = None

    def fit(self, images: Sequence[Array], labels: Sequence[Array]) -> None:
        """Learn from images (C, Y, X) and their label values (Y, X)."""
        found = [self._features(image) for image in images]
        pixels = np.concatenate([each.reshape(-1, each.shape[-1]) for each in found])
        values = np.concatenate(
            [_resized(mask, each.shape[:2]).ravel() for mask, each in zip(labels, found, strict=True)]
        )
        few = min(1.0, PIXELS / len(pixels))
        self._forest = self._make(TREES, min_samples_leaf=2, max_samples=few, random_state=self.seed, n_jobs=1)
        self._forest.fit(pixels, values)

    def probabilities(self, image: Array) -> npt.NDArray[np.float32]:
        """Return the probabilities (1 + classes, Y, X) of the background and each class in an image (C, Y, X)."""
        found = self._features(image)
        said = self._forest.predict_proba(found.reshape(-1, found.shape[-1])).reshape(*found.shape[:2], -1)
        result = np.zeros((1 + len(self.classes), *image.shape[1:]), dtype=np.float32)
        for column, value in enumerate(self._forest.classes_):
            place = 0 if value == 0 else 1 + self.classes.index(int(value))
            result[place] = _enlarged(said[..., column], image.shape[1:])
        return result

    def _features(self, image: Array) -> npt.NDArray[np.float32]:
        """Return intensity, edges and texture at scales of 1 to 16 pixels, (Y, X, F)."""
        from skimage.feature import multiscale_basic_features

        values = np.asarray(image, dtype=np.float32).mean(axis=0)
        if is_ct(self.modality, float(values.min())):
            low, high = CT_WINDOWS[DEFAULT_CT].limits
        else:
            low, high = (float(each) for each in np.percentile(values, (0.5, 99.5)))
        values = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
        longest = max(values.shape)
        if longest > _LONGEST:
            values = _enlarged(values, tuple(round(side * _LONGEST / longest) for side in values.shape))
        return np.asarray(multiscale_basic_features(values, sigma_min=1, sigma_max=16, workers=1), dtype=np.float32)


def _enlarged(values: Array, shape: tuple[int, ...]) -> Array:
    """Return values (Y, X) on another grid, linearly; smoothed before where that is coarser."""
    if values.shape == tuple(shape):
        return values
    from skimage.transform import resize

    result: Array = resize(values, shape, order=1, anti_aliasing=shape[0] < values.shape[0])
    return result


def _resized(labels: Array, shape: tuple[int, ...]) -> Array:
    """Return label values (Y, X) on another grid, each the nearest one."""
    if labels.shape == tuple(shape):
        return labels
    from skimage.transform import resize

    result: Array = resize(labels, shape, order=0, anti_aliasing=False, preserve_range=True).astype(labels.dtype)
    return result
