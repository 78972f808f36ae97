"""A recorded run made again, and whether the result is the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from napari_llm4seg.config import PredictConfig, explain
from napari_llm4seg.errors import CheckpointError, DeviceError, InputError, LLM4SegError
from napari_llm4seg.metrics import dice
from napari_llm4seg.predict.predictor import Predictor, load_model
from napari_llm4seg.predict.record import Record, labels_digest
from napari_llm4seg.volume import Prediction, Volume


@dataclass(frozen=True)
class ClassChange:
    """One class then and now: voxels, and Dice in [0, 1] where the recorded labels are at hand."""

    value: int
    name: str
    voxels_then: int
    voxels_now: int
    dice: float | None


@dataclass(frozen=True)
class Replayed:
    """How a repeated result compares with the recorded one.

    Attributes
    ----------
    identical : bool
        Every label and the affine are equal, bit by bit.
    differing_voxels : int or None
        0 where identical; None where the recorded labels are not at hand to be counted.
    classes : tuple of ClassChange
    differences : tuple of str
        What of scan, checkpoint, layers, settings, machine and versions is another than it was, in words.
    prediction : Prediction
    """

    identical: bool
    differing_voxels: int | None
    classes: tuple[ClassChange, ...]
    differences: tuple[str, ...]
    prediction: Prediction


def replay(
    record: Record,
    volume: Volume,
    predictor: Predictor,
    *,
    original: Volume | None = None,
    progress: Callable[[int, int, str], Any] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Replayed:
    """Segment ``volume`` as ``record`` says and compare the result with the recorded one.

    Parameters
    ----------
    record : Record
    volume : Volume
        The scan; that it is another one than recorded is said, not refused.
    predictor : Predictor
        From ``recorded_model``, or another one, which is said too.
    original : Volume of labels, optional
        The exported result, for counting differences.
    progress, cancel
        As in ``Predictor.predict``.

    Raises
    ------
    InputError
        If the recorded run cannot be repeated: other slices than the scan has, or other layers tried out.
    """
    runner = predictor.with_config(_settings(record))
    with _threads(record.run.threads), _block(runner, record.model.block_state):
        prediction = runner.predict(
            volume,
            slices=record.run.slices,
            first=record.run.first,
            progress=progress,
            cancel=cancel,
            keep_probabilities=False,
        )
    now = Record.of(prediction, volume)
    identical = now.result.sha256 == record.result.sha256
    then = None if original is None else _usable(original, record, prediction)
    return Replayed(
        identical=identical,
        differing_voxels=0 if identical else None if then is None else int(np.count_nonzero(then != prediction.labels)),
        classes=_changes(record, now, prediction, then, identical),
        differences=tuple(_differences(record, now)),
        prediction=prediction,
    )


def recorded_model(record: Record, folder: Path, model: str | None = None, device: str = "auto") -> Predictor:
    """Return the recorded checkpoint on the recorded device, or what is asked for instead.

    Parameters
    ----------
    record : Record
    folder : Path
        The record's folder; the place of a checkpoint is relative to it.
    model : str, optional
        Another model to repeat it with.
    device : str
        "auto" takes the recorded device where it is there.

    Raises
    ------
    CheckpointError
        If the model is not at hand.
    """
    wanted = record.run.torch_device if device == "auto" else device
    name = model or _reference(record, folder)
    try:
        return load_model(name, wanted)
    except DeviceError:
        if device != "auto":
            raise
        return load_model(name, "auto")


def _reference(record: Record, folder: Path) -> str:
    from napari_llm4seg.checkpoint import Checkpoint, starters

    reference = record.model.reference or ""
    entries = starters()
    if reference.startswith("hf:") or reference in {entry.name for entry in entries}:
        return reference
    if reference and (folder / reference).exists():
        return str(folder / reference)
    for entry in entries:
        if entry.card.name == record.model.name and Checkpoint.load(entry.path).digest == record.model.sha256:
            return entry.name
    raise CheckpointError(
        f"The record's model '{record.model.name}' (sha256 {record.model.sha256[:12]}…) is not at hand. "
        "Give it with --model."
    )


def _settings(record: Record) -> PredictConfig:
    try:
        return PredictConfig.model_validate(record.model.predict)
    except ValidationError as error:
        raise InputError(f"The record's settings are not known here: {explain(error, 'predict')}") from error


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with as many threads as then: sums in another order differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _block(predictor: Predictor, state: str | None) -> Iterator[None]:
    if state == "swapped":
        raise InputError(
            "The recorded result was made with other language-model layers than its checkpoint's, tried out in the "
            "window; such a run cannot be repeated from a record."
        )
    block: Any = getattr(predictor.net, "block", None)
    if block is None or state is None or block.state == state:
        yield
        return
    before = block.state
    block.set_state(state)
    try:
        yield
    finally:
        block.set_state(before)


def _usable(original: Volume, record: Record, prediction: Prediction) -> Any:
    """Return the exported labels if they still are those of the record, on the grid of the prediction."""
    labels, grid = np.asarray(original.data[0]), prediction.labels.shape
    if labels.shape != grid:  # DICOM-SEG leaves empty slices out
        first = np.round((np.linalg.inv(prediction.affine) @ original.affine[:, 3])[:3]).astype(int)
        last = first + labels.shape
        if (first < 0).any() or (last > grid).any():
            return None
        whole = np.zeros(grid, labels.dtype)
        whole[tuple(slice(start, stop) for start, stop in zip(first, last, strict=True))] = labels
        labels = whole
    return labels if labels_digest(labels) == record.result.labels_sha256 else None


def _changes(
    record: Record, now: Record, prediction: Prediction, then: Any, identical: bool
) -> tuple[ClassChange, ...]:
    names = {value: name for value, name, _ in prediction.classes}
    rows = []
    for value in sorted({*names, *record.result.voxels, *now.result.voxels}):
        agreement = 1.0 if identical else None
        if agreement is None and then is not None:
            agreement = dice(prediction.labels == value, then == value)
        before, after = record.result.voxels.get(value, 0), now.result.voxels.get(value, 0)
        rows.append(ClassChange(value, names.get(value, f"label {value}"), before, after, agreement))
    return tuple(rows)


def _differences(then: Record, now: Record) -> Iterator[str]:
    if now.input.sha256 != then.input.sha256:
        yield "The scan's values are other ones than recorded."
    elif then.input.files_sha256 and now.input.files_sha256 and now.input.files_sha256 != then.input.files_sha256:
        yield "The scan's file is another one, with the same values."
    if now.input.affine != then.input.affine:
        yield "The scan lies elsewhere in space than recorded (another affine)."
    if now.model.sha256 != then.model.sha256:
        yield (
            f"The checkpoint is another one: '{then.model.name}' ({then.model.sha256[:12]}…) then, "
            f"'{now.model.name}' ({now.model.sha256[:12]}…) now."
        )
    layers = [[layer.sha256 for layer in record.model.frozen_layers] for record in (then, now)]
    if layers[0] != layers[1]:
        yield "The frozen language-model layers are other ones."
    for part in ("model", "preprocess"):
        if getattr(then.model, part) != getattr(now.model, part):
            yield f"The checkpoint's {part} configuration is another one."
    for what in ("device", "cpu", "threads"):
        before, after = getattr(then.run, what), getattr(now.run, what)
        if before is not None and before != after:
            yield f"{what.upper() if what == 'cpu' else what.capitalize()}: {before} then, {after} now."
    for name in sorted({*then.run.versions, *now.run.versions}):
        before, after = then.run.versions.get(name, "none"), now.run.versions.get(name, "none")
        if before != after:
            yield f"{name} {before} then, {after} now."
    if then.result.edited:
        yield "The recorded labels were edited after the run."
    if then.result.clean_up:
        yield f"The recorded labels were cleaned up after the run: {', '.join(then.result.clean_up)}."


def find_scan(record: Record, folder: Path) -> Path:
    """Return where the recorded scan lies, seen from the record's folder.

    Raises
    ------
    InputError
        If it is not there any more.
    """
    for candidate in (folder / record.input.path, folder / record.input.name):
        if candidate.exists():
            return Path(os.path.normpath(candidate))
    raise InputError(
        f"The recorded scan '{record.input.name}' is not at '{folder / record.input.path}' any more. "
        "Name it: llm4seg segment --replay RECORD SCAN."
    )


def exported(record: Record, folder: Path) -> Volume | None:
    """Return the exported labels beside the record, or None where they are gone or cannot be read back."""
    from napari_llm4seg.io import read

    if record.result.name is None or not (folder / record.result.name).exists():
        return None
    try:
        return read(folder / record.result.name)
    except LLM4SegError:
        return None
