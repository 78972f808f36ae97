"""The study's cases: scans whose whole mask is known, seen as a row of slices or images that an oracle corrects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.engine.data import load_cases
from napari_llm4seg.engine.recipe import load_recipe
from napari_llm4seg.engine.scratch import classes_of
from napari_llm4seg.engine.split import split_cases
from napari_llm4seg.errors import InputError
from napari_llm4seg.io import read
from napari_llm4seg.io.pairs import as_classes, read_mask
from napari_llm4seg.volume import Volume
from training.annotation_effort.plan import CaseConfig

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Case:
    """A stack of slices, or a set of images.

    Attributes
    ----------
    name : str
    scans : sequence of Volume
        One for a stack; as many as images for a set, each of one slice.
    truths : sequence of array (Y, X)
        True label values of every slice, in order.
    classes : tuple of ClassSpec
    modality : str
    """

    name: str
    scans: Sequence[Volume]
    truths: Sequence[Array]
    classes: tuple[ClassSpec, ...]
    modality: str = ""

    def __len__(self) -> int:
        return len(self.truths)

    @property
    def stack(self) -> bool:
        """Whether neighbours show the same thing."""
        return len(self.scans) == 1

    def place(self, number: int) -> tuple[Volume, int]:
        """Return the scan that holds slice ``number`` and where in it."""
        return (self.scans[0], number) if self.stack else (self.scans[number], 0)

    def image(self, number: int) -> Array:
        """Return slice ``number`` as (C, Y, X) in the scan's own values."""
        scan, z = self.place(number)
        return np.asarray(scan.slice_at(z))

    def present(self) -> list[int]:
        """Return the slices that hold something."""
        return [number for number, truth in enumerate(self.truths) if truth.any()]

    def correct(self, store: SampleStore, numbers: Sequence[int], whole: bool = False) -> None:
        """Do what the oracle does: put the true masks of these slices into a project.

        ``whole`` keeps the scan's voxels too, which three-dimensional networks need.
        """
        entries = {}
        for number in numbers:
            scan, z = self.place(number)
            if id(scan) not in entries:
                entries[id(scan)] = store.put_scan(scan) if whole else store.scan_for(scan)
            store.put(entries[id(scan)], z, 0, self.image(number), self.truths[number], "edited")


def data_folder() -> Path:
    """Return the folder of the data sets.

    Raises
    ------
    InputError
        If ``LLM4SEG_DATA`` names none.
    """
    root = os.environ.get("LLM4SEG_DATA", "")
    if not root or not Path(root).is_dir():
        raise InputError(f"The data folder {root!r} does not exist; set LLM4SEG_DATA to where the data sets lie.")
    return Path(root)


def load_case(name: str, config: CaseConfig, beside: Path) -> Case:
    """Read a case; a recipe's path is relative to the folder ``beside``.

    Raises
    ------
    InputError
        If a file is missing or holds something else.
    """
    if config.recipe is not None:
        return _of_recipe(name, config, beside / config.recipe)
    root = data_folder()
    assert config.image is not None  # the plan's own check
    assert config.mask is not None
    scan = read(root / config.image)
    labels = read_mask(root / config.mask, scan)
    classes = classes_of(list(config.values))
    truth = np.zeros(labels.shape, dtype=np.uint8)
    for spec in classes:
        truth[labels == config.values[spec.name]] = spec.value
    if not truth.any():
        raise InputError(f"'{config.mask}' holds none of the values of case '{name}'.")
    return Case(name, (scan,), list(truth), classes, config.modality)


def _of_recipe(name: str, config: CaseConfig, path: Path) -> Case:
    recipe = load_recipe(path)
    cases = {case.name: case for case in load_cases(recipe.data)}
    split = split_cases(list(cases.values()), recipe.split)
    chosen = [cases[stem] for stem in getattr(split, config.part)]
    if config.stratum is not None:
        chosen = [case for case in chosen if case.stratum == config.stratum]
    if config.number is not None:
        chosen = chosen[config.number : config.number + 1]
    if not chosen:
        raise InputError(f"Case '{name}': the {config.part} part of '{path.name}' holds nothing of the kind.")
    classes = recipe.model.classes
    scans, truths = [], []
    for case in chosen:
        scan = read(case.pair.image)
        scans.append(scan)
        truths += list(as_classes(read_mask(case.pair.mask, scan), classes, case.name).astype(np.uint8))
    return Case(name, tuple(scans), truths, classes, recipe.card.modality)
