"""Features before and after the language-model layer, side by side, as one number or colour for each token.

Two points are compared at a time, of one width: the bottleneck and what the last adapter gives back (C channels), or
the tokens that enter the first layer and those that leave the last (D channels). For token features x_i:

- norm         |x_i|
- strength     mean over c of |x_i[c]|: the published activation map (``napari_llm4seg.activations.maps``)
- channel      x_i[c]
- cosine       x_i . x_t / (|x_i| |x_t|) to the clicked token t
- colours      the first three principal components of both points' tokens together (one mean, one basis, one stretch
               from the 1st to the 99th percentile of each component), as red, green and blue: equal colours mean equal
               features, across the pair too
- clusters     k-means of both points' tokens together, from a fixed seed, numbered by falling size
- change       |y_i - x_i| / |x_i|, and 1 - cosine(x_i, y_i)

A language-model layer makes tokens tens of times larger, so that before and after together would show the after alone.
For colours and clusters each point is therefore divided by its own size first, the root mean square over its tokens and
channels (``balanced``): then equal means equal up to that one factor for each point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.activations.attention import check_token
from napari_llm4seg.activations.inspection import Inspection
from napari_llm4seg.activations.measure import AFTER, BEFORE, OVERLAPS, measure
from napari_llm4seg.errors import ConfigError, InputError

Float = npt.NDArray[np.float32]

# before, after: of one width each
BOTTLENECK, LAYER = ("bottleneck", "adapter_out.out"), ("adapter_in.out", "adapter_out.in")
POINTS = (BOTTLENECK[0], LAYER[0], LAYER[1], BOTTLENECK[1])
WORDS = {
    "bottleneck": "bottleneck",
    "adapter_in.out": "after adapter in",
    "adapter_out.in": "after the LLM layer",
    "adapter_out.out": "after adapter out",
}


def norms(tokens: Float) -> Float:
    """Return each token's Euclidean norm, (N,), for tokens (N, C)."""
    return np.asarray(np.linalg.norm(tokens, axis=1), dtype=np.float32)


def strength(tokens: Float) -> Float:
    """Return the published activation map, each token's mean of absolute features, (N,), for tokens (N, C)."""
    return np.asarray(np.abs(tokens).mean(axis=1), dtype=np.float32)


def channel(tokens: Float, number: int) -> Float:
    """Return one channel of tokens (N, C), from 0."""
    if not 0 <= number < tokens.shape[1]:
        raise InputError(f"There is no channel {number}; these features have 0 to {tokens.shape[1] - 1}.")
    return np.asarray(tokens[:, number])


def cosine(tokens: Float, token: int) -> Float:
    """Return each token's cosine to one of them, (N,) in [-1, 1]; 0 for a token that is zero throughout."""
    check_token(token, len(tokens))
    unit = _unit(tokens)
    return np.asarray(np.clip(unit @ unit[token], -1, 1), dtype=np.float32)


def change(before: Float, after: Float) -> tuple[Float, Float]:
    """Return how much each token changes: relative to its norm, and 1 - cosine; (N,) each."""
    _pair((before, after))
    size = np.maximum(norms(before), np.finfo(np.float32).tiny)
    turned = 1 - np.clip((_unit(before) * _unit(after)).sum(axis=1), -1, 1)
    return np.asarray(norms(after - before) / size, np.float32), np.asarray(turned, np.float32)


def colours(points: Sequence[Float], balanced: bool = True) -> tuple[list[Float], npt.NDArray[np.float64]]:
    """Return tokens as red, green and blue of one shared basis.

    Parameters
    ----------
    points : sequence of array (N, C)
    balanced : bool
        Whether each point is divided by its own size first.

    Returns
    -------
    list of array (N, 3), float32 in [0, 1]
    array (3,)
        Share of the variance that each colour carries, of all points together.
    """
    stacked = _stacked(points, balanced)
    centred = stacked - stacked.mean(axis=0)
    _, sizes, basis = np.linalg.svd(centred, full_matrices=False)
    basis = basis[:3]
    # a component's sign is arbitrary; its largest weight is made positive
    largest = np.abs(basis).argmax(axis=1)
    basis = basis * np.where(basis[np.arange(len(basis)), largest] < 0, -1.0, 1.0)[:, None]
    scores = np.zeros((len(stacked), 3))
    scores[:, : len(basis)] = centred @ basis.T
    low, high = np.percentile(scores, (1, 99), axis=0)
    scaled = np.clip((scores - low) / np.where(high > low, high - low, 1.0), 0, 1).astype(np.float32)
    shares = np.zeros(3)
    total = float((sizes**2).sum())
    shares[: len(basis)] = sizes[:3] ** 2 / total if total > 0 else 0.0
    return np.split(scaled, len(points)), shares


