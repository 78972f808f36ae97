"""Which corrected slices are held back from training, to judge by: none whose near neighbours train."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

# Fewer corrections all train: holding one of three back would cost more than its score tells.
FEWEST = 4
# So many held-back slices are preferably no slivers.
FEW = 3


@dataclass(frozen=True)
class Item:
    """A corrected slice as the split sees it.

    Attributes
    ----------
    digest : of its image's content, by which it is known again in later rounds
    scan : what it belongs to; near-duplicate images share one
    z : index along the scan's slice axis, None for a 2-D image, which is then a near-duplicate of its whole scan
    size : pixels of its classes; a slice that holds none tells of no Dice, and one that holds few of little
    """

    digest: str
    scan: str = ""
    z: int | None = None
    size: int = 1


@dataclass(frozen=True)
class Parts:
    """Numbers of the items that train, that are held back, and that do neither, as they would leak."""

    train: tuple[int, ...]
    held_back: tuple[int, ...]
    left_out: tuple[int, ...] = ()


def near(a: Item, b: Item, gap: int) -> bool:
    """Say whether two slices show almost the same: within ``gap`` slices of one scan, or near-duplicate images."""
    if a.scan != b.scan:
        return a.digest == b.digest
    return a.z is None or b.z is None or abs(a.z - b.z) <= gap


def hold_back(
    items: Sequence[Item], fraction: float = 0.2, *, gap: int = 1, locked: Collection[str] = (), seed: int = 0
) -> Parts:
    """Choose the corrected slices that are held back.

    Parameters
    ----------
    items : sequence of Item
    fraction : float in [0, 1)
        Of the items; at least one where there are ``FEWEST`` or more, none where there are fewer or it is 0.
    gap : int
        Slices of one scan this near to a held-back one neither train nor count.
    locked : collection of str
        Digests of items held back in earlier rounds: they stay so, whatever the fraction.
    seed : int

    Returns
    -------
    Parts
        Each further choice is one that leaves out the fewest neighbours, for the first ``FEW`` then one that is no
        sliver (see ``_slivers``), then one that its digest and the seed decide; none is made that would leave fewer
        than two to train. At least one slice holds a class where it can be so: if need be one more is held back than
        the fraction says.
    """
    held = {i for i, item in enumerate(items) if item.digest in set(locked)}
    wanted = 0 if len(items) < FEWEST or fraction <= 0 else max(1, round(fraction * len(items)))

    def left_out(chosen: set[int]) -> set[int]:
        return {i for i, item in enumerate(items) if i not in chosen and any(near(item, items[j], gap) for j in chosen)}

    slivers = _slivers(items)

    def rank(i: int) -> tuple[int, bool, str]:
        draw = hashlib.sha256(f"{seed} {items[i].digest}".encode()).hexdigest()
        return len(left_out(held | {i})), len(held) < FEW and i in slivers, draw

    while wanted:
        free = [i for i in range(len(items)) if i not in held]
        fitting = [i for i in free if len(items) - len(held) - 1 - len(left_out(held | {i})) >= 2]
        telling = [] if any(items[i].size for i in held) else [i for i in fitting if items[i].size]
        if not telling and (len(held) >= wanted or not fitting):
            break
        held.add(min(telling or fitting, key=rank))
    beside = left_out(held)
    train = tuple(i for i in range(len(items)) if i not in held and i not in beside)
    return Parts(train, tuple(sorted(held)), tuple(sorted(beside)))


def _slivers(items: Sequence[Item]) -> set[int]:
    """Return the slices of each stack that hold less than half as much as the median one which holds anything.

    Dice of a stack is that of all pixels, so that slivers stand for the rest badly. Over 23 fine-tunings of the
    simulated study two slices drawn from those that are none warned falsely in 13 % of draws and missed a fall of the
    rest in 2 %; any two that hold something in 19 % and 2.6 %; two of the larger half in 11 % and 1.3 %. But large
    slices teach most: holding the largest of five back cost 0.05 of Dice on the rest. Of single images each counts
    alike.
    """
    by_scan: dict[str, list[int]] = {}
    for item in items:
        if item.z is not None and item.size:
            by_scan.setdefault(item.scan, []).append(item.size)
    least = {scan: median(sizes) / 2 for scan, sizes in by_scan.items()}
    return {i for i, item in enumerate(items) if item.z is not None and item.size < least.get(item.scan, 0)}
