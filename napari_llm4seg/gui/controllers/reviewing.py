"""One mask being corrected: what is known of each slice, and what a change of the mask means for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.corrections import ModelMask, Restored, Review, Suggester, Suggestion
from napari_llm4seg.corrections.review import EMPTY, SliceState, annotated
from napari_llm4seg.digests import mask_digest
from napari_llm4seg.gui.controllers.finding import Put
from napari_llm4seg.gui.controllers.review_ports import Stack, Surveyed

Array = npt.NDArray[Any]


class Reviewing:
    """The review of one ``Stack``.

    Parameters
    ----------
    stack : Stack
    found : Surveyed
        What its slices hold.

    Attributes
    ----------
    stack : Stack
    review : Review
    partial : bool
        Whether of an edited slice only what was drawn counts.
    """

    def __init__(self, stack: Stack, found: Surveyed) -> None:
        stack.surveyed(found)
        self.stack = stack
        self.partial = False
        wrote = dict(stack.wrote())
        self.review = Review(len(stack), wrote)
        self._wrote: dict[int, str] = wrote
        # of each slice, everything a model has written there: undoing a run is no correction
        self._ever: dict[int, set[str]] = {z: {digest} for z, digest in wrote.items()}
        rows, columns = stack.labels(0).shape
        self._model = ModelMask((len(stack), rows, columns))
        self._unknown: set[int] = set()
        self._late: set[int] = set()
        self._earlier: dict[int, Restored] = {}
        self._suggester = Suggester(len(stack), stack=len(stack) > 1)
        self.take(found)

    def take(self, found: Surveyed, automatic: bool = False) -> list[int]:
        """Take note of what every slice holds; return those whose state changed.

        An ``automatic`` change of slices that nobody had edited is no edit: nobody has looked at them.
        """
        changed = self.sync()
        if automatic:
            self._tidied(dict(enumerate(found.digests)))
        self._model.update(found.model)
        self._late.clear()
        for z, digest in enumerate(found.digests):
            if self._note(z, digest):
                changed.append(z)
            wrote = self._wrote.get(z, EMPTY)
            if digest != wrote and wrote != EMPTY and z not in self._model:
                self._unknown.add(z)  # edited before anybody looked: what the model had written is not known
        return sorted(set(changed))

    def sync(self) -> list[int]:
        """Take note of what models have written since; return the slices whose state changed."""
        wrote, changed = self.stack.wrote(), []
        for z in self._wrote.keys() | wrote.keys():
            digest = wrote.get(z, EMPTY)
            if digest != self._wrote.get(z, EMPTY):
                before = self.review.state(z)
                self.review.model_wrote(z, digest)
                self._ever.setdefault(z, set()).update((digest, self._wrote.get(z, EMPTY)))
                self._unknown.discard(z)
                self._earlier.pop(z, None)
                self._late.add(z)  # what it wrote is known after the next look at all slices
                if self.review.state(z) != before:
                    changed.append(z)
        self._wrote = dict(wrote)
        return changed

    def edited(self, slices: Iterable[int], automatic: bool = False) -> list[int]:
        """Look at slices that were touched, in an ``automatic`` change or not; return those that are another now."""
        changed, slices = self.sync(), list(slices)
        if automatic:
            self._tidied({z: mask_digest(self.stack.labels(z)) for z in slices})
        changed += [z for z in slices if self._note(z, mask_digest(self.stack.labels(z)))]
        return sorted(set(changed))

    def _tidied(self, digests: Mapping[int, str]) -> None:
        """Take note that the untouched ones of these slices are what an automatic change made of them."""
        new = {
            z: digest
            for z, digest in digests.items()
            if digest != self.review.written(z)
            and digest not in self._ever.get(z, ())
            and self.review.state(z) == "untouched"
        }
        self.stack.tidied(new)
        for z, digest in new.items():
            self._ever.setdefault(z, set()).update((digest, self._wrote.get(z, EMPTY)))
            self._late.add(z)
            self._wrote[z] = digest
            self.review.model_wrote(z, digest)

    def _note(self, z: int, digest: str) -> bool:
        if digest != self.review.written(z) and digest in self._ever.get(z, ()):
            before = self.review.state(z)
            self.review.model_wrote(z, digest)
            return self.review.state(z) != before
        return self.review.edited(z, digest)

    def restore(self, restored: Mapping[int, Restored]) -> None:
        """Take over the states of an earlier session whose labels are in the mask now."""
        for z, each in restored.items():
            self.review.restore(z, mask_digest(self.stack.labels(z)), each.record.state, self.review.written(z))
            self._earlier[z] = each

    def missing(self, restored: Mapping[int, Restored]) -> dict[int, Restored]:
        """Return what of an earlier session the mask does not hold."""
        return {
            z: each
            for z, each in restored.items()
            if each.labels.shape == self.stack.labels(z).shape and not np.array_equal(each.labels, self.stack.labels(z))
        }

    def put_of(self, z: int) -> Put:
        """Return what is to be kept of slice ``z``: nothing while it is untouched."""
        state = self.review.state(z)
        if state == "untouched":
            return Put()
        stack = self.stack
        labels = stack.labels(z)
        counts = self._counts(z, labels, state)
        return Put(lambda: stack.image(z), labels.copy(), state, counts, self.review.written(z), stack.model())

    def _counts(self, z: int, labels: Array, state: SliceState) -> npt.NDArray[np.bool_] | None:
        """Return which pixels of a slice count, None where all do."""
        earlier = self._earlier.get(z)
        if earlier is not None:
            # what the model had written then is not known any more, but what was drawn on it is
            drawn = annotated(labels, earlier.labels, state, self.partial)
            return None if drawn is None or earlier.annotated is None else drawn | earlier.annotated
        if z in self._unknown or z in self._late:
            return None
        return annotated(labels, self._model.slice_at(z), state, self.partial)

    def corrected(self) -> tuple[int, ...]:
        return self.review.corrected()

    def states(self) -> tuple[SliceState, ...]:
        return self.review.states()

    def think(self) -> Callable[[], tuple[Suggestion | None, bool]]:
        """Return what says which slice to correct next, and whether that buys little; it takes a while: for a job."""
        corrected, evidence, suggester = self.corrected(), dict(self.stack.evidence()), self._suggester

        def said() -> tuple[Suggestion | None, bool]:
            suggester.note(evidence)
            return suggester.next(corrected), bool(evidence) and suggester.enough(corrected)

        return said
