"""Prediction of volumes, with networks whose answers are known by hand."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.errors import Cancelled, DeviceError, InputError
from napari_llm4seg.predict import Predictor
from napari_llm4seg.volume import Volume, affine_from_spacing
from tests.predict.helpers import Identity, checkpoint


def scan(shape: tuple[int, ...] = (9, 20, 14), seed: int = 0, **about: Any) -> Volume:
    return Volume(np.random.default_rng(seed).integers(0, 256, (1, *shape), dtype=np.uint8), name="made", **about)


def predictor(net: nn.Module | None = None, **config: Any) -> Predictor:
    return Predictor(checkpoint(net, **{"patch": (6, 8, 8)} | config), "cpu")


def probabilities(model: Predictor, volume: Volume, **how: Any) -> np.ndarray:
    parts: dict[int, np.ndarray] = {}
    model.predict(volume, on_slice=lambda z, labels, found: parts.update({z: found}), **how)
    return np.stack([parts[z] for z in sorted(parts)], axis=1)


@pytest.mark.parametrize("shape", [(9, 20, 14), (6, 8, 8), (1, 1, 3), (2, 30, 5), (17, 8, 9)])
def test_patches_return_the_volume_at_its_own_resolution(shape: tuple[int, ...]) -> None:
    volume = scan(shape)
    model = predictor(batch=3)
    np.testing.assert_allclose(probabilities(model, volume)[0], volume.data[0] / 255, atol=2e-6)
    found = model.predict(volume)
    np.testing.assert_array_equal(found.labels, volume.data[0] >= 128)
    assert found.probabilities is not None
    assert found.probabilities.shape == (1, *shape)


def test_the_network_sees_patches_of_its_size_and_batch() -> None:
    seen: list[tuple[int, ...]] = []

    class Watching(Identity):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(tuple(image.shape))
            return super().forward(image)

    predictor(Watching(), batch=2).predict(scan())
    assert {shape[1:] for shape in seen} == {(1, 6, 8, 8)}
    assert max(shape[0] for shape in seen) <= 2
    assert sum(shape[0] for shape in seen) == 2 * 4 * 3


class AlongWorld(nn.Module):
    """Says lesion in the half of the patch that lies towards superior and left, so that orientation shows."""

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.full_like(image, -9.0)
        logits[:, :, image.shape[2] // 2 :, :, image.shape[4] // 2 :] = 9.0
        return logits


def test_the_network_sees_every_volume_upright_and_its_answer_comes_back_turned() -> None:
    """The scan's columns run from left to right and its slices downward."""
    affine = np.array([[0, 0, -1.0, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(scan((8, 8, 6)).data, affine=affine, unit="mm")
    found = predictor(AlongWorld()).predict(volume)
    expected = np.zeros((8, 8, 6), dtype=np.uint8)
    expected[:4, :, :3] = 1
    np.testing.assert_array_equal(found.labels, expected)
    np.testing.assert_array_equal(found.affine, affine)


def test_resampled_volumes_come_back_on_their_own_grid() -> None:
    z, y, x = np.mgrid[:10, :24, :24]
    ball = ((z - 5) * 3.0) ** 2 + (y - 12) ** 2 + (x - 12) ** 2 < 81
    volume = Volume(np.where(ball, 255, 0).astype(np.uint8)[None], affine=affine_from_spacing((3, 1, 1)), unit="mm")
    net = Identity()
    found = predictor(net, spacing=(1.5, 1.5, 1.5)).predict(volume)
    assert found.labels.shape == (10, 24, 24)
    overlap = 2 * np.count_nonzero(found.labels & ball) / (np.count_nonzero(found.labels) + np.count_nonzero(ball))
    assert overlap > 0.95
    assert sum(net.batches) == 6 * 3 * 3, "20 x 16 x 16 voxels at 1.5 mm"


def test_slices_come_as_soon_as_no_patch_touches_them_any_more() -> None:
    net, events = Identity(), []
    predictor(net, batch=1, overlap=0.0, patch=(4, 8, 8)).predict(
        scan((12, 8, 8)), first=6, on_slice=lambda z, *_: events.append((len(net.batches), z))
    )
    assert events[:4] == [(1, 6), (1, 5), (1, 7), (1, 4)]
    assert sorted(z for _, z in events) == list(range(12))
    assert [count for count, _ in events] == [1] * 4 + [2] * 4 + [3] * 4


def test_only_the_patches_of_the_asked_for_slices_run_and_they_give_the_same() -> None:
    volume, net = scan((30, 8, 8)), Identity()
    whole = probabilities(predictor(), volume)
    part = probabilities(predictor(net), volume, slices=[3, 4])
    np.testing.assert_allclose(part, whole[:, 3:5], atol=1e-6)
    assert sum(net.batches) == 2
    found = predictor().predict(volume, slices=[4])
    assert not found.labels[:4].any()
    assert not found.labels[5:].any()
    assert found.provenance["slices"] == [4]


def test_softmax_gives_background_first_and_class_values() -> None:
    class Three(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat((0.5 - image, image - 0.5, torch.full_like(image, -9)), dim=1) * 20

    classes = (ClassSpec(value=4, name="a"), ClassSpec(value=2, name="b"))
    volume = scan((7, 9, 9))
    found = predictor(Three(), classes=classes, head="softmax").predict(volume)
    np.testing.assert_array_equal(found.labels, np.where(volume.data[0] > 127, 4, 0))
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=2e-3)


def test_islands_are_dropped_over_the_whole_volume() -> None:
    data = np.zeros((1, 10, 10, 10), np.uint8)
    data[0, 2:8, 5, 5] = 255  # one pixel in each slice, six voxels together
    data[0, 0, 0, 0] = 255
    parts: dict[int, np.ndarray] = {}
    found = predictor(min_area=0.004).predict(Volume(data), on_slice=lambda z, labels, _: parts.update({z: labels}))
    expected = data[0] // 255
    expected[0, 0, 0] = 0
    np.testing.assert_array_equal(found.labels, expected)
    np.testing.assert_array_equal(np.stack([parts[z] for z in range(10)]), expected)


def test_flips_average_both_sides() -> None:
    class LeftOnly(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            logits = torch.full_like(image, -30.0)
            logits[..., :4] = 30.0
            return logits

    found = probabilities(predictor(LeftOnly(), flips=True), scan((6, 8, 8)))
    np.testing.assert_allclose(found, 0.5, atol=1e-6)


def test_progress_counts_patches() -> None:
    said: list[tuple[int, int, str]] = []
    predictor(batch=5).predict(scan(), progress=lambda *step: said.append(step))
    assert said[0] == (0, 24, "reading")
    assert said[-1] == (24, 24, "patch 24/24")
    assert [done for done, _, _ in said] == sorted(done for done, _, _ in said)


def test_progress_says_when_the_whole_is_read_first() -> None:
    said: list[tuple[int, int, str]] = []
    predictor(intensity="zscore", batch=1).predict(scan((40, 8, 8)), progress=lambda *step: said.append(step))
    assert [text for _, _, text in said[:4]] == ["reading", "reading, 16 slices", "reading, 32 slices", "patch 1/13"]
    assert {done for done, _, text in said if text.startswith("reading")} == {0}


def test_cancel_acts_between_patches_and_while_reading() -> None:
    for limit in (1, 4, 12):
        asked = iter(range(1000))
        net = Identity()

        def cancel(asked: Iterator[int] = asked, limit: int = limit) -> bool:
            return next(asked) >= limit

        with pytest.raises(Cancelled):
            predictor(net).predict(scan(), cancel=cancel)
        assert len(net.batches) < 24


def test_memory_is_saved_by_smaller_batches_then_said_to_be_too_small() -> None:
    class Hungry(Identity):
        limit = 1

        def forward(self, image: Tensor) -> Tensor:
            if len(image) > self.limit:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
            return super().forward(image)

    volume = scan()
    found = predictor(Hungry(), batch=4).predict(volume)
    np.testing.assert_array_equal(found.labels, volume.data[0] >= 128)
    assert any("went on with" in message for message in found.provenance["messages"])
    net = Hungry()
    net.limit = 0
    with pytest.raises(DeviceError, match="Memory does not suffice"):
        predictor(net).predict(volume)


def test_lazy_scans_are_read_once() -> None:
    volume = scan((5, 8, 8))
    read: list[int] = []

    def load(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(block_info[0]["array-location"][1][0])
        return block

    lazy = da.map_blocks(load, da.from_array(volume.data, chunks=(1, 1, 8, 8)), meta=np.empty((0,) * 4, np.uint8))
    found = predictor().predict(Volume(lazy))
    assert read == list(range(5))
    assert found.provenance["source"]["sha256"] == predictor().predict(volume).provenance["source"]["sha256"]


def test_odd_values_are_said() -> None:
    data = scan().data.astype(np.float32)
    data[0, 3, 2, 2] = np.nan
    said = predictor().predict(Volume(data)).provenance["messages"]
    assert any(text.startswith("Slice 3 has") and "the volume's smallest" in text for text in said)
    constant = predictor().predict(Volume(np.full((1, 6, 8, 8), 3, np.uint8)))
    assert constant.provenance["messages"] == ["The scan has the same value everywhere; nothing can be told from it."]

    class Nan(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image * torch.nan

    assert any("no finite value" in text for text in predictor(Nan()).predict(scan()).provenance["messages"])


def test_a_slice_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="Slice 9 does not exist"):
        predictor().predict(scan(), slices=[9])


def test_volumetric_says_what_the_network_sees() -> None:
    assert predictor().volumetric
    assert not Predictor(checkpoint(), "cpu").volumetric


def lazy_scan(shape: tuple[int, ...], chunk: int, **about: Any) -> tuple[Volume, list[Any]]:
    """Return a scan in chunks of ``chunk`` slices, and the list of those that were read."""
    read: list[Any] = []

    def load(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(block_info[0]["chunk-location"][1])
        return block

    values = scan(shape).data
    lazy = da.from_array(values, chunks=(1, chunk, *shape[1:]))
    return Volume(da.map_blocks(load, lazy, meta=np.empty((0,) * 4, np.uint8)), name="made", **about), read


@pytest.mark.parametrize("min_area", [0.0, 0.002])
@pytest.mark.parametrize("spacing", [None, (1.3, 1.0, 0.8)])
@pytest.mark.parametrize("intensity", ["uint8", "zscore"])
def test_a_lazy_volume_goes_into_zarr_as_it_would_into_memory(min_area: float, spacing: Any, intensity: str) -> None:
    zarr = pytest.importorskip("zarr")
    affine = np.array([[0, 0, 1.0, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # stored sagittally
    lazy, read = lazy_scan((31, 10, 9), 1, affine=affine, unit="mm")
    whole = Volume(scan((31, 10, 9)).data, affine, unit="mm", name="made")
    model = predictor(spacing=spacing, intensity=intensity, min_area=min_area)
    target = zarr.create_array(store={}, shape=lazy.grid, chunks=(4, 8, 8), dtype="uint8")
    given: dict[int, np.ndarray] = {}
    found = model.predict(lazy, first=20, into=target, on_slice=lambda z, labels, _: given.update({z: labels}))
    expected = model.predict(whole, first=20)
    assert found.labels is target
    assert found.probabilities is None
    assert expected.labels.any()
    np.testing.assert_array_equal(target[:], expected.labels)
    np.testing.assert_array_equal(np.stack([given[z] for z in range(31)]), expected.labels)
    assert found.provenance["source"] == expected.provenance["source"]
    passes = 1 + (intensity == "zscore")
    assert sorted(read) == sorted(passes * list(range(31)))


def test_the_first_slices_come_before_the_last_are_read() -> None:
    lazy, read = lazy_scan((60, 8, 8), 1)
    seen: list[tuple[int, int]] = []
    predictor().predict(lazy, first=30, on_slice=lambda z, *_: seen.append((z, len(set(read)))))
    assert seen[0][0] in range(27, 34)
    assert seen[0][1] <= 12
    assert [z for z, _ in seen][-1] in (0, 59)


def test_memory_does_not_grow_with_the_slices() -> None:
    class Nowhere:
        """Takes labels and keeps none."""

        dtype = np.dtype(np.uint8)

        def __init__(self, shape: tuple[int, ...]) -> None:
            self.shape = shape

        def __setitem__(self, index: Any, values: Any) -> None:
            pass

    peaks = []
    for slices in (20, 20, 120):  # the first warms up
        lazy, _ = lazy_scan((slices, 64, 64), 1)
        model = predictor(patch=(8, 64, 64))
        tracemalloc.start()
        model.predict(lazy, into=Nowhere(lazy.grid))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # dask's bookkeeping of the chunks is part of it; whole, the blend alone would take 100 x 64 x 64 x 8 bytes more
    assert peaks[2] - peaks[1] < 1_500_000


def test_odd_values_of_a_part_say_nothing_of_the_whole() -> None:
    data = scan((40, 8, 8)).data.copy()
    data[:, :20] = 3
    said = predictor().predict(Volume(data), slices=[4]).provenance["messages"]
    assert said == []