def clusters(points: Sequence[Float], k: int = 5, seed: int = 0, balanced: bool = True) -> list[npt.NDArray[np.uint8]]:
    """Return the number, from 1, of each token's cluster; the same number means the same cluster at every point.

    Parameters
    ----------
    points : sequence of array (N, C)
    k : int
        2 to 20 clusters.
    seed : int
    balanced : bool
        Whether each point is divided by its own size first.
    """
    from scipy.cluster.vq import kmeans2

    stacked = _stacked(points, balanced)
    if not 2 <= k <= min(20, len(stacked)):
        raise ConfigError(f"{k} clusters were asked for; 2 to {min(20, len(stacked))} are possible.")
    _, found = kmeans2(stacked, k, minit="++", seed=np.random.default_rng(seed), missing="warn")
    sizes = np.bincount(found, minlength=k)
    rank = np.empty(k, dtype=np.uint8)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(1, k + 1)
    return np.split(rank[found], len(points))


def overlap(inspection: Inspection, labels: npt.NDArray[np.integer] | None = None) -> dict[str, dict[str, float]]:
    """Return how the published activation map meets the mask, before and after the block.

    Parameters
    ----------
    inspection : Inspection
    labels : array on the masks' grid, optional
        0 outside; by default the normal mask.

    Returns
    -------
    dict
        "before" and "after", each with ``activation_iou``, ``matched_iou`` and ``activation_auc`` as
        ``napari_llm4seg.activations.maps`` defines them; empty for an empty mask, which nothing can meet.
    """
    mask = inspection.normal.labels if labels is None else labels
    truth = np.asarray(inspection.frame.to_grid(mask))[None] > 0
    if not truth.any() or truth.all():
        return {"before": {}, "after": {}}
    found = {
        name: measure(inspection.activations, point, truth)[0] for name, point in (("before", BEFORE), ("after", AFTER))
    }
    return {name: {key: row[key] for key in OVERLAPS} for name, row in found.items()}


def table(inspection: Inspection) -> list[dict[str, Any]]:
    """Return for every token its place in the scan and its numbers, as rows."""
    tokens = {point: inspection.features(point) for point in POINTS if point in inspection.activations.tensors}
    columns = {f"norm {WORDS[point]}": norms(values) for point, values in tokens.items()}
    for (before, after), said in ((LAYER, "LLM layer"), (BOTTLENECK, "block")):
        if before in tokens and after in tokens:
            relative, turned = change(tokens[before], tokens[after])
            columns |= {f"relative change, {said}": relative, f"1 - cosine, {said}": turned}
    rows = []
    for token in range(len(inspection.tokens)):
        z, y, x = inspection.tokens.centre(token)
        rows.append(
            {"token": token, "z": z, "y": y, "x": x, **{name: float(column[token]) for name, column in columns.items()}}
        )
    return rows


def _stacked(points: Sequence[Float], balanced: bool) -> npt.NDArray[np.float64]:
    """Return the tokens of all points below each other, (points x N, C)."""
    wide = [values.astype(np.float64) for values in _pair(points)]
    if balanced:
        wide = [values / (float(np.sqrt(np.mean(values**2))) or 1.0) for values in wide]
    return np.concatenate(wide)


def _unit(tokens: Float) -> Float:
    size = np.linalg.norm(tokens, axis=1, keepdims=True)
    return np.asarray(tokens / np.where(size > 0, size, 1))


def _pair(points: Sequence[Float]) -> Sequence[Float]:
    shapes = {values.shape for values in points}
    if len(shapes) != 1 or any(values.ndim != 2 for values in points):
        raise InputError(f"Features of shapes {sorted(shapes)} came; they can be compared where all are one (N, C).")
    return points
