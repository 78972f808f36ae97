"""Volumes to train on, in patches that meet every class, and to be judged by, whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_llm4seg.config import ClassSpec, PreprocessConfig
from napari_llm4seg.engine.augment import Augmenter, Strength
from napari_llm4seg.engine.data import IGNORE, Case, read_case
from napari_llm4seg.engine.objective import Objective
from napari_llm4seg.engine.source import sample_seed
from napari_llm4seg.metrics import dice, iou
from napari_llm4seg.models.backbone import channels_last
from napari_llm4seg.preprocess import VolumePreprocessor
from napari_llm4seg.tiling import Blend, Tiling
from napari_llm4seg.volume import Volume

Grid = tuple[int, int, int]

# Of three patches one is centred on a class, as in nnU-Net; the others lie anywhere. Where only a part is annotated
# the second of three has a class somewhere in it, and the third anything annotated.
_EVERY_THIRD = 3
# Places remembered of each class and case: enough to draw from, small for any organ.
_PLACES = 10_000
# Patches a rotation and a shrinking are cut from are this much larger, so that no corner has to be made up.
_MARGIN = 1.25


@dataclass(frozen=True)
class LoadedVolume:
    """A case on the network's grid.

    Attributes
    ----------
    name : str
    image : tensor (C, D, H, W), float32, normalised
    labels : tensor (D, H, W), uint8 label values; 255 is not annotated
    places : for every class in the volume, its value and some of its voxels (n, 3) int64
    known : some of the annotated voxels (n, 3) int64, or None where everything is annotated
    """

    name: str
    image: Tensor
    labels: Tensor
    places: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    known: npt.NDArray[np.int64] | None = None


def load_volumes(
    cases: Sequence[Case],
    config: PreprocessConfig,
    classes: Sequence[ClassSpec],
    progress: Callable[[int, int, str], None] | None = None,
) -> list[LoadedVolume]:
    """Read cases onto the network's grid.

    Parameters
    ----------
    cases, config, classes, progress
        As in ``napari_llm4seg.engine.data.load_samples``, for a config with a patch.

    Raises
    ------
    InputError
        If a scan or mask cannot be used.
    """
    loaded = []
    for done, case in enumerate(cases):
        volume, mask = read_case(case, classes)
        loaded.append(load_volume(case.name, volume, mask, config, classes, done))
        if progress:
            progress(done + 1, len(cases), "reading")
    return loaded


def load_volume(
    name: str,
    volume: Volume,
    mask: npt.NDArray[np.integer[Any]],
    config: PreprocessConfig,
    classes: Sequence[ClassSpec],
    seed: int = 0,
) -> LoadedVolume:
    """Return a scan and the label values (Z, Y, X) of its mask on the network's grid; ``seed`` picks its places."""
    preprocessor = VolumePreprocessor(config)
    image, trace = preprocessor.apply(volume)
    labels = preprocessor.labels_to_grid(mask, trace, unknown=IGNORE).to(torch.uint8)
    return LoadedVolume(name, image, labels, _places(labels, classes, seed), _known(labels, seed))


