"""Variants follow from what a slice shows, and training from cached features is training without the cache."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from napari_llm4seg.engine.data import Samples
from napari_llm4seg.engine.features import FeatureCache
from napari_llm4seg.engine.fit import FitResult, fit, make_fabric
from napari_llm4seg.engine.source import ImageValidation
from napari_llm4seg.engine.variants import CachedValidation, VariantTraining, augmented, joined
from napari_llm4seg.errors import ConfigError
from napari_llm4seg.models.llm4seg import Features, LLM4SegNet

from .conftest import FIT

Maker = Callable[[], LLM4SegNet]
Data = tuple[Samples, Samples]


def few(samples: Samples, *which: int) -> Samples:
    index = torch.tensor(which, dtype=torch.int64)
    return Samples(samples.images[index], samples.labels[index], tuple(samples.names[i] for i in which))


@pytest.mark.parametrize("parts", ["adapters", "adapters+decoder"])
@pytest.mark.parametrize("limit_mb", [100.0, 0.2, 0.0])
def test_losses_are_those_without_the_cache(make_net: Maker, made_samples: Data, parts: str, limit_mb: float) -> None:
    train, val = few(made_samples[0], 0, 3, 5), made_samples[1]
    config = FIT.model_copy(update={"epochs": 6, "batch": 2})

    def run(cached: bool) -> FitResult:
        net = make_net().train_only(parts)  # type: ignore[arg-type]
        cache = FeatureCache(net, limit_mb) if cached else None
        training = VariantTraining(train, "strong", variants=4, passes=2, cache=cache)
        validation = ImageValidation(val) if cache is None else CachedValidation(val, cache)
        return fit(make_fabric(config, "cpu"), net, (training, validation), config, folder=None)

    plain, cached = run(False), run(True)
    for name in ("loss", "val_loss", "val_iou"):
        assert [row[name] for row in cached.history] == pytest.approx([row[name] for row in plain.history], abs=1e-4)
    assert any(row["loss"] != plain.history[0]["loss"] for row in plain.history)


def test_the_cache_computes_each_image_once_and_stays_within_its_limit(
    make_net: Maker, made_samples: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make_net().train_only("adapters").train()
    images = made_samples[0].images[:6]
    wanted = net.features(images)
    encoded: list[int] = []
    encode = net.encode
    monkeypatch.setattr(net, "encode", lambda batch: encoded.append(len(batch)) or encode(batch))
    cache = FeatureCache(net)
    with torch.inference_mode():  # as during validation
        cache(images[:4])
    for part in (images, images[2:3], images.flip(0)):
        cache(part)
    assert encoded == [4, 2]
    found = cache(images)
    assert found.grid == wanted.grid
    for stage, truth in zip(found.stages, wanted.stages, strict=True):
        torch.testing.assert_close(stage, truth)
        assert not stage.is_inference()
    one = cache.bytes / 6
    small = FeatureCache(net, limit_mb=2.5 * one / 1e6)
    small(images)
    assert len(small) == 2
    torch.testing.assert_close(small(images).stages[0], wanted.stages[0])
    cache.forget()
    assert (len(cache), cache.bytes) == (0, 0)


def test_features_of_a_training_encoder_are_not_cached(make_net: Maker) -> None:
    with pytest.raises(ConfigError, match="frozen encoder"):
        FeatureCache(make_net())


def test_variants_depend_on_the_image_alone(made_samples: Data) -> None:
    samples = made_samples[0]
    images, labels = augmented(few(samples, 1, 4), "strong", 3, seed=7)
    assert images.shape == (2, 3, 1, 32, 32)
    assert torch.equal(images[:, 0], samples.images[[1, 4]])
    assert torch.equal(labels[:, 0], samples.labels[[1, 4]])
    assert len({float(image.mean()) for image in images.flatten(0, 1)}) == 6
    corrected = few(samples, 0, 4, 1)
    corrected.labels[1] = 255
    again, their_labels = augmented(corrected, "strong", 3, seed=7)
    assert torch.equal(again[[2, 1]], images)
    assert torch.equal(their_labels[2], labels[0])
    assert not torch.equal(augmented(few(samples, 1, 4), "strong", 3, seed=8)[0], images)


def test_an_epoch_has_every_sample_in_its_next_variants(made_samples: Data) -> None:
    source = VariantTraining(few(made_samples[0], 0, 1, 2), "none", variants=4, passes=2)
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for epoch in range(2):
        source.start_epoch(0, epoch)
        for number in range(len(source)):
            sample, variant = source.which(number)
            seen[sample].append(variant)
    assert all(sorted(variants) == [0, 1, 2, 3] for variants in seen.values())


def test_replayed_samples_are_drawn_among_the_new(made_samples: Data) -> None:
    new, old = few(made_samples[0], 0, 1, 2, 3), few(made_samples[0], 5, 6)
    source = VariantTraining(new, "none", variants=2, replay=old, share=0.5)
    drawn = []
    for epoch in range(20):
        source.start_epoch(3, epoch)
        assert len(source) == 6
        drawn += [source.which(number)[0] for number in range(4, 6)]
        assert {source.which(number)[0] for number in range(4)} == {0, 1, 2, 3}
    assert set(drawn) == {4, 5}
    assert source.names == joined(new, old).names
    assert len(VariantTraining(new, "none", replay=few(made_samples[0]))) == 4


def test_batches_are_features_with_a_cache(make_net: Maker, made_samples: Data) -> None:
    net = make_net().train_only("adapters")
    source = VariantTraining(made_samples[0], "none", variants=2, cache=FeatureCache(net))
    source.fill()
    images, labels = source.batch(torch.tensor([0, 2]))
    assert isinstance(images, Features)
    assert torch.equal(labels, made_samples[0].labels[[0, 2]])


def test_windows_of_features_are_those_of_the_whole_image(make_net: Maker, made_samples: Data) -> None:
    net = make_net().train_only("adapters+decoder").eval()
    cache = FeatureCache(net)
    source = VariantTraining(few(made_samples[0], 0, 1, 2), "none", variants=1, passes=4, cache=cache, window=0.5)
    around = 0
    for epoch in range(4):
        source.start_epoch(0, epoch)
        for number in range(len(source)):
            features, labels = source.batch(torch.tensor([number]))
            assert isinstance(features, Features)
            assert features.corners is not None
            assert features.grid == labels.shape[1:] == (16, 16)
            (y, x), sample = (2 * features.corners[0]).tolist(), source.which(number)[0]
            assert torch.equal(labels[0], made_samples[0].labels[sample, y : y + 16, x : x + 16])
            around += bool((labels > 0).any())
            whole = net(net.features(made_samples[0].images[[sample]]))
            part = net(features)
            assert part.shape == (1, 1, 16, 16)
            # away from the window's edges, where neighbours are missing
            torch.testing.assert_close(
                part[..., 7:9, 7:9], whole[..., y + 7 : y + 9, x + 7 : x + 9], atol=1e-5, rtol=1e-4
            )
    assert around >= 24  # two of three at least, of 48


def test_windows_meet_what_is_annotated(make_net: Maker, made_samples: Data) -> None:
    samples = few(made_samples[0], 0, 1)
    samples.labels[:] = 255
    samples.labels[:, 30, 1] = 0
    cache = FeatureCache(make_net().train_only("adapters+decoder"))
    source = VariantTraining(samples, "none", variants=1, cache=cache, window=0.25)
    for epoch in range(20):
        source.start_epoch(1, epoch)
        assert (source.batch(torch.tensor([0, 1]))[1] == 0).flatten(1).any(1).all()
