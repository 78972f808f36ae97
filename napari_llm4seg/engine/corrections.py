"""A person's corrections on the way into a training: from a project or from folders, to samples and volumes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_llm4seg.config import ClassSpec, PreprocessConfig
from napari_llm4seg.corrections import SampleStore, ScanEntry
from napari_llm4seg.digests import voxel_digest
from napari_llm4seg.engine.data import IGNORE, Samples
from napari_llm4seg.engine.duplicates import groups_of, thumbnail
from napari_llm4seg.engine.held_back import Item
from napari_llm4seg.engine.volumes import LoadedVolume, load_volume
from napari_llm4seg.errors import InputError
from napari_llm4seg.io import read
from napari_llm4seg.io.pairs import as_classes, find_pairs, read_mask
from napari_llm4seg.planes import at
from napari_llm4seg.preprocess import Preprocessor
from napari_llm4seg.volume import Unit, Volume, affine_from_spacing

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Correction:
    """A slice with what is known of its mask.

    Attributes
    ----------
    image : array (C, Y, X) in the scan's own values
    labels : integer array (Y, X)
        Label values; 255 (65535 in uint16) is not annotated.
    name : str
    scan : str
        What its slices have in common.
    axis, index : int
        Where it lies in its scan's grid.
    alone : bool
        Whether it is all there is of its scan along that axis: an image of its own.
    spacing : (y, x) in ``unit``
    """

    image: Array
    labels: Array
    name: str
    scan: str = ""
    axis: int = 0
    index: int = 0
    alone: bool = True
    spacing: tuple[float, float] = (1.0, 1.0)
    unit: Unit = "pixel"

    @cached_property
    def digest(self) -> str:
        """Of the image alone, as ``Record.image_digest``: a slice corrected again is the same one."""
        return voxel_digest(self.image).hex()

    @cached_property
    def size(self) -> int:
        """Number of pixels that are annotated as something but background."""
        return int(np.count_nonzero(~self._unknown & (self.labels != 0)))

    @cached_property
    def values(self) -> frozenset[int]:
        """Label values that are annotated, without the background's 0."""
        return frozenset(int(value) for value in np.unique(self.labels[~self._unknown])) - {0}

    @property
    def _unknown(self) -> Array:
        return np.asarray(self.labels == (65535 if self.labels.dtype == np.uint16 else IGNORE))

    @property
    def key(self) -> tuple[str, int, int]:
        """Scan, axis and index, as a record's."""
        return self.scan, self.axis, self.index

    @property
    def volume(self) -> Volume:
        """The slice as a scan of its own."""
        affine = affine_from_spacing((1.0, *self.spacing))
        return Volume(self.image[:, None], affine, unit=self.unit, name=self.name)

    def truth(self, classes: Sequence[ClassSpec]) -> Array:
        """Return the labels (Y, X) as those of ``classes``, 255 where nothing is known.

        Raises
        ------
        InputError
            If one is none of several classes.
        """
        unknown = self._unknown
        known = as_classes(np.where(unknown, 0, self.labels), classes, self.name)
        return np.where(unknown, IGNORE, known).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Corrections:
    """Corrected slices, and their whole scans for networks that see volumes.

    Attributes
    ----------
    slices : tuple of Correction
    volumes : mapping of a scan's name to what returns it
    messages : tuple of str
        What could not be read, one sentence each.
    """

    slices: tuple[Correction, ...]
    volumes: Mapping[str, Callable[[], Volume]] = field(default_factory=dict)
    messages: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, which: Sequence[int]) -> Corrections:
        return Corrections(tuple(self.slices[i] for i in which), self.volumes)

    def needs_some(self) -> None:
        """Raise InputError where there is no slice."""
        if not self.slices:
            raise InputError("There is no corrected slice to train on; correct or confirm at least one.")

    def items(self) -> list[Item]:
        """Return the slices as ``held_back.hold_back`` takes them; images of their own by near-duplicate group."""
        alone = [each for each in self.slices if each.alone]
        groups: dict[int, int] = {}
        if alone:
            found = groups_of(np.stack([thumbnail(each.volume) for each in alone]))
            groups = {id(each): group for each, group in zip(alone, found, strict=True)}
        return [
            Item(each.digest, f"group {groups[id(each)]}", size=each.size)
            if each.alone
            else Item(each.digest, f"{each.scan} axis {each.axis}", each.index, each.size)
            for each in self.slices
        ]

    def samples(self, config: PreprocessConfig, classes: Sequence[ClassSpec]) -> Samples:
        """Return the slices on the grid of a two-dimensional network.

        Raises
        ------
        InputError
            If an image cannot be converted, a label is no class, or there is no slice.
        """
        self.needs_some()
        preprocessor = Preprocessor(config)
        images, labels = [], []
        for each in self.slices:
            tensor, trace = preprocessor.apply(each.volume, [0])
            images.append(tensor)
            labels.append(preprocessor.labels_to_grid(each.truth(classes)[None], trace, fill=IGNORE).to(torch.uint8))
        return Samples(torch.cat(images), torch.cat(labels), tuple(each.name for each in self.slices))

    def loaded(self, config: PreprocessConfig, classes: Sequence[ClassSpec], skip: bool = False) -> list[LoadedVolume]:
        """Return the scans on the grid of a three-dimensional network, annotated where these slices are.

        With ``skip`` those that are not at hand any more are left out.

        Raises
        ------
        InputError
            If a scan is not at hand, or as for ``samples``.
        """
        found = []
        for number, scan in enumerate(dict.fromkeys(each.scan for each in self.slices)):
            try:
                volume = self.volume(scan)
            except InputError:
                if not skip:
                    raise
                continue
            labels = np.full(volume.grid, IGNORE, dtype=np.uint8)
            for each in self.slices:
                if each.scan == scan:
                    target, truth = labels[at(each.axis, each.index)], each.truth(classes)
                    target[truth != IGNORE] = truth[truth != IGNORE]
            found.append(load_volume(scan, volume, labels, config, classes, number))
        return found

    def volume(self, scan: str) -> Volume:
        """Return a whole scan."""
        if scan not in self.volumes:
            raise InputError(f"The scan '{scan}' is not at hand as a volume, which this checkpoint needs.")
        return self.volumes[scan]()


