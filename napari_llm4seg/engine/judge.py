"""Held-back slices against what a checkpoint says of them, at the scans' own resolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.engine.corrections import Correction, Corrections
from napari_llm4seg.engine.data import IGNORE
from napari_llm4seg.engine.scores import Score
from napari_llm4seg.metrics import hd95
from napari_llm4seg.planes import at
from napari_llm4seg.predict import Predictor

Labels = npt.NDArray[Any]


def judge(
    predictor: Predictor, held_back: Corrections, cancel: Callable[[], bool] | None = None
) -> tuple[list[Score], list[Labels]]:
    """Return each slice's scores and the labels (Y, X) that the checkpoint gives it.

    Pixels that are not annotated do not count.

    Raises
    ------
    Cancelled
    InputError
        If a slice cannot be segmented.
    """
    said = segment(predictor, held_back, cancel)
    classes = predictor.checkpoint.config.model.classes
    return [_score(each, labels, classes) for each, labels in zip(held_back.slices, said, strict=True)], said


def segment(predictor: Predictor, slices: Corrections, cancel: Callable[[], bool] | None = None) -> list[Labels]:
    """Return the label values (Y, X) that a checkpoint gives each slice."""
    if not predictor.volumetric:
        # these are slices already, whatever plane the checkpoint asks for
        flat = predictor.with_config(predictor.config.model_copy(update={"axis": "stored"}))
        return [flat.predict(each.volume, cancel=cancel, keep_probabilities=False).labels[0] for each in slices.slices]
    whole = {}
    for scan in dict.fromkeys(each.scan for each in slices.slices):
        mine = [each for each in slices.slices if each.scan == scan]
        # of a large scan a few slices need a few patches; across the stored slices every patch is needed
        needed = {each.index for each in mine} if all(each.axis == 0 for each in mine) else None
        volume = slices.volume(scan)
        whole[scan] = predictor.predict(volume, slices=needed, cancel=cancel, keep_probabilities=False).labels
    return [whole[each.scan][at(each.axis, each.index)] for each in slices.slices]


def _score(each: Correction, labels: Labels, classes: tuple[ClassSpec, ...]) -> Score:
    truth = each.truth(classes)
    known = truth != IGNORE
    pairs = [(known & (labels == spec.value), known & (truth == spec.value)) for spec in classes]
    return Score(
        each.name,
        hits=tuple(int(np.count_nonzero(said & true)) for said, true in pairs),
        said=tuple(int(np.count_nonzero(said)) for said, _ in pairs),
        true=tuple(int(np.count_nonzero(true)) for _, true in pairs),
        # one that is absent from either has no distance
        distances=tuple(hd95(*pair, each.spacing) if all(map(np.any, pair)) else None for pair in pairs),
        unit=each.unit,
        pixels=int(np.count_nonzero(known)),
        alone=each.alone,
    )
