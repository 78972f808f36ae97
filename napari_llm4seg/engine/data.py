"""A recipe's image and mask pairs, as cases and as tensors."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_llm4seg.config import ClassSpec, PreprocessConfig
from napari_llm4seg.engine.duplicates import near_duplicate_groups
from napari_llm4seg.engine.recipe import NEAR_DUPLICATES, DataConfig
from napari_llm4seg.errors import InputError, one_line
from napari_llm4seg.io import read
from napari_llm4seg.io._files import stem_of
from napari_llm4seg.io.pairs import Pair, as_classes, find_pairs, read_mask
from napari_llm4seg.preprocess import Preprocessor
from napari_llm4seg.volume import Volume

IGNORE = 255


@dataclass(frozen=True)
class Case:
    """An image with its mask; ``group`` joins near-duplicates, ``stratum`` is balanced over the split."""

    pair: Pair
    group: str
    stratum: str

    @property
    def name(self) -> str:
        return self.pair.stem


@dataclass(frozen=True)
class Samples:
    """Cases on the network's grid.

    Attributes
    ----------
    images : tensor (N, C, H, W), float32, normalised
    labels : tensor (N, H, W), uint8 label values; 255 is not annotated
    names : N case names
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def data_root(config: DataConfig) -> Path:
    """Return the folder the recipe's paths are relative to.

    Raises
    ------
    InputError
        If neither the recipe nor ``LLM4SEG_DATA`` names an existing folder.
    """
    root = config.root or os.environ.get("LLM4SEG_DATA", "")
    if not root or not Path(root).is_dir():
        raise InputError(f"The data folder {root!r} does not exist; set LLM4SEG_DATA or give --set data.root=FOLDER.")
    return Path(root)


def load_cases(config: DataConfig, progress: Callable[[int, int, str], None] | None = None) -> list[Case]:
    """Return the recipe's cases in name order; ``keep`` chooses strata, ``limit`` keeps an even choice of the rest.

    Raises
    ------
    InputError
        If the index lacks a column or a case, or ``keep`` names a stratum that no case has.
    """
    root = data_root(config)
    by_look = config.group == NEAR_DUPLICATES
    if not config.index and ((config.group and not by_look) or config.stratum):
        raise InputError("data.group and data.stratum are columns of data.index, which is not given. Give it.")
    if config.keep and not config.stratum:
        raise InputError("data.keep chooses values of data.stratum, which is not given. Give it.")
    rows = _index(root / config.index, config) if config.index else {}
    cases = []
    for pair in find_pairs(root / config.images, root / config.masks, config.image_name, config.mask_name):
        if config.index and pair.stem not in rows:
            raise InputError(
                f"The index '{root / config.index}' has no row for '{pair.image.name}', so its near-duplicates are not "
                "known. Add it, or leave data.index out."
            )
        row = rows.get(pair.stem, {})
        group = row.get(config.group or "") or ""
        cases.append(Case(pair, f"group {group}" if group else pair.stem, row.get(config.stratum or "") or ""))
    if config.keep:
        there = {case.stratum for case in cases}
        absent = sorted(set(config.keep) - there)
        if absent:
            known = ", ".join(sorted(there))
            raise InputError(f"data.keep asks for '{absent[0]}'; {config.stratum} is one of: {known}.")
        cases = [case for case in cases if case.stratum in config.keep]
    cases.sort(key=lambda case: case.name)
    if config.limit and len(cases) > config.limit:
        cases = [cases[i * len(cases) // config.limit] for i in range(config.limit)]
    if by_look:
        groups = near_duplicate_groups([case.pair.image for case in cases], progress=progress)
        cases = [replace(case, group=f"group {group}") for case, group in zip(cases, groups, strict=True)]
    return cases


def _index(path: Path, config: DataConfig) -> dict[str, dict[str, str]]:
    """Return the index's rows by file stem; a missing column would let near-duplicates onto both sides unnoticed."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            for column in (config.file, config.group, config.stratum):
                if column not in (None, NEAR_DUPLICATES) and column not in columns:
                    raise InputError(
                        f"The index '{path}' has no column '{column}'; it has {', '.join(map(str, columns)) or 'none'}."
                    )
            return {stem_of(row[config.file]): row for row in reader if row[config.file]}
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"The index '{path}' cannot be read: {one_line(error, 120)}.") from error


def read_case(case: Case, classes: Sequence[ClassSpec]) -> tuple[Volume, npt.NDArray[np.integer[Any]]]:
    """Return a case's scan and, on its grid (Z, Y, X), the label values of its mask; 255 is not annotated.

    Raises
    ------
    InputError
        If either cannot be read, the mask is of another size or place, or holds a label that is no class.
    """
    volume = read(case.pair.image)
    return volume, as_classes(read_mask(case.pair.mask, volume), classes, case.name, unannotated=IGNORE)


def load_samples(
    cases: Sequence[Case],
    config: PreprocessConfig,
    classes: Sequence[ClassSpec],
    progress: Callable[[int, int, str], None] | None = None,
) -> Samples:
    """Read cases onto the network's grid; a stack gives one sample per slice.

    Parameters
    ----------
    cases : sequence of Case
    config : PreprocessConfig
    classes : sequence of ClassSpec
        What the masks' label values mean; see ``napari_llm4seg.io.pairs.as_classes``. 255 is not annotated.
    progress : callable(done, total, message), optional

    Raises
    ------
    InputError
        If a scan or mask cannot be used.
    """
    preprocessor = Preprocessor(config)
    images, labels, names = [], [], []
    for done, case in enumerate(cases):
        volume, mask = read_case(case, classes)
        tensor, trace = preprocessor.apply(volume, range(volume.n_slices))
        images.append(tensor)
        labels.append(preprocessor.labels_to_grid(mask, trace, fill=IGNORE).to(torch.uint8))
        names += [case.name] if volume.n_slices == 1 else [f"{case.name}:{z}" for z in range(volume.n_slices)]
        if progress:
            progress(done + 1, len(cases), "reading")
    return Samples(torch.cat(images), torch.cat(labels), tuple(names))