def from_store(store: SampleStore, scans: Collection[str] | None = None) -> Corrections:
    """Return a project's corrections, of the scans with these ids or of all.

    Slices without a single annotated pixel are left out, and so are damaged records, which ``messages`` tells of.
    """
    chosen = [scan for scan in store.scans() if scans is None or scan.id in scans]
    slices, messages = [], []
    for scan in chosen:
        for record in store.records(scan):
            if not record.annotated:
                continue
            try:
                image, labels = store.load(record)
            except InputError as error:
                messages.append(str(error))
            else:
                slices.append(_of_scan(scan, image, labels, record.axis, record.index, record.where))
    return Corrections(tuple(slices), {scan.id: _volume_of(store, scan) for scan in chosen}, tuple(messages))


def _of_scan(scan: ScanEntry, image: Array, labels: Array, axis: int, index: int, where: str) -> Correction:
    spacing = tuple(step for other, step in enumerate(scan.spacing) if other != axis)
    alone = scan.grid[axis] == 1
    return Correction(
        image,
        labels,
        scan.name if alone else f"{scan.name}, {where}",
        scan.id,
        axis,
        index,
        alone,
        (spacing[0], spacing[1]),
        scan.unit,
    )


def _volume_of(store: SampleStore, scan: ScanEntry) -> Callable[[], Volume]:
    return lambda: store.volume(scan)


def from_folders(images: Path, masks: Path, progress: Callable[[int, int, str], Any] | None = None) -> Corrections:
    """Return pairs of scans and masks of the same stems: every slice with an annotated pixel, 255 being not annotated.

    Raises
    ------
    InputError
        If the folders hold no pairs or a file cannot be used.
    """
    pairs = find_pairs(images, masks)
    slices: list[Correction] = []
    volumes: dict[str, Callable[[], Volume]] = {}
    for done, pair in enumerate(pairs):
        volume = read(pair.image)
        mask = read_mask(pair.mask, volume)
        volumes[pair.stem] = lambda path=pair.image: read(path)  # type: ignore[misc]
        unknown = 65535 if mask.dtype == np.uint16 else IGNORE
        for z in range(volume.n_slices):
            if (mask[z] != unknown).any():
                alone = volume.n_slices == 1
                name = pair.stem if alone else f"{pair.stem}, slice {z}"
                where = (0, z, alone, volume.spacing[1:], volume.unit)
                slices.append(Correction(volume.slice_at(z), mask[z], name, pair.stem, *where))
        if progress:
            progress(done + 1, len(pairs), "reading")
    return Corrections(tuple(slices), volumes)
