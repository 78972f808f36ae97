"""One mask of one scan under correction: what was done with each slice, on its way to the disk as it happens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from napari_llm4seg.corrections.manifest import ScanEntry
from napari_llm4seg.corrections.records import Array
from napari_llm4seg.corrections.review import ModelMask, Review, annotated
from napari_llm4seg.corrections.store import Restored, SampleStore
from napari_llm4seg.corrections.suggest import Head, Suggester, Suggestion, Weights
from napari_llm4seg.corrections.writer import Writer
from napari_llm4seg.digests import mask_digest
from napari_llm4seg.errors import InputError
from napari_llm4seg.planes import at, turned
from napari_llm4seg.volume import Volume


class CorrectionSession:
    """Hears of what happens to a mask and keeps review and store in step; knows no window.

    A slice that becomes edited or confirmed is written, one that becomes untouched again is taken back. What an earlier
    session has on the disk of the same slice comes back when everything that was done to it here is undone.

    Parameters
    ----------
    store : SampleStore
        Open for writing.
    writer : Writer
        Of that store.
    scan : ScanEntry
        Of ``volume``; from ``SampleStore.scan_for``.
    volume : Volume
        The scan; its slices are read in the writer's thread.
    axis : int
        Axis of the scan's grid along which slices are reviewed.
    model : str
        Digest of the checkpoint whose mask is corrected; empty where there is none.
    partial : bool
        Whether only what was drawn counts in edited slices.
    weights : Weights, optional
        Of the suggestions.

    Attributes
    ----------
    review : Review
    suggester : Suggester
    """

    def __init__(
        self,
        store: SampleStore,
        writer: Writer,
        scan: ScanEntry,
        volume: Volume,
        *,
        axis: int = 0,
        model: str = "",
        partial: bool = False,
        weights: Weights | None = None,
    ) -> None:
        self.scan, self.axis, self.model, self.partial = scan, axis, model, partial
        self.review = Review(scan.grid[axis])
        self.suggester = Suggester(scan.grid[axis], weights=weights)
        self._store, self._writer = store, writer
        self._view = turned(volume, axis)
        self._model_mask = ModelMask(scan.grid)
        # What was on the disk of the slices that this session has written; None where nothing was.
        self._before: dict[int, Restored | None] = {}
        self._taken_up: dict[int, Restored] = {}

    def model_wrote(self, mask: Array, slices: Iterable[int] | None = None) -> None:
        """Take note of what the model wrote: all of ``mask`` (Z, Y, X), or its ``slices`` along the first axis.

        Corrections on the disk stay, also of slices that are untouched now: they train on.
        """
        self._check(mask)
        chosen = list(range(len(mask)) if slices is None else slices)
        for z in chosen:
            self._model_mask.keep(z, mask[z])
        if self.axis == 0:
            for z in chosen:
                self.review.model_wrote(z, mask_digest(mask[z]))
                self._taken_up.pop(z, None)
            return
        whole = self._model_mask.whole()
        for index in range(len(self.review)):
            digest = mask_digest(whole[at(self.axis, index)])
            if digest != self.review.written(index):
                self.review.model_wrote(index, digest)
                self._taken_up.pop(index, None)

    def probabilities(self, index: int, values: Array, head: Head, threshold: float = 0.5) -> None:
        """Take note of a slice's probabilities (K, Y, X) along the session's axis, for the suggestions."""
        self.suggester.add(index, values, head, threshold)

    def look(self, mask: Array, slices: Iterable[int] | None = None) -> list[int]:
        """Look for edits in ``mask`` (Z, Y, X), write what changed and return those slices.

        Parameters
        ----------
        slices : iterable of int, optional
            Along the session's axis, where an edit is known to be confined to them; else all are looked at.

        Raises
        ------
        InputError
            If the mask has another size than the scan by now; what was corrected before is on the disk.
        """
        self._check(mask)
        changed = self.review.look(mask, self.axis, slices)
        for index in changed:
            self._write(index, mask)
        return changed

    def confirm(self, index: int, mask: Array) -> None:
        """Take note that a slice is right as it is."""
        self.look(mask, [index])
        self.review.confirm(index)
        self._write(index, mask)

    def unconfirm(self, index: int, mask: Array) -> None:
        """Take that back."""
        self.look(mask, [index])
        self.review.unconfirm(index)
        self._write(index, mask)

    def annotate_partly(self, partial: bool, mask: Array) -> None:
        """Change whether only what was drawn counts, also in the slices that are edited already."""
        self._check(mask)
        self.partial = partial
        for index in self._before:
            if self.review.state(index) == "edited":
                self._write(index, mask)

    def offer(self) -> dict[int, Restored]:
        """Return the slices that earlier sessions have corrected, for the person to take up again."""
        return self._store.restore(self.scan, self.axis)

    def take_up(self, index: int, restored: Restored) -> None:
        """Go on with a slice from an earlier session, after its labels were put into the mask."""
        record = restored.record
        self.review.restore(index, mask_digest(restored.labels), record.state, record.written)
        self._before[index] = None
        self._taken_up[index] = restored

    def corrected(self) -> tuple[int, ...]:
        """Return the slices that train: those corrected here, and those that were corrected earlier."""
        earlier = {
            r.index for r in self._store.records(self.scan) if r.axis == self.axis and r.index not in self._before
        }
        return tuple(sorted(earlier | set(self.review.corrected())))

    def suggestion(self) -> Suggestion | None:
        """Return the slice to correct next; None where all are corrected."""
        return self.suggester.next(self.corrected())

    def enough(self) -> bool:
        """Return whether further correction buys little."""
        return self.suggester.enough(self.corrected())

    def _check(self, mask: Array) -> None:
        if mask.shape != self.scan.grid:
            raise InputError(
                f"The mask has the shape {mask.shape} now and its scan {self.scan.grid}. What was corrected before is "
                "kept; choose the mask that belongs to the scan."
            )

    def _write(self, index: int, mask: Array) -> None:
        state = self.review.state(index)
        labels = mask[at(self.axis, index)]
        if state == "untouched":
            self._take_back(index)
            return
        if index not in self._before:
            self._before[index] = self._on_disk(index)
        earlier = self._taken_up.get(index)
        model = self.model if earlier is None else earlier.record.model
        counts = self._counts(index, labels)
        facts: dict[str, Any] = {"written": self.review.written(index), "model": model, "annotated": counts}
        self._writer.put(self.scan, index, self.axis, lambda: self._view.slice_at(index), labels, state, **facts)

    def _counts(self, index: int, labels: Array) -> Array | None:
        """Return which pixels of a slice count, None where all do."""
        state, earlier = self.review.state(index), self._taken_up.get(index)
        if earlier is None:
            return annotated(labels, self._model_mask.slice_at(index, self.axis), state, self.partial)
        # what the model wrote in the earlier session is not known any more, but what was drawn on it is
        drawn = annotated(labels, earlier.labels, state, self.partial)
        return None if drawn is None or earlier.annotated is None else drawn | earlier.annotated

    def _take_back(self, index: int) -> None:
        if index not in self._before:
            return
        before = self._before.pop(index)
        if before is None:
            self._writer.drop(self.scan, index, self.axis)
            return
        old = before.record
        facts: dict[str, Any] = {"written": old.written, "model": old.model, "annotated": before.annotated}
        image = lambda: self._view.slice_at(index)  # noqa: E731
        self._writer.put(self.scan, index, self.axis, image, before.labels, old.state, **facts)

    def _on_disk(self, index: int) -> Restored | None:
        key = (self.scan.id, self.axis, index)
        record = next((each for each in self._store.records(self.scan) if each.key == key), None)
        if record is None:
            return None
        try:
            _, labels, counts = self._store.arrays(record)
        except InputError:
            return None  # damaged, set aside and told by the store
        return Restored(np.array(labels), counts, record)
