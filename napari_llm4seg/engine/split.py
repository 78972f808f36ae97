"""Which cases train, choose and are reported, by the recipe's protocol."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_llm4seg.engine.data import Case
from napari_llm4seg.engine.recipe import SplitConfig
from napari_llm4seg.errors import InputError


@dataclass(frozen=True)
class Split:
    """Names of the cases of each part; under the protocol "paper" ``val`` and ``test`` are the same ones."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def split_cases(cases: Sequence[Case], config: SplitConfig) -> Split:
    """Split by the protocol; the same cases and seed give the same split.

    "locked": whole groups go to one part, each stratum in the asked-for fractions. A group that spans strata counts
    for that of its first case. "paper": at random, groups and strata ignored; what does not train is both chosen by
    and reported.

    Raises
    ------
    InputError
        If a part would be empty.
    """
    parts = _at_random(cases, config) if config.protocol == "paper" else _by_group(cases, config)
    for part, names in parts.items():
        if not names:
            raise InputError(f"{len(cases)} cases leave the {part} part empty; give more cases or other fractions.")
    return Split(*(tuple(sorted(parts[part])) for part in ("train", "val", "test")))


def _at_random(cases: Sequence[Case], config: SplitConfig) -> dict[str, list[str]]:
    names = sorted(case.name for case in cases)
    order = np.random.default_rng(config.seed).permutation(len(names))
    shuffled = [names[i] for i in order]
    reported = round(config.test * len(names))
    return {"train": shuffled[reported:], "val": shuffled[:reported], "test": shuffled[:reported]}


def _by_group(cases: Sequence[Case], config: SplitConfig) -> dict[str, list[str]]:
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.group].append(case)
    strata: dict[str, list[list[Case]]] = defaultdict(list)
    for members in groups.values():
        strata[members[0].stratum].append(members)
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for stratum in sorted(strata):
        rng = np.random.default_rng([config.seed, *stratum.encode()])
        order = rng.permutation(len(strata[stratum]))
        total = sum(map(len, strata[stratum]))
        wanted = {"test": round(config.test * total), "val": round(config.val * total)}
        filled = {"test": 0, "val": 0}
        for i in order:
            members = strata[stratum][i]
            part = next((p for p in ("test", "val") if filled[p] + len(members) <= wanted[p]), "train")
            if part != "train":
                filled[part] += len(members)
            parts[part] += [case.name for case in members]
    return parts
