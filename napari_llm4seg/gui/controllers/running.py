"""One segmentation while it goes on: what it asked for, what has come, what is said at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.corrections.suggest import measure
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.ports import (
    ModelSource,
    ResultHandle,
    ResultSpec,
    ScanInfo,
    SlicePart,
    ViewerPort,
)
from napari_llm4seg.gui.views.abstract.common import Message
from napari_llm4seg.scratch import LARGE, scratch_array, size_of
from napari_llm4seg.volume import Volume


@dataclass
class Run:
    """A segmentation of one scan.

    Parameters
    ----------
    scan : ScanInfo
    spec : ResultSpec
    volumes : dict of int to Volume
        The frames to do, in order; a scan without time points or channels is frame 0.
    first : int
        Slice to do first in each frame.
    stopped : Message or None
        Why it is being stopped when no person pressed Cancel.
    stopping : bool
        Whether it was asked to stop.
    complete : bool
        Whether every slice was done.
    """

    scan: ScanInfo
    spec: ResultSpec
    volumes: dict[int, Volume]
    first: int
    started: float = field(default_factory=time.monotonic)
    result: ResultHandle | None = None
    done: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    stopped: Message | None = None
    stopping: bool = False
    complete: bool = False

    @property
    def per_frame(self) -> int:
        """Number of slices in each frame."""
        return next(iter(self.volumes.values())).grid[self.spec.axis]

    @property
    def total(self) -> int:
        """Number of slices asked for."""
        return len(self.volumes) * self.per_frame if self.spec.slices is None else len(self.spec.slices)

    def of_a_volume(self) -> bool:
        """Return whether all that was asked for, several slices of one volume, is done."""
        return self.complete and self.total > 1 and self.scan.frames == 1 and not self.scan.stack_of

    def job(self, models: ModelSource, predictor: Any, config: PredictConfig) -> Any:
        """Return the function that a runner shall run."""
        probability = bool(self.spec.channels)

        def work(ctx: Any) -> Any:
            configured, into, found = models.configured(predictor, config), self._room(), []
            head, threshold = configured.checkpoint.config.model.head, config.threshold
            for number, (frame, volume) in enumerate(self.volumes.items()):

                def on_slice(z: int, labels: Any, probabilities: Any, frame: int = frame) -> None:
                    place = frame * self.per_frame + int(z)
                    evidence = measure(probabilities, head, threshold)
                    ctx.partial(SlicePart(place, labels, probabilities if probability else None, evidence))

                prediction = configured.predict(
                    volume,
                    slices=self._slices(frame),
                    first=self.first,
                    progress=self._progress(ctx.progress, number),
                    cancel=ctx.cancelled,
                    on_slice=on_slice,
                    keep_probabilities=False,
                    into=into,
                )
                found.append(dict(prediction.provenance))
            return replace(prediction, provenance=self._joined(found))

        return work

    def _slices(self, frame: int) -> list[int] | None:
        """Return the slices to do of ``frame``, counted from its own first; None for all."""
        if self.spec.slices is None:
            return None
        return [z % self.per_frame for z in self.spec.slices if z // self.per_frame == frame]

    def _room(self) -> Any:
        """Return where the run keeps its own labels: on disk where they are large, for the layer has them already."""
        grid = next(iter(self.volumes.values())).grid
        dtype = np.uint8 if max(value for value, _, _ in self.spec.classes) < 256 else np.uint16
        return scratch_array(grid, dtype) if size_of(grid, dtype) >= LARGE else None

    def _progress(self, tell: Callable[[int, int, str], Any], number: int) -> Callable[[int, int, str], Any]:
        """Return what tells the progress of the whole run from that of its frame ``number``, counted as they come."""
        count = len(self.volumes)
        if count == 1:
            return tell

        def told(done: int, total: int, text: str) -> Any:
            return tell(number * total + done, count * total, f"{self.scan.frame_kind} {number + 1}/{count}, {text}")

        return told

    def _joined(self, found: list[dict[str, Any]]) -> Mapping[str, Any]:
        """Return one provenance of all frames: the last one's, with every message once and every frame's source."""
        if self.scan.frames == 1:
            return found[0]
        messages = dict.fromkeys(str(text) for each in found for text in each.get("messages", ()))
        sources = dict(zip(self.volumes, (each.get("source") for each in found), strict=True))
        return {
            **found[-1],
            "messages": list(messages),
            "frames": {str(frame): sources[frame] for frame in sorted(sources)},
        }

    def prepare(self, port: ViewerPort) -> bool:
        """Make, or find, the next layer that is needed; return whether there may be more to make."""
        if self.result is None:
            self.result = port.begin_result(self.scan.id, self.spec)
            return True
        return self.result.prepare()

    @property
    def ready(self) -> bool:
        """Whether the layers can be written to."""
        return self.result is not None and self.result.ready

    def take(self, part: SlicePart) -> None:
        """Write one finished slice."""
        assert self.result is not None  # made before the job was started
        self.result.write(part)
        self.done.append(part.z)
        if part.labels.any():
            self.found.append(part.z)

    def gone(self, known: set[str]) -> str:
        """Return, as a sentence, whether the scan (not in ``known``) or the result was taken away; else nothing."""
        if self.scan.id not in known:
            return f"'{self.scan.name}' was closed, so its segmentation was stopped."
        if self.result is not None and not self.result.alive():
            return "The result layer was removed, so the segmentation was stopped."
        return ""

    def summary(self, notes: list[str]) -> Message:
        """Say in one calm line what was found; conversions and fallbacks (``notes``) follow it."""
        seconds = words.duration(time.monotonic() - self.started)
        names = [name for _, name, _ in self.spec.classes]
        structures = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        if self.total == 1:
            what = f"Done in {seconds}." if self.found else f"The model found no {structures} here ({seconds})."
        else:
            what = f"Found {structures} in {len(self.found)} of {len(self.done)} slices ({seconds})."
        parts = [what]
        if self.result is not None and self.result.kept:
            shown = ", ".join(self._named(z) for z in self.result.kept[:5])
            parts.append(f"Painted during the run and kept as painted: slice {shown}.")
        return Message("info", " ".join([*parts, *notes]))

    def _named(self, z: int) -> str:
        frame, own = divmod(z, self.per_frame)
        return f"{own} of {self.scan.frame_kind} {frame}" if self.scan.frames > 1 else str(own)

    def broken_off(self) -> Message:
        """Say that, and why, the run was stopped and what became of its finished slices."""
        message = self.stopped or Message("info", "Stopped.")
        if self.done and self.result is not None and self.result.alive():
            kept = f"{len(self.done)} of {self.total} slices were finished and are kept; Undo result takes them back."
            message = replace(message, text=f"{message.text} {kept}")
        return message


def spec_of(
    predictor: Any, name: str, slices: tuple[int, ...] | None, probability: bool, plane: str = "stored", axis: int = 0
) -> ResultSpec:
    """Return what the result layer must know about ``predictor``, called ``name``, run on slices of ``plane``."""
    model = predictor.checkpoint.config.model
    channels = tuple(item.name for item in model.classes)
    if model.head == "softmax":
        channels = ("background", *channels)
    return ResultSpec(
        model=name if plane == "stored" else f"{name} · {plane}",
        digest=str(predictor.checkpoint.digest),
        classes=tuple((item.value, item.name, item.colour) for item in model.classes),
        slices=slices,
        channels=channels if probability else (),
        axis=axis,
    )
