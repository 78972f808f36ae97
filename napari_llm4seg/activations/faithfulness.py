"""Whether a map says anything about what the network uses: its strongest tokens hidden first, against random orders.

For a map m over N tokens and fractions f = 0, 1/S, ..., 1:

- deletion     the f N tokens with the largest m cannot be looked at by others; a telling map makes the score fall soon
- insertion    all but those are hidden; a telling map makes the score rise soon
- score        mean, over the pixels asked about, of the probability of the label that the normal mask has there
- AUC          mean of the score over f (trapezoids)
- merit        AUC of insertion - AUC of deletion; the same for random orders of the same tokens
- percentile   share of the random orders with a smaller merit (ties half), in percent

What hiding cannot show: a hidden token keeps its own features, and skips pass the layer by (see
``Replay.with_blocked``). So this asks about the flow between tokens, which is all that attention can be about.
Source of the idea: Petsiuk et al. (arXiv 1806.07421).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.activations.inspection import Inspection
from napari_llm4seg.activations.replay import Cancel, OnProgress, Replay
from napari_llm4seg.errors import InputError

Array = npt.NDArray[np.float64]

# Scores that move less than this from nothing hidden to everything hidden leave nothing to explain.
_NOTHING = 0.01
_BETTER = 95.0
_ENOUGH = 20


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """A map's curves beside those of random orders.

    Attributes
    ----------
    fractions : array (S + 1,), of tokens, 0 to 1
    deletion, insertion : array (S + 1,), scores in [0, 1]
    random_deletion, random_insertion : array (n, S + 1)
    """

    fractions: Array
    deletion: Array
    insertion: Array
    random_deletion: Array
    random_insertion: Array

    @property
    def merit(self) -> float:
        return float(auc(self.insertion) - auc(self.deletion))

    @property
    def random_merits(self) -> Array:
        return np.asarray(auc(self.random_insertion) - auc(self.random_deletion))

    @property
    def percentile(self) -> float:
        """Share of the random orders that do worse, in percent."""
        others = self.random_merits
        return float(100 * ((others < self.merit).mean() + (others == self.merit).mean() / 2))

    @property
    def reach(self) -> float:
        """How far the score moves between nothing and everything hidden."""
        return float(abs(self.deletion[0] - self.deletion[-1]))

    @property
    def words(self) -> str:
        """What a person is told."""
        n = len(self.random_merits)
        if self.reach < _NOTHING:
            return (
                f"With every token hidden from the others the score changes by {self.reach:.3f} alone: what flows "
                "between tokens hardly matters here, and no map of it can explain the mask."
            )
        few = "" if n >= _ENOUGH else f" With {n} random maps alone this is a hint, no test; take {_ENOUGH} or more."
        share = f"better than {self.percentile:.0f} % of {n}"
        if self.percentile >= _BETTER:
            return f"Better than random maps ({share}): its strong places matter more than others.{few}"
        if self.percentile > 50:
            return f"Not clearly better than random maps ({share}): this picture explains little.{few}"
        return f"No better than random maps ({share}): this picture explains little.{few}"

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into a report."""
        return {
            "deletion_auc": float(auc(self.deletion)),
            "insertion_auc": float(auc(self.insertion)),
            "merit": self.merit,
            "random_merit_mean": float(self.random_merits.mean()),
            "percentile": self.percentile,
            "random_maps": len(self.random_merits),
            "reach": self.reach,
            "words": self.words,
        }


def auc(curves: Array) -> Any:
    """Return the mean height of curves (..., S + 1) over evenly spaced fractions."""
    return (curves[..., :-1] + curves[..., 1:]).mean(axis=-1) / 2


