"""A checkpoint that was just trained: shown on the slice on the screen, kept with its mask, or taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.corrections.suggest import Evidence, measure
from napari_llm4seg.gui.controllers.ports import ModelSource, Runner
from napari_llm4seg.gui.controllers.retrain_ports import Corrected, Trained
from napari_llm4seg.gui.controllers.review_ports import ReviewPort, Rewritten, Stack
from napari_llm4seg.gui.controllers.running import spec_of
from napari_llm4seg.gui.state.session import ModelEntry

Array = npt.NDArray[Any]


@dataclass
class Kept:
    """A version that was kept, as long as it can be rolled back.

    Attributes
    ----------
    trained : Trained
    entry : ModelEntry
    number : int
    written : Rewritten or None
        What its mask replaced.
    before : (ModelEntry, predictor), or (None, None)
        What was in use when it was kept: where a new model, which has no parent, goes back to.
    """

    trained: Trained
    entry: ModelEntry
    number: int
    written: Rewritten | None = None
    before: tuple[ModelEntry | None, Any] = (None, None)


@dataclass
class Fresh:
    """Slices a new model has segmented: ``labels`` (Y, X) and what its probabilities say."""

    labels: dict[int, Array] = field(default_factory=dict)
    evidence: dict[int, Evidence] = field(default_factory=dict)


class Preview:
    """Shows what a new model would change in the slice on the screen, and follows when another one is shown.

    Parameters
    ----------
    review : Corrected
    port : ReviewPort
    models : ModelSource
    runner : Runner
    config : callable(predictor) -> PredictConfig
        How a model would be run now.
    on_change : callable()
        ``words`` has changed.

    Attributes
    ----------
    words : str
        What changes on the slice on the screen.
    """

    def __init__(
        self,
        review: Corrected,
        port: ReviewPort,
        models: ModelSource,
        runner: Runner,
        config: Callable[[Any], PredictConfig],
        on_change: Callable[[], None],
    ) -> None:
        self._review, self._port, self._models, self._runner = review, port, models, runner
        self._config, self._on_change = config, on_change
        self.words = ""
        self._predictor: Any = None
        self._seen: dict[int, tuple[int, int]] = {}
        self._asked: int | None = None
        self._stack: Stack | None = None

    def start(self, predictor: Any) -> None:
        self.end()
        self._predictor = predictor
        self.follow()

    def end(self) -> None:
        """Take the overlay away."""
        if self._predictor is None:
            return
        self._predictor = None
        if self._runner.current is not None:
            self._runner.current.cancel()
        self._port.drop_change()
        self._stack, self._seen, self._asked, self.words = None, {}, None, ""

    def follow(self) -> None:
        """Show the slice that is on the screen now."""
        stack, z = self._review.stack, self._review.here()
        if self._predictor is None or stack is None or z is None:
            return
        if stack is not self._stack:  # another mask: what was shown on the one before is none of its
            self._port.drop_change()
            self._stack, self._seen, self._asked = stack, {}, None
        if z == self._asked:
            return
        self._asked = z
        if z in self._seen:
            self._say(z)
            return
        predictor = self._predictor
        self.words = "Looking at what changes here…"
        self._runner.start(
            lambda ctx: segment(self._models, predictor, self._config(predictor), stack, [z], z, ctx),
            on_result=lambda fresh: self._show(predictor, stack, z, fresh),
            on_error=lambda error: self._failed(z),
        )

    def _show(self, predictor: Any, stack: Stack, z: int, fresh: Fresh) -> None:
        if predictor is not self._predictor or stack is not self._review.stack or z not in fresh.labels:
            return
        self._seen[z] = self._port.show_change(stack, z, fresh.labels[z])
        if z == self._asked:
            self._say(z)
            self._on_change()

    def _failed(self, z: int) -> None:
        if z == self._asked:
            self.words = "What changes here could not be shown."
            self._on_change()

    def _say(self, z: int) -> None:
        added, taken = self._seen[z]
        where = "here" if self._review.stack is not None and len(self._review.stack) == 1 else f"in slice {z}"
        changed = f"+{added} (blue) and −{taken} pixels (orange)"
        self.words = f"{where.capitalize()}: {changed}" if added or taken else f"No change {where}"


def segment(
    models: ModelSource,
    predictor: Any,
    config: PredictConfig,
    stack: Stack,
    slices: list[int],
    first: int | None,
    ctx: Any,
) -> Fresh:
    """Segment some slices of a stack, for a job; stopped half-way, what was finished is returned."""
    from napari_llm4seg.errors import Cancelled
    from napari_llm4seg.planes import turned

    fresh = Fresh()
    volume = turned(stack.scan, stack.axis)
    configured = models.configured(predictor, config.model_copy(update={"axis": "stored"}))
    head, wanted = predictor.checkpoint.config.model.head, set(slices)

    def on_slice(z: int, labels: Array, probabilities: Array) -> None:
        if int(z) in wanted:
            fresh.labels[int(z)] = labels.copy()
            fresh.evidence[int(z)] = measure(probabilities, head, config.threshold)

    try:
        configured.predict(
            volume,
            slices=slices,
            first=first if first in wanted else None,
            progress=ctx.progress,
            cancel=ctx.cancelled,
            on_slice=on_slice,
            keep_probabilities=False,
        )
    except Cancelled:
        if not fresh.labels:
            raise
    return fresh


def rewrite(stack: Stack, fresh: Fresh, predictor: Any, name: str) -> Rewritten:
    """Write a new model's slices over those that nobody has edited."""
    evidence: Mapping[int, Any] = {**stack.evidence(), **fresh.evidence}
    return stack.rewrite(fresh.labels, spec_of(predictor, name, None, False, axis=stack.axis), evidence)
