"""Where a training run gets its samples from and what it is validated on: images, slices or patches of volumes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from napari_llm4seg.engine.augment import Augmenter, Strength
from napari_llm4seg.engine.data import IGNORE, Samples
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.metrics import iou
from napari_llm4seg.models.llm4seg import Features


class TrainingSource(Protocol):
    """What ``fit`` draws its batches from.

    A sample is known by its number in ``range(len(source))``, each of which comes once per epoch. Every random draw
    (augmentation, where a patch lies) follows from seed, epoch and that number alone: see ``sample_seed``. So it does
    not matter in which order, on which process or how long before its turn a batch is made, and a resumed run repeats
    the very same batches. One thread at a time calls ``start_epoch`` and ``batch``; it need not be the main one.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cases; a case may give several samples, or several cases one."""

    @property
    def layout(self) -> str:
        """What else must be the same when a stopped run goes on, as text: shapes, patch size, samples per epoch."""

    def __len__(self) -> int:
        """Return the number of samples per epoch, over all processes."""

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Tell which draws the coming batches are to have; ``epoch`` counts from 0."""

    def batch(self, index: Tensor) -> tuple[Tensor | Features, Tensor]:
        """Return the samples of numbers ``index`` (int64, (B,)), augmented, on the CPU.

        Returns
        -------
        images : tensor (B, C, *grid), float32, normalised, or what the network's frozen encoder makes of them
        labels : tensor (B, *grid), uint8 label values; 255 is not annotated
        """

    def fingerprint(self) -> Tensor:
        """Return mean, deviation and labelled fraction of every case, (N, 3) float32: what tells other data from these.

        Compared to a relative and absolute 1e-3, as other machines round otherwise.
        """


class ValidationSource(Protocol):
    """What ``fit`` judges an epoch by."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the items (images, slices or volumes), each scored on its own."""

    @property
    def layout(self) -> str:
        """As for training."""

    def score(self, net: nn.Module, objective: Objective, index: Tensor, threshold: float) -> dict[str, Tensor]:
        """Score the items of numbers ``index`` (int64, (B,)); a process is given its share of them, batch by batch.

        Parameters
        ----------
        net : the network, in eval mode and under ``torch.inference_mode``, on the device of its weights
        objective : Objective
        index : tensor of at most ``FitConfig.batch`` numbers
        threshold : float in (0, 1), for sigmoid heads

        Returns
        -------
        dict of str to float64 tensor (B,)
            At least "val_loss" and "val_iou" (both masks empty counts 1), a value per item; ``fit`` logs the mean of
            each over all items, leaving out NaN.
        """

    def fingerprint(self) -> Tensor:
        """As for training."""


def sample_seed(seed: int, epoch: int, number: int) -> int:
    """Return the seed of one sample's random draws, in [0, 2**32)."""
    return int(np.random.SeedSequence([seed, epoch, number]).generate_state(1)[0])


def batches(n: int, size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """Yield index tensors of one epoch over ``n`` samples in an order that seed and epoch alone decide.

    A last batch of one sample joins its neighbour, unless all are of one: batch normalisation needs two.
    """
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    chunks = list(order.split(size))
    if size > 1 and len(chunks) > 1 and len(chunks[-1]) == 1:
        chunks[-2:] = [torch.cat(chunks[-2:])]
    yield from chunks


class _ImageSource:
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    @property
    def names(self) -> tuple[str, ...]:
        return self.samples.names

    @property
    def layout(self) -> str:
        return str(tuple(self.samples.images.shape))

    def fingerprint(self) -> Tensor:
        """Names and shapes stay when masks are drawn anew or intensities are mapped otherwise; this does not."""
        flat, labels = self.samples.images.flatten(1), self.samples.labels.flatten(1)
        drawn = ((labels > 0) & (labels != IGNORE)).float().mean(1)
        return torch.stack((flat.mean(1), flat.std(1, correction=0), drawn), dim=1)


class ImageTraining(_ImageSource):
    """Samples held in memory, augmented one by one.

    Parameters
    ----------
    samples : Samples
    strength : {"none", "paper", "strong", "aligned"}
        See ``Augmenter``.
    """

    def __init__(self, samples: Samples, strength: Strength) -> None:
        super().__init__(samples)
        self.augmenter = Augmenter(strength, (samples.images.shape[-2], samples.images.shape[-1]))
        self._epoch = (0, 0)

    def __len__(self) -> int:
        return len(self.samples)

    def start_epoch(self, seed: int, epoch: int) -> None:
        self._epoch = (seed, epoch)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        seeds = [sample_seed(*self._epoch, number) for number in index.tolist()]
        return self.augmenter(self.samples.images[index], self.samples.labels[index], seeds)


class ImageValidation(_ImageSource):
    """Samples held in memory, scored on the network's grid."""

    def inputs(self, index: Tensor) -> Tensor | Features:
        """Return what the network takes for the items of numbers ``index``."""
        return self.samples.images[index]

    def score(self, net: nn.Module, objective: Objective, index: Tensor, threshold: float) -> dict[str, Tensor]:
        device = next(net.parameters()).device
        images = self.inputs(index).to(device, memory_format=torch.channels_last)
        logits, labels = net(images).float().cpu(), self.samples.labels[index]
        known = (labels != IGNORE)[:, None]
        found, truth = objective.predicted(logits, threshold) & known, objective.members(labels) & known
        pairs = zip(found.numpy(), truth.numpy(), strict=True)
        scores = [float(np.mean([iou(f, t) for f, t in zip(fs, ts, strict=True)])) for fs, ts in pairs]
        # overlaps may be summed over the batch: its loss stands for each of its items
        loss = torch.full((len(index),), float(objective(logits, labels)), dtype=torch.float64)
        return {"val_loss": loss, "val_iou": torch.tensor(scores, dtype=torch.float64)}
