"""The Measure section: figures of the chosen mask, out of date once it was edited, renewed after each result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.measure_state import Facts, Measured, present
from napari_llm4seg.gui.controllers.ports import MaskInfo, MaskPort, Runner
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import Message, ProgressState
from napari_llm4seg.gui.views.abstract.measure import MeasureState, MeasureView
from napari_llm4seg.volume import Volume

Classes = tuple[tuple[int, str, str], ...]


class MeasureController:
    """Measures ``session.mask_id`` in jobs.

    Parameters
    ----------
    session : Session
    port : MaskPort
        Read, never listened to.
    view : MeasureView
    runner : Runner
        A runner of its own: a new measurement supersedes the one that goes on.
    known : callable() -> tuple of (value, name, colour)
        The classes of the mask as its legend has them.
    """

    def __init__(
        self, session: Session, port: MaskPort, view: MeasureView, runner: Runner, known: Callable[[], Classes]
    ) -> None:
        self.session, self.port, self.view, self._runner, self._legend = session, port, view, runner, known
        self._listening = Listening()
        self._known: dict[str, Measured] = {}
        self._others: dict[str, str] = {}
        self._tolerance = 1.0
        self._running: str | None = None
        self._edited = False
        self._progress: ProgressState | None = None
        self._message: Message | None = None

    def start(self) -> None:
        self.view.attach(self)
        self._listening.to(
            (self.session.mask_changed, self._mask_changed),
            (self.session.masks_changed, self._render),
            (self.session.mask_edited, self._mask_edited),
            (self.session.classes_changed, self._classes_changed),
            (self.session.busy_changed, self._busy_changed),
        )
        self._render()

    def close(self) -> None:
        self._listening.stop()
        self.cancel()

    # ------------------------------------------------------------------ what a person does

    def measure(self) -> None:
        """Measure the mask, and compare it where another one is chosen."""
        mask = self._mask()
        if mask is None:
            return
        self._message = None
        try:
            labels, scan, frame = self.port.volume(mask.id), self._scan(mask), self.port.frame_on_show(mask.id)[1]
            other = self._other(mask)
            against = self.port.volume(other.id) if other is not None else None
        except LLM4SegError as error:
            self._failed(error)
            return
        tolerance, classes = self._tolerance, self._legend()

        def job(ctx: Any) -> Measured:
            from napari_llm4seg.labels.cleanup import Hooks
            from napari_llm4seg.labels.measure import measure

            hooks = Hooks(ctx.progress, ctx.cancelled)
            found = measure(labels, scan, classes, hooks)
            done = Measured(found, scan.name if scan is not None else "", frame)
            if against is None or other is None:
                return done
            from napari_llm4seg.labels.compare import compare

            return replace(
                done,
                comparison=compare(labels, against, tolerance, classes, hooks),
                other=other.name,
                other_id=other.id,
            )

        self._running, self._edited = mask.id, False
        self._progress = ProgressState(0, 0, "measuring")
        self._render()
        self._runner.start(
            job,
            on_progress=self._progressed,
            on_result=lambda done: self._done(mask.id, done),
            on_error=self._failed,
            on_cancelled=self._stopped,
        )

    def choose_other(self, mask_id: str) -> None:
        """Compare with another mask from now on, "" with none."""
        if self.session.mask_id is not None:
            self._others[self.session.mask_id] = mask_id
            self.measure()

    def set_tolerance(self, value: float) -> None:
        self._tolerance = value
        mask = self._mask()
        if mask is not None and self._other(mask) is not None:
            self.measure()
        else:
            self._render()

    def copy(self) -> None:
        """Put the table on the clipboard, in columns that a spreadsheet takes."""
        from napari_llm4seg.labels.measure import table_text

        measured = self._measured()
        if measured is not None:
            self.view.put_on_clipboard(table_text(measured.rows(), "\t"))
            self._message = Message("info", "The table is on the clipboard.")
        self._render()

    def save_csv(self, path: Path) -> None:
        from napari_llm4seg.labels.measure import write_csv

        measured = self._measured()
        if measured is not None:
            try:
                write_csv(path, measured.rows())
                self._message = Message("info", f"Saved {path.name}.")
            except LLM4SegError as error:
                self._message = words.failure(error, "Saving the table")
        self._render()

    def cancel(self) -> None:
        if self._running is not None and self._runner.current is not None:
            self._runner.current.cancel()

    def dismiss_message(self) -> None:
        self._message = None
        self._render()

    # ------------------------------------------------------------------ what happens

    def _mask_changed(self, _: object) -> None:
        self._message = None
        self._render()

    def _mask_edited(self, mask_id: str) -> None:
        """What was measured of that mask, or against it, is out of date."""
        stale = {
            mask: replace(measured, out_of_date=True)
            for mask, measured in self._known.items()
            if not measured.out_of_date and mask_id in (mask, measured.other_id)
        }
        self._known |= stale
        if self._running is not None and mask_id in (self._running, self._others.get(self._running)):
            self._edited = True
        if stale:
            self._render()

    def _classes_changed(self, mask_id: str) -> None:
        """A class was named or coloured anew: its figures are the same."""
        measured, mask = self._known.get(mask_id), self._mask(mask_id)
        if measured is not None and mask is not None:
            named = {value: (name, colour) for value, name, colour in mask.classes}
            old = {item.value: (item.name, item.colour) for item in measured.found}
            found = tuple(
                replace(item, name=name, colour=colour)
                for item in measured.found
                for name, colour in [named.get(item.value, old[item.value])]
            )
            comparison = measured.comparison
            if comparison is not None:
                agreement = [replace(item, name=named.get(item.value, (item.name,))[0]) for item in comparison.classes]
                comparison = replace(comparison, classes=tuple(agreement))
            self._known[mask_id] = replace(measured, found=found, comparison=comparison)
        self._render()

    def _busy_changed(self, busy: str) -> None:
        """A run has ended: its result, now the chosen mask, is measured without being asked."""
        mask = self.session.mask_id
        if not busy and mask is not None and mask == self.session.result_id and self._in_memory(mask):
            self.measure()
        self._render()

    def _in_memory(self, mask_id: str) -> bool:
        try:
            return isinstance(self.port.volume(mask_id).data, np.ndarray)
        except LLM4SegError:
            return False

    def _progressed(self, progress: Any) -> None:
        if self._running is not None:
            self._progress = ProgressState(progress.done, progress.total, progress.message)
            self._render()

    def _done(self, mask_id: str, measured: Measured) -> None:
        self._known[mask_id] = replace(measured, out_of_date=self._edited)
        self._stopped()

    def _failed(self, error: BaseException) -> None:
        self._message = words.failure(error, "Measuring")
        self._stopped()

    def _stopped(self) -> None:
        self._running, self._progress = None, None
        self._render()

    # ------------------------------------------------------------------ what is there

    def _mask(self, mask_id: str | None = None) -> MaskInfo | None:
        wanted = mask_id or self.session.mask_id
        return next((mask for mask in self.port.masks() if mask.id == wanted), None)

    def _measured(self) -> Measured | None:
        return self._known.get(self.session.mask_id or "")

    def _other(self, mask: MaskInfo) -> MaskInfo | None:
        return self._mask(self._others.get(mask.id)) if self._others.get(mask.id) else None

    def _scan(self, mask: MaskInfo) -> Volume | None:
        """Return the scan the mask was made on, or else the chosen one, where it has the mask's grid."""
        wanted = mask.scan_id or self.session.scan_id
        if wanted is None:
            return None
        try:
            scan, labels = self.port.volume(wanted), self.port.volume(mask.id)
        except LLM4SegError:  # just closed, or of several time points
            return None
        same = scan.grid == labels.grid and np.allclose(scan.affine, labels.affine, atol=1e-3)
        return scan if same else None

    def _render(self, *_: object) -> None:
        mask = self._mask()
        if mask is None:
            self.view.show_state(MeasureState())
            return
        other = self._other(mask)
        facts = Facts(
            mask=mask,
            measured=self._measured(),
            others=tuple(item for item in self.port.masks() if item.id != mask.id),
            other=other.id if other is not None else "",
            tolerance=self._tolerance,
            running=self._running is not None,
            progress=self._progress,
            message=self._message,
        )
        self.view.show_state(present(facts))
