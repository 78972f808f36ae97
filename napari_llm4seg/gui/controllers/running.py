"""One segmentation while it goes on: what it asked for, what has come, what is said at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from napari_llm4seg.config import PredictConfig
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
from napari_llm4seg.volume import Volume


@dataclass
class Run:
    """A segmentation of one scan.

    Parameters
    ----------
    scan : ScanInfo
    spec : ResultSpec
    volume : Volume
    first : int
        Slice to do first.
    stopped : Message or None
        Why it is being stopped when no person pressed Cancel.
    stopping : bool
        Whether it was asked to stop.
    complete : bool
        Whether every slice was done.
    """

    scan: ScanInfo
    spec: ResultSpec
    volume: Volume
    first: int
    started: float = field(default_factory=time.monotonic)
    result: ResultHandle | None = None
    done: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    stopped: Message | None = None
    stopping: bool = False
    complete: bool = False

    @property
    def total(self) -> int:
        """Number of slices asked for."""
        return self.scan.n_slices if self.spec.slices is None else len(self.spec.slices)

    def job(self, models: ModelSource, predictor: Any, config: PredictConfig) -> Any:
        """Return the function that a runner shall run."""
        slices = None if self.spec.slices is None else list(self.spec.slices)
        probability = bool(self.spec.channels)

        def work(ctx: Any) -> Any:
            def on_slice(z: int, labels: Any, probabilities: Any) -> None:
                ctx.partial(SlicePart(int(z), labels, probabilities if probability else None))

            return models.configured(predictor, config).predict(
                self.volume,
                slices=slices,
                first=self.first,
                progress=ctx.progress,
                cancel=ctx.cancelled,
                on_slice=on_slice,
                keep_probabilities=False,
            )

        return work

    def prepare(self, port: ViewerPort) -> bool:
        """Make, or find, the next layer that is needed; return whether there may be more to make."""
        if self.result is None:
            self.result = port.begin_result(self.scan.id, self.spec)
            return bool(self.spec.channels)
        return self.result.prepare()

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
            shown = ", ".join(str(z) for z in self.result.kept[:5])
            parts.append(f"Painted during the run and kept as painted: slice {shown}.")
        return Message("info", " ".join([*parts, *notes]))

    def broken_off(self) -> Message:
        """Say that, and why, the run was stopped and what became of its finished slices."""
        message = self.stopped or Message("info", "Stopped.")
        if self.done and self.result is not None and self.result.alive():
            kept = f"{len(self.done)} of {self.total} slices were finished and are kept; Undo result takes them back."
            message = replace(message, text=f"{message.text} {kept}")
        return message


def spec_of(predictor: Any, name: str, slices: tuple[int, ...] | None, probability: bool) -> ResultSpec:
    """Return what the result layer must know about ``predictor``, called ``name``."""
    model = predictor.checkpoint.config.model
    channels = tuple(item.name for item in model.classes)
    if model.head == "softmax":
        channels = ("background", *channels)
    return ResultSpec(
        model=name,
        digest=str(predictor.checkpoint.digest),
        classes=tuple((item.value, item.name, item.colour) for item in model.classes),
        slices=slices,
        channels=channels if probability else (),
    )