def faithfulness(
    inspection: Inspection,
    values: npt.ArrayLike,
    *,
    where: npt.ArrayLike | None = None,
    n_random: int = 20,
    steps: int = 5,
    seed: int = 0,
    progress: OnProgress | None = None,
    cancel: Cancel | None = None,
) -> Faithfulness:
    """Hold a map to random ones.

    Parameters
    ----------
    inspection : Inspection
    values : array (N,)
        One number for each token; larger means more important.
    where : array ([Z,] Y, X), boolean or 0/non-0, optional
        Pixels of the masks' grid whose labels the map is to explain; by default those of the normal mask.
    n_random : int
        Random orders, at least 1.
    steps : int
        S, at least 1.
    seed : int
    progress : callable(done, total, message), optional
        In maps.
    cancel : callable -> bool, optional

    Notes
    -----
    The mirror image is left out, on all sides, where the prediction averages it: half the time, and one set of tokens.

    Raises
    ------
    InputError
        If the map has another size or is not finite, or there is no pixel to explain.
    Cancelled
    """
    importance = np.asarray(values, dtype=np.float64)
    if importance.shape != (len(inspection.tokens),) or not np.isfinite(importance).all():
        raise InputError(
            f"A map of shape {importance.shape} came; {len(inspection.tokens)} finite numbers are needed, one a token."
        )
    if n_random < 1 or steps < 1:
        raise InputError(f"{n_random} random maps and {steps} steps came; at least one of each is needed.")
    asked = _asked(inspection, where)
    rng = np.random.default_rng(seed)
    orders = [np.argsort(-importance, kind="stable"), *(rng.permutation(len(importance)) for _ in range(n_random))]
    replay = inspection.replay(mirrored=False, cancel=cancel)
    curves = []
    for number, order in enumerate(orders):
        if progress is not None:
            progress(number, len(orders), f"map {number}/{len(orders)}")
        curves.append(_curves(inspection, replay, order, steps, asked, cancel))
    if progress is not None:
        progress(len(orders), len(orders), f"map {len(orders)}/{len(orders)}")
    found = np.asarray(curves)
    return Faithfulness(np.linspace(0, 1, steps + 1), found[0, 0], found[0, 1], found[1:, 0], found[1:, 1])


def _asked(inspection: Inspection, where: npt.ArrayLike | None) -> npt.NDArray[np.bool_]:
    labels = inspection.normal.labels
    asked = labels > 0 if where is None else np.asarray(where).astype(bool)
    if asked.shape != labels.shape:
        raise InputError(f"Pixels of shape {asked.shape} came for a mask of {labels.shape}.")
    if not asked.any():
        raise InputError("The mask of this slice is empty; say which pixels the map is to explain.")
    return asked


def _curves(
    inspection: Inspection,
    replay: Replay,
    order: npt.NDArray[np.intp],
    steps: int,
    asked: npt.NDArray[np.bool_],
    cancel: Cancel | None,
) -> tuple[list[float], list[float]]:
    """Return the scores of deletion and insertion along ``order``."""
    counts = [round(len(order) * step / steps) for step in range(steps + 1)]
    hidden = [order[:count] for count in counts] + [order[count:] for count in counts[1:-1]]
    with inspection.predictor.network(cancel):
        found = replay.probabilities(replay.with_blocked([region.tolist() for region in hidden]), cancel)
    scores = [_score(inspection, each, asked) for each in inspection.frame.finish(found)]
    deletion, between = scores[: steps + 1], scores[steps + 1 :]
    return deletion, [deletion[-1], *between, deletion[0]]


def _score(inspection: Inspection, probabilities: npt.NDArray[np.float32], asked: npt.NDArray[np.bool_]) -> float:
    """Return the mean probability of the normal mask's labels at the pixels asked about."""
    model = inspection.predictor.checkpoint.config.model
    labels = inspection.normal.labels[asked]
    values = probabilities[:, asked]
    if model.head == "softmax":
        channel_of = {value: k for k, value in enumerate((0, *(spec.value for spec in model.classes)))}
        channels = np.asarray([channel_of[int(value)] for value in labels])
        return float(np.take_along_axis(values, channels[None], axis=0).mean())
    of_label = 1 - values.max(axis=0)
    for channel, spec in zip(values, model.classes, strict=True):
        of_label = np.where(labels == spec.value, channel, of_label)
    return float(of_label.mean())
