"""From probabilities to labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.labels.cleanup import remove_islands
from napari_llm4seg.labels.size import Scale

Labels = npt.NDArray[np.unsignedinteger[Any]]


def label_dtype(classes: Sequence[ClassSpec]) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest dtype that holds every label value."""
    return np.uint8 if max(spec.value for spec in classes) <= 255 else np.uint16


def labels_from_probabilities(
    probabilities: npt.NDArray[Any],
    classes: Sequence[ClassSpec],
    head: Literal["sigmoid", "softmax"],
    threshold: float = 0.5,
) -> Labels:
    """Return the label of every pixel.

    Parameters
    ----------
    probabilities : array (K, Y, X) or (K, Z, Y, X) in [0, 1]
        Sigmoid: one channel per class. Softmax: background first, then the classes.
    classes : sequence of ClassSpec
    head : {"sigmoid", "softmax"}
    threshold : float
        Sigmoid only: a class is there from this probability on; where several are, the most probable one wins.

    Returns
    -------
    array (Y, X) or (Z, Y, X), uint8 or uint16
        Values of ``classes``, 0 = background.
    """
    values = np.array([0, *(spec.value for spec in classes)], dtype=label_dtype(classes))
    winner = probabilities.argmax(axis=0)
    labels: Labels = values[winner if head == "softmax" else winner + 1]
    if head == "sigmoid":
        labels[probabilities.max(axis=0) < threshold] = 0
    return labels


def drop_islands(labels: Labels, min_area: float) -> Labels:
    """Return ``labels`` without connected pieces of one class below ``min_area``.

    Parameters
    ----------
    labels : array (Y, X) or (Z, Y, X)
    min_area : float in [0, 1)
        Fraction of all its pixels or voxels; diagonal neighbours are connected.
    """
    least = min_area * labels.size
    if least <= 1 or not labels.any():
        return labels
    kept: npt.NDArray[Any] = labels
    for value in np.unique(labels[labels > 0]):
        kept = remove_islands(kept, int(value), Scale.pixels(labels.ndim), least).labels
    return kept


def without_islands(read: Callable[[int], Labels], slices: Iterable[int], least: float) -> Iterator[tuple[int, Labels]]:
    """Drop the connected pieces of one class below ``least`` voxels in a stack that need not fit into memory.

    Two passes over the slices; beside a few of them, memory holds two numbers for each piece of a slice.

    Parameters
    ----------
    read : callable(int) -> array (Y, X)
        Gives the labels of a slice.
    slices : iterable of int
        The stack's slices; others count as empty. Diagonal neighbours are connected, as in ``drop_islands``.
    least : float
        Voxels.

    Yields
    ------
    (z, array (Y, X))
        Every slice, ascending, without its small pieces; none at all where there is nothing to drop.
    """
    order = sorted(slices)
    found = _islands(read, order)
    yield from _erased(read, order, found, found.sizes[found.island] < least)


def keep_largest(labels: Any) -> list[tuple[int, int, int]]:
    """Erase all but the largest connected piece of every class, as ``labels.cleanup.keep_largest`` does, in place.

    Parameters
    ----------
    labels : array (Z, Y, X)
        May be stored on disk: it is read and written slice by slice.

    Returns
    -------
    list of (value, pieces, voxels)
        Of every class that had several: how many, and how many voxels were erased.
    """

    def read(z: int) -> Labels:
        return np.asarray(labels[z])

    order = list(range(len(labels)))
    found = _islands(read, order)
    gone, said = np.zeros(len(found.island), dtype=np.bool_), []
    for value in np.unique(found.values[1:]):
        own = np.flatnonzero(found.values == value)
        islands = found.island[own]
        # of several equally large the first in memory order
        others = islands != islands[np.argmax(found.sizes[islands])]
        if others.any():
            gone[own[others]] = True
            lost = np.unique(islands[others])
            said.append((int(value), len(lost) + 1, int(found.sizes[lost].sum())))
    for z, cleaned in _erased(read, order, found, gone):
        labels[z] = cleaned
    return said


@dataclass(frozen=True)
class _Islands:
    """The connected pieces of a stack's classes.

    ``offsets`` is the first number of each slice's own pieces; of every such piece ``island`` is the piece of the stack
    that it belongs to, ``values`` its label; ``sizes`` are the voxels of each island. Piece 0 is no piece.
    """

    offsets: dict[int, int]
    island: npt.NDArray[Any]
    values: npt.NDArray[Any]
    sizes: npt.NDArray[Any]


def _islands(read: Callable[[int], Labels], order: Sequence[int]) -> _Islands:
    """Find the pieces of ascending slices; others count as empty."""
    from scipy import sparse

    sizes: list[npt.NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
    values: list[npt.NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
    links: list[npt.NDArray[np.int64]] = [np.zeros((0, 2), dtype=np.int64)]
    offsets: dict[int, int] = {}
    count, last = 1, -2
    before: tuple[npt.NDArray[Any], npt.NDArray[Any]] = np.zeros(0), np.zeros(0)
    for z in order:
        labels = read(z)
        pieces, found = _pieces(labels, count)
        offsets[z] = count
        inside = pieces > 0
        sizes.append(np.bincount(pieces[inside] - count, minlength=found))
        of_piece = np.zeros(found, dtype=np.int64)
        of_piece[pieces[inside] - count] = labels[inside]
        values.append(of_piece)
        if z == last + 1:
            links.append(_touching(*before, pieces, labels))
        count, last, before = count + found, z, (pieces, labels)
    pairs = np.concatenate(links)
    graph = sparse.coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, island = sparse.csgraph.connected_components(graph, directed=False)
    whole = np.bincount(island, weights=np.concatenate(sizes))
    return _Islands(offsets, island, np.concatenate(values), whole)


def _erased(
    read: Callable[[int], Labels], order: Sequence[int], found: _Islands, gone: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, Labels]]:
    """Yield every slice without the pieces that are ``gone``; none at all where there are none."""
    gone = gone.copy()
    gone[0] = False
    for z in order if gone.any() else ():
        labels = read(z)
        drop = gone[_pieces(labels, found.offsets[z])[0]]
        yield z, np.where(drop, 0, labels)


def _pieces(labels: Labels, first: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return the connected pieces of every class of a slice, numbered from ``first``, 0 elsewhere; and how many."""
    from scipy import ndimage

    pieces, count = np.zeros(labels.shape, dtype=np.int64), 0
    for value in np.unique(labels[labels > 0]):
        of_class, found = ndimage.label(labels == value, structure=np.ones((3, 3)))
        pieces[of_class > 0] = of_class[of_class > 0] + first + count - 1
        count += found
    return pieces, count


def _touching(
    pieces_before: npt.NDArray[Any], labels_before: npt.NDArray[Any], pieces: npt.NDArray[Any], labels: Labels
) -> npt.NDArray[np.int64]:
    """Return the pairs (n, 2) of pieces of one class that lie on each other, edges and corners included."""
    found = [np.zeros((0, 2), dtype=np.int64)]
    rows, columns = labels.shape
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            here = np.s_[max(0, down) : rows + min(0, down), max(0, right) : columns + min(0, right)]
            there = np.s_[max(0, -down) : rows + min(0, -down), max(0, -right) : columns + min(0, -right)]
            same = (labels[here] == labels_before[there]) & (labels[here] > 0)
            if same.any():
                found.append(np.unique(np.stack([pieces_before[there][same], pieces[here][same]], axis=1), axis=0))
    return np.concatenate(found)
