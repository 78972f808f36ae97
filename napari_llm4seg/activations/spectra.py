"""Spectra before and after the layer as tables: of one slice, along a stack, across versions of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from napari_llm4seg.activations.features import BOTTLENECK, LAYER, WORDS
from napari_llm4seg.activations.frame import frame_of
from napari_llm4seg.activations.inspection import Inspection, network_of, placed
from napari_llm4seg.activations.points import points_of
from napari_llm4seg.activations.recorder import ActivationRecorder, Activations
from napari_llm4seg.activations.replay import Cancel, OnProgress
from napari_llm4seg.activations.spectrum import Spectrum, spectrum_of
from napari_llm4seg.errors import Cancelled, ConfigError
from napari_llm4seg.predict import Predictor
from napari_llm4seg.volume import Volume

FORMULAS = {
    "shares": "p_i = s_i / sum_j s_j, s the singular values of the tokens (N x C), largest first",
    "effective_rank": "exp(- sum_i p_i ln p_i), 1 to min(N, C)",
    "log_inverse_top_share": "- ln(s_1 / sum_j s_j), 0 to ln min(N, C)",
}
POINTS = (BOTTLENECK[0], LAYER[0], LAYER[1], BOTTLENECK[1])


def spectra(activations: Activations, centred: bool = False) -> dict[str, Spectrum]:
    """Return the spectrum at every recorded point of ``POINTS``, of the first image."""
    there = [point for point in POINTS if point in activations.tensors]
    return {point: spectrum_of(activations.tokens(point)[:1], centred) for point in there}


def rows_of(activations: Activations, **about: Any) -> list[dict[str, Any]]:
    """Return a row for each point: ``about``, the point, the figures, and the same centred."""
    plain, centred = spectra(activations), spectra(activations, centred=True)
    rows = []
    for point, found in plain.items():
        row = {**about, "point": WORDS[point]}
        for ending, each in (("", found), ("_centred", centred[point])):
            row[f"effective_rank{ending}"] = float(each.effective_rank[0])
            row[f"log_inverse_top_share{ending}"] = float(each.log_inverse_top_share[0])
            row[f"largest{ending}"] = float(each.values[0, 0])
        rows.append(row)
    return rows


def of_slice(inspection: Inspection) -> list[dict[str, Any]]:
    """Return the rows of a recorded slice."""
    return rows_of(inspection.activations, slice=inspection.frame.z)


def along_stack(
    predictor: Predictor,
    volume: Volume,
    slices: Iterable[int] | None = None,
    *,
    progress: OnProgress | None = None,
    cancel: Cancel | None = None,
) -> list[dict[str, Any]]:
    """Return the rows of slices along the predictor's axis, all by default; of tiles and volumes the middle part.

    Raises
    ------
    InputError
        If the scan cannot be segmented or has no such slice.
    Cancelled
    """
    asked = list(range(volume.grid[predictor.slice_axis(volume)]) if slices is None else slices)
    rows: list[dict[str, Any]] = []
    for done, z in enumerate(asked):
        if progress is not None:
            progress(done, len(asked), f"slice {done}/{len(asked)}")
        rows += rows_of(_recorded(predictor, volume, z, cancel), slice=z)
    if progress is not None:
        progress(len(asked), len(asked), f"slice {len(asked)}/{len(asked)}")
    return rows


def across_versions(
    predictors: Mapping[str, Predictor],
    volume: Volume,
    z: int | None = None,
    *,
    at: Sequence[float] | None = None,
    progress: OnProgress | None = None,
    cancel: Cancel | None = None,
) -> list[dict[str, Any]]:
    """Return the rows of one slice under several checkpoints, by their names."""
    if not predictors:
        raise ConfigError("No version came; give at least one checkpoint to compare.")
    rows: list[dict[str, Any]] = []
    for done, (name, predictor) in enumerate(predictors.items()):
        if progress is not None:
            progress(done, len(predictors), name)
        rows += rows_of(_recorded(predictor, volume, z, cancel, at), version=name)
    return rows


def _recorded(
    predictor: Predictor, volume: Volume, z: int | None, cancel: Cancel | None, at: Sequence[float] | None = None
) -> Activations:
    """Record the tokens alone: the decoder need not run for them, but what runs is the forward itself."""
    if cancel is not None and cancel():
        raise Cancelled("Stopped.")
    frame = frame_of(predictor, volume, z, at, cancel)
    with predictor.network(cancel) as net:
        plain = network_of(net)
        there = [point for point in POINTS if point in points_of(plain)]
        with torch.inference_mode(), ActivationRecorder(plain, there) as recorder:
            plain(placed(frame.image, predictor.device))
        return recorder.activations
