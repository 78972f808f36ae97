"""Whether learning from these corrections helps, judged on all of them: each by a training that did not see it.

One or two slices held back tell little: in the project's own study (training/reports/annotation_effort.md) most of
their warnings were false. A cross-check trains anew for each of a few parts of the slices, on the others, and judges
that part (k-fold cross-validation; Stone, J R Stat Soc B 36 (1974) 111). It takes as many trainings as there are parts
and speaks of the learning, not of the very checkpoint that is kept: that one learnt from more slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import FinetuneConfig
from napari_llm4seg.engine.corrections import Corrections
from napari_llm4seg.engine.finetune import Finetuner
from napari_llm4seg.engine.fit import Event
from napari_llm4seg.engine.gate import Gate, compare
from napari_llm4seg.engine.held_back import Item
from napari_llm4seg.engine.round import learnt_from
from napari_llm4seg.engine.scores import Score
from napari_llm4seg.errors import InputError

FOLDS = 3
# With fewer each training would lack half of what it has to learn from.
FEWEST = 4


@dataclass(frozen=True)
class Outlook:
    """What a cross-check would take.

    Attributes
    ----------
    slices : int
        How many it would judge: those that are new to the checkpoint.
    trainings : int
        How many it would take.
    fewest : int
        How many slices it needs.
    """

    slices: int
    trainings: int
    fewest: int = FEWEST


def outlook(checkpoint: Checkpoint, slices: Corrections, folds: int = FOLDS) -> Outlook:
    """Return what a cross-check of these slices would take."""
    fresh = _fresh(checkpoint, slices)
    return Outlook(len(fresh), len(parted(slices.items(), fresh, folds)))


def cross_check(
    finetuner: Finetuner,
    slices: Corrections,
    config: FinetuneConfig | None = None,
    *,
    folds: int = FOLDS,
    replay: Corrections | None = None,
    on_fold: Callable[[int, int], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Gate:
    """Return before and after of every slice that the checkpoint has not learnt from, each judged unseen.

    Parameters
    ----------
    finetuner : Finetuner
    slices : Corrections
    config : FinetuneConfig, optional
        Of each training; by default the finetuner's. Nothing is held back besides the part that is judged.
    folds : int
        Parts, and trainings, at most; at least 2.
    replay : Corrections, optional
        As for ``Finetuner.train``.
    on_fold : callable(number, folds), optional
        Told before each training, counting from 1.
    on_event, cancel
        As in ``fit``.

    Raises
    ------
    Cancelled
    InputError
        If fewer than four slices are new to the checkpoint, or too few are left to train on beside a part.
    """
    config = (config or finetuner.config).model_copy(update={"hold_back": 0.0})
    items, fresh = slices.items(), new_to(finetuner.checkpoint, slices)
    judged: dict[int, tuple[Score, Score]] = {}
    parts = parted(items, fresh, folds)
    for number, part in enumerate(parts, 1):
        if on_fold is not None:
            on_fold(number, len(parts))
        locked = {items[i].digest for i in part}
        done = finetuner.train(slices, config, replay=replay, locked=locked, on_event=on_event, cancel=cancel)
        judged |= dict(zip(done.split.held_back, zip(done.gate.before, done.gate.after, strict=True), strict=True))
    pairs = [judged[i] for i in fresh]
    return compare([before for before, _ in pairs], [after for _, after in pairs])


def new_to(checkpoint: Checkpoint, slices: Corrections) -> list[int]:
    """Return the numbers of the slices that a checkpoint has not learnt from.

    Raises
    ------
    InputError
        If there are fewer than four.
    """
    fresh = _fresh(checkpoint, slices)
    if len(fresh) < FEWEST:
        raise InputError(
            f"A cross-check needs {FEWEST} corrected slices that the model has not learnt from; there are "
            f"{len(fresh)}. Correct more slices."
        )
    return fresh


def _fresh(checkpoint: Checkpoint, slices: Corrections) -> list[int]:
    known = learnt_from(checkpoint)
    return [i for i, each in enumerate(slices.slices) if each.digest not in known]


def parted(items: Sequence[Item], fresh: Sequence[int], folds: int) -> list[list[int]]:
    """Return the numbers ``fresh`` in ``folds`` parts or fewer: a stack's slices in turn, near-duplicates together.

    In turn, so that a slice is about as far from those that train as the rest of the stack is.
    """
    groups: list[list[int]] = []
    for i in sorted(fresh, key=lambda i: (items[i].scan, items[i].z if items[i].z is not None else -1, i)):
        last = items[groups[-1][0]] if groups else None
        if last is not None and items[i].z is None and last.scan == items[i].scan:
            groups[-1].append(i)
        else:
            groups.append([i])
    number = max(2, min(folds, len(groups)))
    parts = [sorted(i for group in groups[start::number] for i in group) for start in range(number)]
    return [part for part in parts if part]
