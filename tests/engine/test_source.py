"""Batches and their random draws depend on seed, epoch and sample alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_llm4seg.engine.augment import Strength
from napari_llm4seg.engine.data import Samples
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.engine.source import ImageTraining, ImageValidation, batches, sample_seed
from napari_llm4seg.models.llm4seg import LLM4SegNet

from .conftest import FIT

Data = tuple[Samples, Samples]


def test_batches_of_one_stay_of_one() -> None:
    assert [len(chunk) for chunk in batches(5, 1, 0, 0)] == [1] * 5


@given(n=st.integers(2, 40), size=st.integers(2, 9), epoch=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_batches_visit_every_sample_once_and_never_alone(n: int, size: int, epoch: int) -> None:
    chunks = list(batches(n, size, 0, epoch))
    assert sorted(torch.cat(chunks).tolist()) == list(range(n))
    assert min(map(len, chunks)) >= 2
    assert all(torch.equal(a, b) for a, b in zip(chunks, batches(n, size, 0, epoch), strict=True))


def test_seeds_of_neighbours_differ() -> None:
    seeds = {sample_seed(s, e, n) for s in range(3) for e in range(4) for n in range(50)}
    assert len(seeds) == 600
    assert sample_seed(1, 2, 3) == sample_seed(1, 2, 3)
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("strength", ["paper", "strong"])
def test_a_sample_is_augmented_alike_in_whatever_batch_and_order_it_comes(
    made_samples: Data, strength: Strength
) -> None:
    source = ImageTraining(made_samples[0], strength)
    source.start_epoch(7, 3)
    together = source.batch(torch.arange(13))
    apart = [source.batch(torch.tensor([i])) for i in reversed(range(13))][::-1]
    assert torch.equal(together[0], torch.cat([images for images, _ in apart]))
    assert torch.equal(together[1], torch.cat([labels for _, labels in apart]))
    source.start_epoch(7, 4)
    assert not torch.equal(together[0], source.batch(torch.arange(13))[0])


def test_the_samples_themselves_stay_as_they_are(made_samples: Data) -> None:
    images, labels = made_samples[0].images.clone(), made_samples[0].labels.clone()
    source = ImageTraining(made_samples[0], "strong")
    source.start_epoch(0, 0)
    source.batch(torch.arange(13))
    assert torch.equal(made_samples[0].images, images)
    assert torch.equal(made_samples[0].labels, labels)


def test_scores_come_per_item(make_net: Callable[[], LLM4SegNet], made_samples: Data, tmp_path: Path) -> None:
    net = make_net().eval()
    source = ImageValidation(made_samples[1])
    objective = Objective(net.config.classes, net.config.head, FIT.model_copy(update={"dice_batch": False}))
    with torch.inference_mode():
        rows = source.score(net, objective, torch.tensor([2, 0]), 0.5)
        alone = source.score(net, objective, torch.tensor([0]), 0.5)
    assert set(rows) == {"val_loss", "val_iou"}
    assert all(row.shape == (2,) and row.dtype == torch.float64 for row in rows.values())
    assert rows["val_iou"][1] == alone["val_iou"][0]


def test_other_masks_and_intensities_have_another_fingerprint(made_samples: Data) -> None:
    samples = made_samples[1]
    before = ImageValidation(samples).fingerprint()
    assert before.shape == (4, 3)
    for other in (
        Samples(samples.images * 0.8, samples.labels, samples.names),
        Samples(samples.images, samples.labels * 0, samples.names),
    ):
        assert not torch.allclose(before, ImageTraining(other, "none").fingerprint(), rtol=1e-3, atol=1e-3)
