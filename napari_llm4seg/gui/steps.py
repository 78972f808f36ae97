"""Which automatic changes a labels layer went through, as words in its metadata; what is undone is taken out again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.layers import Labels

from napari_llm4seg.gui.layers import KEY, own_metadata

_NAME = "clean_up"


@dataclass
class _Step:
    """``mark`` refers to a part of napari's record of the change, which moves between its two histories.

    Weakly: what napari has forgotten is not kept alive here.
    """

    words: str
    mark: ref[Any] | None
    counts: bool = True


_NOTED: WeakKeyDictionary[Labels, list[_Step]] = WeakKeyDictionary()


def note(layer: Labels, words: str) -> None:
    """Keep ``words`` for the newest step in the layer's undo history."""
    newest = getattr(layer, "_undo_history", ())
    # what was noted before this program started, in a layer read from a file, cannot be undone any more
    noted = _NOTED.setdefault(layer, [_Step(text, None) for text in steps(layer)])
    noted.append(_Step(words, ref(_mark(newest[-1][0])) if newest else None))
    _write(layer)


def follow(layer: Labels) -> None:
    """Take out of the metadata what was undone, and put in what was done again."""
    if layer not in _NOTED:
        return
    done, undone = (
        {id(_mark(atom)) for item in getattr(layer, name, ()) for atom in item}
        for name in ("_undo_history", "_redo_history")
    )
    for step in _NOTED[layer]:
        mark = step.mark() if step.mark is not None else None
        # one that is in neither history is too old to be undone, or was undone and painted over: it stays as it is
        if mark is not None:
            step.counts = id(mark) in done or (id(mark) not in undone and step.counts)
    _write(layer)


def is_noted(layer: Labels, item: Any) -> bool:
    """Return whether ``item``, one of napari's undo steps, was an automatic change."""
    marks = {id(_mark(atom)) for atom in item}
    return any(step.mark is not None and id(step.mark()) in marks for step in _NOTED.get(layer, ()))


def steps(layer: Labels) -> list[str]:
    """Return what was done to the layer, oldest first."""
    return [str(words) for words in own_metadata(layer).get(_NAME, ())]


def _mark(atom: Any) -> Any:
    """Return what tells one record of a change, a tuple, from another: the first array in it."""
    return next(part for part in atom if isinstance(part, np.ndarray))


def _write(layer: Labels) -> None:
    layer.metadata.setdefault(KEY, {})[_NAME] = [step.words for step in _NOTED[layer] if step.counts]
