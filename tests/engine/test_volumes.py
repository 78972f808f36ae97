"""Patches of volumes: where they lie, what they hold, and how whole volumes are scored."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from napari_llm4seg.config import ClassSpec, FitConfig, PreprocessConfig
from napari_llm4seg.engine.augment import Augmenter
from napari_llm4seg.engine.data import IGNORE, Case
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.engine.volumes import (
    LoadedVolume,
    VolumeTraining,
    VolumeValidation,
    _known,
    _places,
    cut,
    load_volume,
    load_volumes,
)
from napari_llm4seg.io import write
from napari_llm4seg.io.pairs import Pair
from napari_llm4seg.volume import Volume, affine_from_spacing

CLASSES = (ClassSpec(value=1, name="liver"), ClassSpec(value=4, name="spleen"))
PATCH = (6, 8, 8)


def made(name: str, shape: tuple[int, int, int] = (12, 18, 16), values: tuple[int, ...] = (1, 4)) -> LoadedVolume:
    """Return a volume whose image is its labels, with one small box for each class."""
    labels = torch.zeros(shape, dtype=torch.uint8)
    for value in values:
        labels[3:6, value : value + 3, 5:8] = value
    return LoadedVolume(name, labels[None].float(), labels, _places(labels, CLASSES, 0))


VOLUMES = [made(f"case{i}") for i in range(5)]


def test_a_third_of_the_patches_is_centred_on_a_class_and_the_classes_take_turns() -> None:
    source = VolumeTraining(VOLUMES, PATCH, "none", per_volume=4)
    assert len(source) == 20
    seen: Counter[int | None] = Counter()
    per_case: Counter[str] = Counter()
    for epoch in range(6):
        source.start_epoch(3, epoch)
        for number in range(20):
            volume, centre, value = source.centre(number)
            seen[value] += 1
            per_case[volume.name] += value is not None
            if value is not None:
                assert int(volume.labels[tuple(centre)]) == value
    assert seen == {None: 80, 1: 20, 4: 20}
    assert set(per_case.values()) == {8}, "every case gets its share"


def test_a_class_that_a_case_lacks_is_passed_over() -> None:
    source = VolumeTraining([made("a", values=(4,)), made("b", values=())], PATCH, "none", per_volume=9)
    source.start_epoch(0, 0)
    values = {number: source.centre(number)[2] for number in range(18)}
    assert set(values.values()) == {None, 4}
    assert all(values[number] is None for number in range(1, 18, 2))


def partly(shape: tuple[int, int, int] = (40, 18, 16), slices: tuple[int, ...] = (4, 21, 39)) -> LoadedVolume:
    """Return a volume of which a few slices are annotated, the first with a class in it, one scribbled on."""
    labels = torch.full(shape, IGNORE, dtype=torch.uint8)
    for z in slices:
        labels[z] = 0
    labels[slices[0], 5:8, 5:8] = 1
    labels[slices[-1], :, 8:] = IGNORE
    return LoadedVolume("part", labels[None].float(), labels, _places(labels, CLASSES, 0), _known(labels, 0))


def test_patches_of_what_is_annotated_in_part_meet_it() -> None:
    volume = partly()
    assert volume.known is not None
    assert len(volume.known) == 18 * 16 * 2 + 18 * 8
    assert all(int(volume.labels[tuple(at)]) != IGNORE for at in volume.known)
    source = VolumeTraining([volume], PATCH, "none", per_volume=30)
    met: Counter[int] = Counter()
    for epoch in range(4):
        source.start_epoch(5, epoch)
        images, labels = source.batch(torch.arange(30))
        assert torch.equal(images[:, 0], labels.float())
        for number in range(30):
            assert (labels[number] != IGNORE).any()
            rest = (number + epoch) % 3
            met[rest] += bool((labels[number] == 1).any())
            if rest == 0:
                volume, centre, value = source.centre(number)
                assert value == 1 == int(volume.labels[tuple(centre)])
        starts = {tuple(source.centre(number)[1]) for number in range(30)}
        assert len(starts) > 15, "they do not lie in one place"
    assert met[0] == met[1] == 40, "two of three hold a class"
    assert 0 < met[2] < 40, "the third anything annotated"


@pytest.mark.parametrize("slices", [(20,), (0, 39)])
def test_augmentation_does_not_lose_a_thin_slice(slices: tuple[int, ...]) -> None:
    source = VolumeTraining([partly((40, 30, 30), slices)], (16, 16, 16), "strong", per_volume=40)
    source.start_epoch(0, 0)
    images, labels = source.batch(torch.arange(40))
    assert images.shape == (40, 1, 16, 16, 16)
    assert ((labels != IGNORE).flatten(1).sum(1) > 0).all()


def test_volumes_of_before_come_among_the_new_ones_in_their_share() -> None:
    source = VolumeTraining(VOLUMES[:2], PATCH, "none", per_volume=4, replay=VOLUMES[2:], share=0.5)
    assert len(source) == 8 + 4
    seen: Counter[str] = Counter()
    for epoch in range(10):
        source.start_epoch(0, epoch)
        names = [source.centre(number)[0].name for number in range(len(source))]
        assert Counter(names[:8]) == {"case0": 4, "case1": 4}
        seen.update(names[8:])
    assert set(seen) == {"case2", "case3", "case4"}
    assert source.names == tuple(f"case{i}" for i in range(5))
    assert len(VolumeTraining(VOLUMES[:2], PATCH, "none", 4, VOLUMES[2:], share=0)) == 8
    assert source.layout != VolumeTraining(VOLUMES[:2], PATCH, "none", per_volume=4).layout


def test_patches_of_what_is_annotated_whole_lie_where_they_did() -> None:
    assert _known(VOLUMES[0].labels, 0) is None
    source = VolumeTraining(VOLUMES, PATCH, "none", per_volume=4)
    source.start_epoch(3, 1)
    assert [source.centre(number)[1] for number in range(4)] == [[6, 11, 9], [6, 14, 9], [3, 4, 6], [5, 4, 8]]


def test_patches_hold_their_class_and_lie_inside() -> None:
    source = VolumeTraining(VOLUMES, PATCH, "none", per_volume=6)
    source.start_epoch(0, 0)
    images, labels = source.batch(torch.arange(30))
    assert images.shape == (30, 1, *PATCH)
    assert labels.shape == (30, *PATCH)
    assert labels.dtype == torch.uint8
    assert torch.equal(images[:, 0], labels.float())
    for number in range(0, 30, 3):
        assert (labels[number] == source.centre(number)[2]).any()
    assert len({tuple(source.centre(number)[1]) for number in range(30)}) > 15


@pytest.mark.parametrize("strength", ["none", "paper", "strong"])
def test_a_patch_is_the_same_in_whatever_batch_and_order_it_comes(strength: str) -> None:
    source = VolumeTraining(VOLUMES, PATCH, strength, per_volume=2)  # type: ignore[arg-type]
    source.start_epoch(7, 3)
    together = source.batch(torch.arange(10))
    apart = [source.batch(torch.tensor([i])) for i in reversed(range(10))][::-1]
    assert torch.equal(together[0], torch.cat([images for images, _ in apart]))
    assert torch.equal(together[1], torch.cat([labels for _, labels in apart]))
    source.start_epoch(7, 4)
    assert not torch.equal(together[1], source.batch(torch.arange(10))[1])


@settings(deadline=None, max_examples=50)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    where=st.tuples(*[st.floats(0, 0.999)] * 3),
)
def test_boxes_of_any_size_from_volumes_of_any_size(
    shape: tuple[int, ...], size: tuple[int, ...], where: tuple[float, ...]
) -> None:
    labels = torch.arange(int(np.prod(shape))).reshape(shape).remainder(200).to(torch.uint8)
    centre = [int(part * side) for part, side in zip(where, shape, strict=True)]
    image, found = cut(LoadedVolume("a", labels[None].float(), labels), centre, size)
    assert image.shape == (1, *size)
    assert found.shape == size
    known = found != IGNORE
    assert torch.equal(image[0][known], found[known].float())
    assert int(known.sum()) == np.prod([min(a, b) for a, b in zip(size, shape, strict=True)])
    assert bool((found == labels[tuple(centre)]).any()), "the centre is always inside"


def test_strong_augmentation_moves_image_and_labels_alike() -> None:
    labels = torch.zeros(8, 20, 24, 24, dtype=torch.uint8)
    labels[:, 6:14, 8:16, 4:12] = 4
    labels[:, :2] = IGNORE
    image = torch.where(labels == 4, 1.0, -1.0)[:, None]
    images, found = Augmenter("strong", (16, 20, 20))(image, labels, range(8))
    assert images.shape == (8, 1, 16, 20, 20)
    assert set(found.unique().tolist()) <= {0, 4, IGNORE}
    assert images[:, 0][found == 4].mean() > images[:, 0][found == 0].mean() + 0.8
    assert len({int((found[i] == 4).sum()) for i in range(8)}) > 4, "sizes vary"
    again = Augmenter("strong", (16, 20, 20))(image, labels, range(8))
    assert torch.equal(images, again[0])


def test_paper_flips_left_and_right_alone() -> None:
    image = torch.rand(6, 1, 4, 4, 4)
    images, _ = Augmenter("paper", (4, 4, 4))(image, torch.zeros(6, 4, 4, 4, dtype=torch.uint8), range(6))
    flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(images, image, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(images, image, strict=True)]
    assert all(f or s for f, s in zip(flipped, same, strict=True))
    assert any(flipped)
    assert any(same)


class Told(nn.Module):
    """Reads the answer from the image, whose values are the labels; wrong below row ``wrong``."""

    def __init__(self, wrong: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.wrong = wrong

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[2:] == PATCH
        return torch.cat([(image == value).float() * 30 for value in (0, 1, 4)], dim=1)


def score(volumes: list[LoadedVolume], index: list[int], net: nn.Module | None = None) -> dict[str, Tensor]:
    source = VolumeValidation(volumes, PATCH, CLASSES)
    objective = Objective(CLASSES, "softmax", FitConfig())
    with torch.inference_mode():
        return source.score(net or Told(), objective, torch.tensor(index), 0.5)


def test_whole_volumes_are_scored_class_by_class() -> None:
    missing = made("b", values=(1, 4))
    missing.image[missing.image == 4] = 0  # the network cannot see the spleen there
    small = made("c", (4, 9, 7), values=())
    rows = score([VOLUMES[0], missing, small], [0, 1, 2])
    assert set(rows) == {"val_loss", "val_iou", "val_dice", "val_dice_liver", "val_dice_spleen"}
    assert rows["val_dice_liver"].tolist() == [1, 1, 1]
    assert rows["val_dice_spleen"].tolist() == [1, 0, 1]
    assert rows["val_dice"].tolist() == rows["val_iou"].tolist() == [1, 0.5, 1]
    assert float(rows["val_loss"][0]) < 1e-3 < float(rows["val_loss"][1])
    assert score([VOLUMES[0], missing, small], [1])["val_loss"][0] == rows["val_loss"][1]


def test_what_was_not_annotated_is_not_scored() -> None:
    volume = made("a")
    volume.image[0, 10:] = 4  # a false answer where nothing is known
    volume.labels[10:] = IGNORE
    assert score([volume], [0])["val_dice"].tolist() == [1]


def test_sigmoid_heads_are_scored_by_the_threshold() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, image: Tensor) -> Tensor:
            return torch.logit(torch.where(image == 1, 0.6, 0.2))

    one = (CLASSES[0],)
    source, objective = VolumeValidation(VOLUMES, PATCH, one), Objective(one, "sigmoid", FitConfig())
    with torch.inference_mode():
        assert source.score(Half(), objective, torch.tensor([0]), 0.5)["val_dice"].tolist() == [1]
        assert source.score(Half(), objective, torch.tensor([0]), 0.7)["val_dice"].tolist() == [0]


def test_other_data_or_patches_are_told_apart() -> None:
    source = VolumeTraining(VOLUMES, PATCH, "none")
    assert source.names == tuple(f"case{i}" for i in range(5))
    assert source.fingerprint().shape == (5, 3)
    other = [made("case0", values=(1,)), *VOLUMES[1:]]
    assert not torch.allclose(source.fingerprint(), VolumeTraining(other, PATCH, "none").fingerprint(), atol=1e-3)
    layouts = {source.layout, VolumeTraining(VOLUMES, (6, 8, 10), "none").layout}
    layouts |= {VolumeTraining(VOLUMES, PATCH, "none", 2).layout, VolumeTraining(other[:1], PATCH, "none").layout}
    assert len(layouts) == 4


def test_cases_are_read_onto_the_networks_grid(tmp_path: Path) -> None:
    labels = np.zeros((1, 6, 9, 8), np.uint8)
    labels[0, 1, 2:5, 3:6] = 4
    affine = affine_from_spacing((2, 1, 1)) @ np.diag([1, -1, 1, 1.0])
    image = Volume(labels.astype(np.float32) * 10, affine=affine, unit="mm")
    for name, volume in (("image", image), ("mask", Volume(labels, affine=affine, unit="mm", kind="label"))):
        write(tmp_path / name / "a.nii.gz", volume)
    case = Case(Pair("a", tmp_path / "image" / "a.nii.gz", tmp_path / "mask" / "a.nii.gz"), "a", "")
    config = PreprocessConfig(patch=PATCH, spacing=(1, 1, 1), intensity="minmax", mean=(0,), sd=(1,), antialias=False)
    (loaded,) = load_volumes([case], config, CLASSES)
    assert loaded.image.shape == (1, 12, 9, 8)
    expected = np.repeat(labels[0], 2, axis=0)[:, ::-1]
    np.testing.assert_array_equal(loaded.labels, expected)
    assert float(loaded.image[0][loaded.labels == 4].min()) > 0.7
    assert {value: len(voxels) for value, voxels in loaded.places.items()} == {4: 18}


def test_corrected_slices_are_not_lost_on_a_coarser_grid() -> None:
    labels = np.full((20, 9, 8), IGNORE, np.uint8)
    for z in (3, 8, 13, 18):
        labels[z] = 0
        labels[z, 2:5, 3:6] = 4
    volume = Volume(np.zeros((1, 20, 9, 8), np.float32), affine=affine_from_spacing((1, 1, 1)), unit="mm")
    config = PreprocessConfig(patch=PATCH, spacing=(2, 1, 1), intensity="minmax", mean=(0,), sd=(1,))
    loaded = load_volume("a", volume, labels, config, CLASSES)
    assert (loaded.labels != IGNORE).flatten(1).any(1).nonzero().flatten().tolist() == [1, 4, 6, 9]
    assert {value: len(voxels) for value, voxels in loaded.places.items()} == {4: 4 * 9}


@pytest.mark.data
def test_real_hippocampi_lie_upright_with_their_labels(data_dir: Path) -> None:
    folder = data_dir / "msd_hippocampus"
    path = sorted((folder / "imagesTr").glob("*.nii.gz"))[0]
    case = Case(Pair("a", path, folder / "labelsTr" / path.name), "a", "")
    classes = (ClassSpec(value=1, name="anterior"), ClassSpec(value=2, name="posterior"))
    config = PreprocessConfig(patch=(40, 56, 40), spacing=(1, 1, 1), intensity="zscore", mean=(0,), sd=(1,))
    (loaded,) = load_volumes([case], config, classes)
    front, behind = ((loaded.labels == value).nonzero().float().mean(0) for value in (1, 2))
    assert behind[1] > front[1] + 5, "the second axis runs to posterior"
    assert abs(float(loaded.image.mean())) < 1e-4
    assert float(loaded.image.std()) == pytest.approx(1, abs=1e-3)
