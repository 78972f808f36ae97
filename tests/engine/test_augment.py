"""Augmentation moves image and labels alike and repeats itself from its seed."""

from __future__ import annotations

import pytest
import torch

from napari_llm4seg.engine.augment import Augmenter, Strength


def made() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.zeros(6, 32, 32, dtype=torch.uint8)
    labels[:, 10:20, 6:16] = 1
    labels[:, :4, :4] = 255
    return labels[:, None].float().clamp(max=1) * 2 - 1, labels


@pytest.mark.parametrize("strength", ["paper", "strong", "aligned"])
def test_same_seeds_repeat_and_others_differ(strength: Strength) -> None:
    augmenter = Augmenter(strength, (32, 32))
    results = []
    for first in (7, 7, 8):
        results.append(augmenter(*made(), range(first, first + 6)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], results[2][0])


@pytest.mark.parametrize("strength", ["paper", "strong", "aligned"])
def test_labels_keep_their_values_and_follow_the_image(strength: Strength) -> None:
    augmenter = Augmenter(strength, (32, 32))
    images, labels = augmenter(*made(), range(6))
    assert images.shape == (6, 1, 32, 32)
    assert labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) <= {0, 1, 255}
    inside, outside = images[:, 0][labels == 1].mean(), images[:, 0][labels == 0].mean()
    assert inside > outside + 0.8


def test_aligned_never_swaps_left_and_right() -> None:
    labels = torch.zeros(40, 32, 32, dtype=torch.uint8)
    labels[:, 8:24, 2:8] = 1
    images = labels[:, None].float()

    def sides(strength: Strength) -> torch.Tensor:
        moved = Augmenter(strength, (32, 32))(images, labels, range(40))[1] > 0
        return moved[..., :16].sum((1, 2)) > moved[..., 16:].sum((1, 2))

    assert sides("aligned").all()
    assert not sides("strong").all()


def test_none_changes_nothing() -> None:
    images, labels = Augmenter("none", (32, 32))(*made(), range(6))
    assert torch.equal(images, made()[0])
    assert torch.equal(labels, made()[1])


def test_paper_keeps_every_pixel() -> None:
    augmenter = Augmenter("paper", (32, 32))
    images, _ = augmenter(*made(), range(6))
    assert torch.equal(images.flatten(1).sort().values, made()[0].flatten(1).sort().values)