def _places(labels: Tensor, classes: Sequence[ClassSpec], seed: int) -> dict[int, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    found = {spec.value: _some(labels == spec.value, rng) for spec in classes}
    return {value: voxels for value, voxels in found.items() if len(voxels)}


def _known(labels: Tensor, seed: int) -> npt.NDArray[np.int64] | None:
    known = labels != IGNORE
    return None if bool(known.all()) else _some(known, np.random.default_rng(seed))


def _some(members: Tensor, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the voxels of ``members`` (D, H, W), or as many of them as are remembered, (n, 3)."""
    voxels: npt.NDArray[np.int64] = members.nonzero().numpy()
    return voxels if len(voxels) <= _PLACES else voxels[rng.choice(len(voxels), _PLACES, replace=False)]


class _VolumeSource:
    def __init__(self, volumes: Sequence[LoadedVolume], patch: Grid) -> None:
        self.volumes, self.patch = volumes, patch

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(volume.name for volume in self.volumes)

    @property
    def layout(self) -> str:
        return f"{self.patch} of {[tuple(volume.image.shape) for volume in self.volumes]}"

    def fingerprint(self) -> Tensor:
        rows = []
        for volume in self.volumes:
            drawn = ((volume.labels > 0) & (volume.labels != IGNORE)).float().mean()
            rows.append(torch.stack((volume.image.mean(), volume.image.std(correction=0), drawn)))
        return torch.stack(rows)


class VolumeTraining(_VolumeSource):
    """Patches of volumes held in memory: every third is centred on a class, the classes in turn.

    Of a volume that is annotated in part, such as in five corrected slices, every patch holds something annotated: two
    of three a class, one anything.

    Parameters
    ----------
    volumes : sequence of LoadedVolume
    patch : (D, H, W) in voxels
        Smaller volumes are padded by reflection; what lies there counts as not annotated.
    strength : {"none", "paper", "strong", "aligned"}
        See ``Augmenter``.
    per_volume : int
        Patches of each volume per epoch.
    replay : sequence of LoadedVolume
        What shall not be forgotten: patches of these, drawn at random, come into every epoch too.
    share : float
        Number of replayed patches for each other one.
    """

    def __init__(
        self,
        volumes: Sequence[LoadedVolume],
        patch: Grid,
        strength: Strength,
        per_volume: int = 1,
        replay: Sequence[LoadedVolume] = (),
        share: float = 0.5,
    ) -> None:
        super().__init__([*volumes, *replay], patch)
        self._new, self._per_volume = len(volumes), per_volume
        self._replayed = round(share * per_volume * self._new) if replay else 0
        self._augmenter = Augmenter(strength, patch)
        enlarge = _MARGIN if strength in ("strong", "aligned") else 1.0
        self._cut = [round(side * enlarge) for side in patch]
        self._epoch = (0, 0)

    @property
    def layout(self) -> str:
        replayed = f", {self._replayed} of the last {len(self.volumes) - self._new}" if self._replayed else ""
        return f"{super().layout}, {self._per_volume} each{replayed}"

    def __len__(self) -> int:
        return self._new * self._per_volume + self._replayed

    def start_epoch(self, seed: int, epoch: int) -> None:
        self._epoch = (seed, epoch)

    def centre(self, number: int) -> tuple[LoadedVolume, list[int], int | None]:
        """Return the volume of sample ``number``, where its patch is centred, and on which class, if on one."""
        rng = np.random.default_rng(sample_seed(*self._epoch, number))
        replayed = number >= self._new * self._per_volume
        which = int(rng.integers(self._new, len(self.volumes))) if replayed else number % self._new
        volume = self.volumes[which]
        turn, rest = divmod(number + self._epoch[1], _EVERY_THIRD)
        value = sorted(volume.places)[turn % len(volume.places)] if volume.places else None
        if rest == 0 and value is not None:
            voxels = volume.places[value]
            return volume, voxels[rng.integers(len(voxels))].tolist(), value
        if volume.known is not None and len(volume.known):
            voxels = volume.places[value] if rest == 1 and value is not None else volume.known
            place = voxels[rng.integers(len(voxels))].tolist()
            # the place is anywhere in the patch
            return (
                volume,
                [at - int(rng.integers(side)) + side // 2 for at, side in zip(place, self.patch, strict=True)],
                None,
            )
        # anywhere the patch lies inside, and in the middle where it does not fit
        spans = [
            (side // 2, size - (side - side // 2)) for side, size in zip(self.patch, volume.labels.shape, strict=True)
        ]
        return (
            volume,
            [int(rng.integers(low, high + 1)) if high >= low else (low + high) // 2 for low, high in spans],
            None,
        )

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        numbers = index.tolist()
        taken = [self.centre(number)[:2] for number in numbers]
        boxes = [cut(volume, centre, self._cut) for volume, centre in taken]
        seeds = [sample_seed(*self._epoch, number) for number in numbers]
        images, labels = self._augmenter(
            torch.stack([image for image, _ in boxes]), torch.stack([label for _, label in boxes]), seeds
        )
        for at, (volume, centre) in enumerate(taken):
            if volume.known is not None and bool((labels[at] == IGNORE).all()):
                # a thin slice fell between the voxels of a smaller copy, or was moved out of it: as it lies, then
                images[at], labels[at] = cut(volume, centre, self.patch)
        return images, labels


def cut(volume: LoadedVolume, centre: Sequence[int], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return a box of ``size`` around ``centre`` of the image (C, *size) and its labels (*size).

    Where it would leave the volume it is moved inside; where the volume is too small it is padded by reflection, with
    labels of 255.
    """
    grid = volume.labels.shape
    image, labels = volume.image, volume.labels
    for axis, (middle, side, length) in enumerate(zip(centre, size, grid, strict=True)):
        start = min(max(0, middle - side // 2), max(0, length - side))
        kept = min(side, length)
        image, labels = image.narrow(axis + 1, start, kept), labels.narrow(axis, start, kept)
    padding = Tiling(tuple(labels.shape), tuple(size)).padding
    if any(map(any, padding)):
        image = torch.from_numpy(np.pad(image.numpy(), ((0, 0), *padding), mode="reflect"))
        labels = torch.from_numpy(np.pad(labels.numpy(), padding, constant_values=IGNORE))
    return image, labels


class VolumeValidation(_VolumeSource):
    """Whole volumes, scored on the network's grid after overlapping patches were blended.

    Parameters
    ----------
    volumes, patch
        As for training.
    classes : sequence of ClassSpec
        Whose names the scores get.
    overlap : float in [0, 1)
    """

    def __init__(
        self, volumes: Sequence[LoadedVolume], patch: Grid, classes: Sequence[ClassSpec], overlap: float = 0.5
    ) -> None:
        super().__init__(volumes, patch)
        self._classes, self._overlap = classes, overlap

    def score(self, net: nn.Module, objective: Objective, index: Tensor, threshold: float) -> dict[str, Tensor]:
        """Return loss, IoU and Dice, and the Dice of each class ("val_dice_NAME"); both masks empty count 1."""
        rows = []
        for number in index.tolist():
            volume = self.volumes[number]
            logits = self._logits(net, volume, objective.head)
            known = volume.labels != IGNORE
            found = (objective.predicted(logits, threshold)[0] & known).numpy()
            truth = (objective.members(volume.labels[None])[0] & known).numpy()
            dices = [dice(f, t) for f, t in zip(found, truth, strict=True)]
            row = {
                "val_loss": float(objective(logits, volume.labels[None])),
                "val_iou": float(np.mean([iou(f, t) for f, t in zip(found, truth, strict=True)])),
                "val_dice": float(np.mean(dices)),
            }
            rows.append(row | {f"val_dice_{spec.name}": d for spec, d in zip(self._classes, dices, strict=True)})
        return {key: torch.tensor([row[key] for row in rows], dtype=torch.float64) for key in rows[0]}

    def _logits(self, net: nn.Module, volume: LoadedVolume, head: str) -> Tensor:
        """Return logits (1, K, D, H, W) whose sigmoid or softmax are the blended probabilities."""
        device = next(net.parameters()).device
        tiling = Tiling(tuple(volume.labels.shape), self.patch, self._overlap)
        padded = tiling.pad(volume.image.numpy())
        blend: Blend | None = None
        for number in range(len(tiling)):
            tile = torch.from_numpy(tiling.tiles(padded, [number])).to(device, memory_format=channels_last(3))
            logits = net(tile).float()
            probabilities = (logits.sigmoid() if head == "sigmoid" else logits.softmax(1)).cpu()
            blend = blend or Blend(tiling, probabilities.shape[1])
            blend.add([number], probabilities.numpy())
        assert blend is not None  # a tiling has a tile
        blended = torch.from_numpy(blend.result())[None].clamp(1e-7, 1 - 1e-7)
        return torch.logit(blended) if head == "sigmoid" else F.log_softmax(blended.log(), dim=1)
