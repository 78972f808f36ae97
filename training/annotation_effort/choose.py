"""Which slices are corrected: by suggestion, evenly, at random, or evenly within what holds the organ."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from napari_llm4seg.corrections.suggest import Evidence, Suggester, Weights
from training.annotation_effort.plan import Choice


def first(present: Sequence[int]) -> int:
    """Return the slice every session begins with: the middle one of those that hold the thing.

    A person who wants a new structure segmented goes where it is; nothing can be suggested before the first mask.
    """
    return present[len(present) // 2]


def even(k: int, n: int, taken: Collection[int] = ()) -> list[int]:
    """Return ``k`` of ``n`` numbers at even distances, each moved to the nearest that is not ``taken``."""
    chosen: list[int] = []
    for i in range(k):
        wanted = int((i + 0.5) * n / k)
        free = [z for z in range(n) if z not in taken and z not in chosen]
        if free:
            chosen.append(min(free, key=lambda z: (abs(z - wanted), z)))
    return sorted(chosen)


def unsuggested(choice: Choice, k: int, n: int, present: Sequence[int], seed: int) -> list[int]:
    """Return the ``k`` slices of a choice that needs no model.

    Parameters
    ----------
    choice : {"uniform", "random", "organ"}
        "uniform" and "random" take the whole stack, as the suggestion does, and begin with the same slice; "organ" is
        even within the slices that hold the thing, which only who has looked through the scan can choose.
    k, n : int
        Of how many slices of all.
    present : sequence of int
        Those that hold the thing.
    seed : int
    """
    if choice == "organ":
        return [present[i] for i in even(min(k, len(present)), len(present))]
    begin = first(present)
    if choice == "uniform":
        return sorted([begin, *even(k - 1, n, [begin])])
    others = [z for z in range(n) if z != begin]
    drawn = np.random.default_rng([seed, n]).permutation(len(others))[: k - 1]
    return sorted([begin, *(others[int(i)] for i in drawn)])


def suggested(
    k: int,
    n: int,
    stack: bool,
    chosen: Sequence[int],
    evidence: dict[int, Evidence],
    present: Sequence[int],
    weights: Weights | None = None,
) -> list[int]:
    """Return ``k`` slices: those chosen before and what the suggester adds to them, by what the last model said."""
    if not chosen and not evidence:
        chosen = [first(present)]
    suggester = Suggester(n, stack, weights)
    suggester.note(evidence)
    return [*chosen, *suggester.plan(k - len(chosen), chosen)]
