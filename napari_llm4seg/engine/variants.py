"""Few annotated slices in a fixed set of augmented variants, so that a frozen encoder sees each but once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from napari_llm4seg.engine.augment import Augmenter, Strength
from napari_llm4seg.engine.data import IGNORE, Samples
from napari_llm4seg.engine.features import FeatureCache, image_digest
from napari_llm4seg.engine.source import ImageValidation, _ImageSource, sample_seed
from napari_llm4seg.errors import Cancelled
from napari_llm4seg.models.llm4seg import Features, cut_windows

# Part of the windows that lie around a place of a class; the others around any annotated one.
_AROUND_CLASS = 2 / 3


def augmented(samples: Samples, strength: Strength, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return every sample in ``count`` variants; the first is the sample itself.

    What is drawn follows from the seed, the sample's image and the variant's number alone, so that a slice's variants
    stay the same whatever other slices come along and however often its labels are corrected.

    Returns
    -------
    images : tensor (N, count, C, H, W), float32
    labels : tensor (N, count, H, W), uint8
    """
    size = (int(samples.images.shape[-2]), int(samples.images.shape[-1]))
    augmenter = Augmenter(strength if count > 1 else "none", size)
    images, labels = [samples.images], [samples.labels]
    own = [int(image_digest(image)[:12], 16) for image in samples.images]
    for variant in range(1, count):
        made = augmenter(samples.images, samples.labels, [sample_seed(seed, variant, each) for each in own])
        images.append(made[0])
        labels.append(made[1])
    return torch.stack(images, dim=1), torch.stack(labels, dim=1)


class VariantTraining(_ImageSource):
    """Samples in a fixed set of variants, in turn; optionally with others, of earlier, drawn among them.

    Parameters
    ----------
    samples : Samples
    strength : {"none", "paper", "strong", "aligned"}
        See ``Augmenter``.
    variants : int
        Of each sample, itself counted.
    passes : int
        How often each sample comes in an epoch, each time in its next variant.
    seed : int
        Of the variants.
    cache : FeatureCache, optional
        With it batches are features of the network's frozen encoder instead of images.
    window : float in (0, 1]
        Part of each side of a batch's windows, which are drawn anew each time, two of three around a place that
        belongs to a class; needs a cache, as the block sees the whole image. 1 for whole images.
    replay : Samples, optional
        What shall not be forgotten: drawn at random into every epoch.
    share : float
        Number of replayed samples for each other one.
    """

    def __init__(
        self,
        samples: Samples,
        strength: Strength,
        variants: int = 8,
        passes: int = 1,
        seed: int = 0,
        cache: FeatureCache | None = None,
        window: float = 1.0,
        replay: Samples | None = None,
        share: float = 0.5,
    ) -> None:
        super().__init__(samples if replay is None else joined(samples, replay))
        self._new, self._count, self._passes, self._cache = len(samples), variants, passes, cache
        self._images, self._labels = augmented(self.samples, strength, variants, seed)
        self._replayed = 0 if replay is None or not len(replay) else round(share * passes * self._new)
        self._epoch = (0, 0)
        self._window = window if cache is not None else 1.0

    @property
    def layout(self) -> str:
        numbers = (self._count, self._passes, self._replayed, self._window)
        return f"{super().layout}, variants, passes, replayed, window {numbers}"

    def __len__(self) -> int:
        return self._passes * self._new + self._replayed

    def start_epoch(self, seed: int, epoch: int) -> None:
        self._epoch = (seed, epoch)

    def which(self, number: int) -> tuple[int, int]:
        """Return sample and variant that number ``number`` of the present epoch stands for."""
        seed, epoch = self._epoch
        if number < self._passes * self._new:
            turn, sample = divmod(number, self._new)
            return sample, (epoch * self._passes + turn + sample) % self._count
        rng = np.random.default_rng(sample_seed(seed, epoch, number))
        return int(rng.integers(self._new, len(self.samples))), int(rng.integers(self._count))

    def batch(self, index: Tensor) -> tuple[Tensor | Features, Tensor]:
        sample, variant = torch.tensor([self.which(number) for number in index.tolist()]).unbind(1)
        images, labels = self._images[sample, variant], self._labels[sample, variant]
        if self._cache is None:
            return images, labels
        features = self._cache(images)
        coarse = tuple(features.stages[-1].shape[2:])
        cells = tuple(max(1, round(self._window * side)) for side in coarse)
        if cells == coarse or any(side % full for side, full in zip(labels.shape[1:], coarse, strict=True)):
            return features, labels
        corners = torch.tensor(
            [self._corner(each, cells, coarse, number) for each, number in zip(labels, index.tolist(), strict=True)]
        )
        return features.windows(corners, cells), cut_windows(labels[:, None], corners, cells, coarse)[:, 0]

    def _corner(self, labels: Tensor, cells: tuple[int, ...], coarse: tuple[int, ...], number: int) -> list[int]:
        """Return where the window of a sample begins, in cells; it meets what is annotated."""
        rng = np.random.default_rng(sample_seed(*self._epoch, number) + 1)
        known = (labels != IGNORE).nonzero()
        drawn = ((labels > 0) & (labels != IGNORE)).nonzero()
        places = drawn if len(drawn) and rng.random() < _AROUND_CLASS else known
        place = places[int(rng.integers(len(places)))].tolist() if len(places) else [side // 2 for side in labels.shape]
        corner = []
        for at, n, full, side in zip(place, cells, coarse, labels.shape, strict=True):
            middle = at * full // side - int(rng.integers(n))  # anywhere in the window
            corner.append(min(max(0, middle), full - n))
        return corner

    def fill(self, cancel: Callable[[], bool] | None = None) -> None:
        """Have the features of every variant computed, as far as the cache has room.

        Raises
        ------
        Cancelled
        """
        for image in self._images.flatten(0, 1):
            if cancel is not None and cancel():
                raise Cancelled("Stopped.")
            if self._cache is not None:
                self._cache(image[None])


class CachedValidation(ImageValidation):
    """``ImageValidation`` from features of the network's frozen encoder.

    Parameters
    ----------
    samples : Samples
    cache : FeatureCache
    """

    def __init__(self, samples: Samples, cache: FeatureCache) -> None:
        super().__init__(samples)
        self._cache = cache

    def inputs(self, index: Tensor) -> Features:
        return self._cache(self.samples.images[index])


def joined(*parts: Samples) -> Samples:
    """Return the samples of all parts, in order."""
    return Samples(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        tuple(name for part in parts for name in part.names),
    )
