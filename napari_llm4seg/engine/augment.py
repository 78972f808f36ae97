"""Training augmentation by MONAI, each sample with random draws of its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Strength = Literal["none", "paper", "strong", "aligned"]


class Augmenter:
    """Applies one chain of MONAI transforms to images and labels alike.

    Parameters
    ----------
    strength : {"none", "paper", "strong", "aligned"}
        "paper": rotations by 90 degrees and flips. "strong": left-right flips, affine (rotation 15 degrees, scale
        0.75 to 1.25, shift 8 %), contrast, gamma, noise and blur, in the ranges of one acquisition's variation.
        "aligned": the same without flips, for scans that all lie the same way, where the side tells organs apart.
        For volumes "paper" is left-right flips alone, which an upright body bears.
    size : (H, W) or (D, H, W) of the samples in pixels or voxels
        Volumes may come larger with "strong" and "aligned"; of them the middle is kept, rotated and scaled.
    """

    def __init__(self, strength: Strength, size: tuple[int, ...]) -> None:
        self.strength = strength
        make = _chain if len(size) == 2 else _volume_chain
        self._chain = None if strength == "none" else make(strength, size)
        # one generator for the whole chain: seeding each transform's own costs more than some transforms
        self._random = np.random.RandomState()
        for transform in self._chain.transforms if self._chain else ():
            transform.set_random_state(state=self._random)

    def __call__(self, images: Tensor, labels: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return augmented copies of images (B, C, *grid) and labels (B, *grid); ``seeds`` decide each one's draws."""
        if self._chain is None:
            return images, labels
        done = []
        for image, label, seed in zip(images, labels, seeds, strict=True):
            self._random.seed(seed)
            done.append(self._chain({"image": image, "label": label[None]}))
        return torch.stack([d["image"] for d in done]), torch.stack([d["label"][0] for d in done]).to(torch.uint8)


def _chain(strength: Strength, size: tuple[int, ...]):  # type: ignore[no-untyped-def]  # MONAI's own types
    import monai.transforms as mt
    from monai.data.meta_obj import set_track_meta

    set_track_meta(False)  # plain tensors: the affine bookkeeping costs more than the transforms
    both = ["image", "label"]
    if strength == "paper":
        return mt.Compose(
            [
                mt.RandRotate90d(both, prob=0.75, max_k=3),
                mt.RandFlipd(both, prob=0.5, spatial_axis=0),
                mt.RandFlipd(both, prob=0.5, spatial_axis=1),
            ]
        )
    affine = mt.RandAffined(
        both,
        prob=0.8,
        rotate_range=0.26,
        scale_range=((-0.25, 0.25), (-0.25, 0.25)),
        translate_range=(0.08 * size[0], 0.08 * size[1]),
        mode=("bilinear", "nearest"),
        padding_mode="border",
        cache_grid=True,
        spatial_size=size,
    )
    flips = [mt.RandFlipd(both, prob=0.5, spatial_axis=1)] if strength == "strong" else []
    return mt.Compose(
        [
            *flips,
            affine,
            mt.RandScaleIntensityd("image", factors=0.25, prob=0.4),
            mt.RandShiftIntensityd("image", offsets=0.3, prob=0.4),
            mt.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
            mt.RandGaussianNoised("image", prob=0.2, std=0.15),
            mt.RandGaussianSmoothd("image", prob=0.15, sigma_x=(0.4, 1.0), sigma_y=(0.4, 1.0)),
        ]
    )


def _volume_chain(strength: Strength, size: tuple[int, ...]):  # type: ignore[no-untyped-def]  # MONAI's own types
    import monai.transforms as mt
    from monai.data.meta_obj import set_track_meta

    set_track_meta(False)
    both = ["image", "label"]
    flips = [mt.RandFlipd(both, prob=0.5, spatial_axis=2)] if strength != "aligned" else []
    if strength == "paper":
        return mt.Compose(flips)
    affine = mt.RandAffined(
        both,
        prob=0.8,
        rotate_range=(0.26, 0.26, 0.26),
        scale_range=((-0.25, 0.25), (-0.25, 0.25), (-0.25, 0.25)),
        translate_range=tuple(0.05 * side for side in size),
        mode=("bilinear", "nearest"),
        padding_mode="border",
        cache_grid=True,
        spatial_size=size,
    )
    return mt.Compose(
        [
            *flips,
            affine,
            mt.RandScaleIntensityd("image", factors=0.25, prob=0.3),
            mt.RandShiftIntensityd("image", offsets=0.3, prob=0.3),
            mt.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
            mt.RandGaussianNoised("image", prob=0.2, std=0.15),
            mt.RandGaussianSmoothd("image", prob=0.15, sigma_x=(0.4, 1.0), sigma_y=(0.4, 1.0), sigma_z=(0.4, 1.0)),
        ]
    )
