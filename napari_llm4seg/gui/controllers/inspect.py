"""What the Inspect dock does: record the slice on show, take clicks, hand both to the view that is open. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.inspect_attention import AttentionPart
from napari_llm4seg.gui.controllers.inspect_errands import Errands
from napari_llm4seg.gui.controllers.inspect_export import export
from napari_llm4seg.gui.controllers.inspect_features import FeaturesPart
from napari_llm4seg.gui.controllers.inspect_ports import InspectPort, Listeners, Place, axes_of
from napari_llm4seg.gui.controllers.inspect_recording import Asked, Part, Recording, record
from napari_llm4seg.gui.controllers.inspect_spectrum import SpectrumPart
from napari_llm4seg.gui.controllers.inspect_state import about, hint, proof
from napari_llm4seg.gui.controllers.inspect_wanted import Wanted, axis_of
from napari_llm4seg.gui.controllers.inspect_what_if import WhatIfPart
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract.common import ButtonState, Message, ProgressState
from napari_llm4seg.gui.views.abstract.inspect import InspectState, InspectView
from napari_llm4seg.volume import Volume

_EXPORT = "Maps as NIfTI or TIFF in their place, numbers as CSV, figures as PNG, and a JSON that sums up"


@dataclass(frozen=True, eq=False)
class _Pending:
    """A recording under way."""

    asked: Asked
    place: Place


class InspectController:
    """Connects the session, the viewer and one view; ``Desk`` for the views in it.

    Parameters
    ----------
    session : Session
    port : InspectPort
    view : InspectView
    make_runner : callable() -> Runner
        Called three times: recording, what takes longer, and what takes a moment.
    settings : Settings
    soon : callable(callable)
        Runs its argument in the window's thread a moment later, once for several calls within that moment.
    """

    def __init__(
        self,
        session: Session,
        port: InspectPort,
        view: InspectView,
        make_runner: Callable[[], Runner],
        settings: Settings,
        soon: Callable[[Callable[[], None]], Any],
    ) -> None:
        self.session, self.port, self.view, self.settings = session, port, view, settings
        self._recorder, worker, quick = make_runner(), make_runner(), make_runner()
        self._runners = (self._recorder, worker, quick)
        self._errands, self._wanted = Errands(session, self, worker, quick), Wanted(session, port, settings)
        self._soon, self._listening = soon, Listening()
        self.recording: Recording | None = None
        self.token: int | None = None
        self._place: Place | None = None
        self._pending: _Pending | None = None
        self._followed: tuple[Asked, int] | None = None
        self.message: Message | None = None
        self.progress: ProgressState | None = None
        self._closed = False
        self._tab = "attention"
        self.attention = AttentionPart(self)
        self.features, self.spectrum, self.what_if = FeaturesPart(self), SpectrumPart(self), WhatIfPart(self)
        self._parts: dict[str, Part] = {
            "attention": self.attention,
            "features": self.features,
            "spectrum": self.spectrum,
            "what_if": self.what_if,
        }

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        self.view.attach(self)
        self.port.connect(Listeners(self._target, self._clicked, self._hovered, self._moved, self._layers_changed))
        session = self.session
        for signal in (session.scan_changed, session.model_changed, session.predictor_changed, session.busy_changed):
            self._listening.to((signal, self._follow))
        self._follow()

    def close(self) -> None:
        """Stop what runs and listen to nothing any more; what was drawn stays."""
        if self._closed:
            return
        self._closed = True
        self.port.disconnect()
        self._listening.stop()
        for runner in self._runners:
            if runner.current is not None:
                runner.current.cancel()
        self._errands.close()
        self.recording = None

    def shown_changed(self) -> None:
        self._follow()

    # ------------------------------------------------------------------ what is to be recorded

    def _moved(self) -> None:
        if not self._closed:
            self._soon(self._follow)

    def _layers_changed(self) -> None:
        recording = self.recording
        if recording is not None and recording.asked.scan_id != self.session.scan_id:
            self._follow()
        elif self._tab == "what_if":
            self.render()  # a region may have come

    def _follow(self, _: object = None) -> None:
        """Record what the viewer shows now, unless that is what was recorded last."""
        if self._closed:
            return
        found = self._wanted.now() if self.view.in_view() else None
        if found is None:
            self._drop_if_stale()
            self.render()
            return
        asked, volume, z = found
        recording = self.recording
        turned = recording is not None and recording.asked == asked and not self.port.in_slices()
        pending = self._pending
        coming = pending is not None and pending.asked == asked and round(pending.place[0]) == z
        if (asked, z) == self._followed or turned or coming:
            self.render()
            return
        self._followed = (asked, z)
        if recording is not None and recording.asked == asked and recording.holds_slice(z):
            self.render()
            return
        side = volume.grid[axes_of(axis_of(asked, volume))[1]], volume.grid[axes_of(axis_of(asked, volume))[2]]
        inside = self._place is not None and self._place[1] <= side[0] - 0.5 and self._place[2] <= side[1] - 0.5
        if recording is not None and recording.asked.scan_id != asked.scan_id:
            inside = False
        if self._place is not None and inside:
            place: Place = (float(z), self._place[1], self._place[2])
            self._place = place
        else:
            self._place, place = None, (float(z), (side[0] - 1) / 2, (side[1] - 1) / 2)
        self._record(asked, volume, place)

    def _drop_if_stale(self) -> None:
        """Take down what belongs to a scan or a model that is not chosen any more."""
        recording, session = self.recording, self.session
        if recording is None:
            return
        if recording.asked.scan_id != session.scan_id or recording.asked.predictor is not session.predictor:
            self._drop()

    def _drop(self) -> None:
        self.recording = self.token = self._followed = None
        for part in self._parts.values():
            part.forget()
        self.port.show_only(())
        self.port.say("")
        self.view.show_hover("")

    # ------------------------------------------------------------------ recording

    def _record(self, asked: Asked, volume: Volume, place: Place) -> None:
        self._drop_if_stale()
        pending = self._pending = _Pending(asked, place)
        self.message = None
        # a bar that runs to and fro would have the whole window drawn anew, and slow down what it waits for
        self.progress = ProgressState(0, 1, f"recording slice {round(place[0])}")
        self._recorder.start(
            lambda ctx: record(asked, volume, place, ctx.cancelled),
            on_result=lambda recording: self._recorded(pending, recording),
            on_error=lambda error: self._not_recorded(pending, error),
            on_cancelled=lambda: self._not_recorded(pending, None),
        )
        self.render()

    def _recorded(self, pending: _Pending, recording: Recording) -> None:
        if self._closed or pending is not self._pending:
            return
        self._pending = self.progress = None
        if recording.asked.predictor is not self.session.predictor:
            return
        self._drop()
        self.recording, self._followed = recording, (recording.asked, round(pending.place[0]))
        place = self._place
        if place is not None and round(place[0]) == round(pending.place[0]):
            self.token = recording.token_at(place)
            if self.token is None and place != pending.place:
                self._clicked_at(recording.asked, place)  # clicked elsewhere while this was recorded
                return
        self._draw()

    def _not_recorded(self, pending: _Pending, error: BaseException | None) -> None:
        if self._closed or pending is not self._pending:
            return
        self._pending = self.progress = None
        self._drop()
        if error is not None:
            self.message = words.failure(error, "Recording the slice")
        self.render()

    # ------------------------------------------------------------------ clicks

    def _target(self) -> str | None:
        ready = not self._closed and self.view.in_view() and self.session.predictor is not None
        return self.session.scan_id if ready else None

    def _clicked(self, frame: int, voxel: Place) -> None:
        scan = self.session.scan_id
        if self._closed or scan is None or self.session.predictor is None:
            return
        if self.session.busy:
            self.say(Message("info", f"{self.session.busy} Wait until it has ended."))
            return
        try:
            asked = self._wanted.of(scan, frame)
            order = axes_of(axis_of(asked, self.port.volume(scan, frame)))
        except LLM4SegError as error:
            self.say(words.failure(error, "Reading the layer"))
            return
        self._clicked_at(asked, (voxel[order[0]], voxel[order[1]], voxel[order[2]]))

    def _clicked_at(self, asked: Asked, place: Place) -> None:
        """Ask for the token of a place of the turned scan; what was not recorded yet is, around it."""
        self._place = place
        recording, pending = self.recording, self._pending
        if pending is not None and pending.asked == asked and round(pending.place[0]) == round(place[0]):
            return  # it is looked up when the recording is there
        token = recording.token_at(place) if recording is not None and recording.asked == asked else None
        if token is None:
            self._record(asked, self.port.volume(asked.scan_id, asked.frame), place)
        elif token != self.token:
            self.token = token
            self._draw()

    def _hovered(self, frame: int, voxel: Place | None) -> None:
        recording, text = self.recording, ""
        if recording is not None and voxel is not None and frame == recording.asked.frame:
            order = axes_of(recording.target.axis)
            token = recording.token_at((voxel[order[0]], voxel[order[1]], voxel[order[2]]))
            text = "" if token is None else self._parts[self._tab].value_at(token)
        self.view.show_hover(text)
        self.port.say(text)

    # ------------------------------------------------------------------ views

    def show_tab(self, key: str) -> None:
        if key in self._parts and key != self._tab:
            self._tab = key
            self._draw()

    def choose(self, what: str, value: Any) -> None:
        self._parts[self._tab].choose(what, value)
        self._draw()

    def act(self, what: str, value: Any = None) -> None:
        if self.recording is None:
            return
        try:
            self.message = None
            self._parts[self._tab].act(what, value)
        except LLM4SegError as error:
            self.message = words.failure(error, "Starting")
        self.render()

    def redraw(self) -> None:
        self._draw()

    def _draw(self) -> None:
        """Have the open view draw, and take the other views' layers out of sight."""
        part = self._parts[self._tab]
        try:
            part.draw()
            self.port.show_only(part.slots if self.recording is not None else ())
        except LLM4SegError as error:
            self.message = words.failure(error, "Drawing the map")
        self.render()

    # ------------------------------------------------------------------ what takes longer

    def blocked(self) -> str:
        if self.recording is None:
            return "Nothing is recorded yet."
        return f"{self.session.busy} Wait until it has ended." if self.session.busy else ""

    def quick(self, doing: str, work: Callable[[Any], Any], done: Callable[[Any], None]) -> Any:
        return self._errands.quick(doing, work, done)

    def run(self, doing: str, work: Callable[[Any], Any], done: Callable[[Any], None]) -> None:
        self._errands.run(doing, work, done)

    def cancel(self) -> None:
        for runner in self._runners:
            if runner.current is not None:
                runner.current.cancel()

    def export_to(self, folder: Path) -> None:
        """Write maps, tables and figures of what was looked at, as ``llm4seg inspect`` does."""
        recording, token = self.recording, self.token
        if recording is None or token is None or self._no_export():
            return
        head, layer = self.attention.asked
        found = self.what_if.found()
        stack = self.spectrum.stack_rows

        def write(ctx: Any) -> Path:
            return export(recording, folder, token, head, layer, found, stack, ctx)

        def written(path: Path) -> None:
            self.message = Message("info", f"Maps, tables and figures are in {path.parent}.", str(path))

        self.run("writing maps, tables and figures", write, written)

    def _no_export(self) -> str:
        """Return why nothing can be exported now, or nothing."""
        if self.recording is not None and not self.recording.seen.proof.ok:
            return self.recording.seen.proof.words
        return self.blocked() or ("" if self.token is not None else "Click the scan first: its place is written too.")

    def say(self, message: Message) -> None:
        self.message = message
        self.render()

    def dismiss_message(self) -> None:
        self.message = None
        self.render()

    # ------------------------------------------------------------------ drawing

    def render(self) -> None:
        if self._closed:
            return
        running = bool(self._errands.doing) or self._pending is not None
        reason = self._no_export()
        self.view.show_state(
            InspectState(
                tab=self._tab,
                hint=hint(self.session, self.recording, self.token),
                about=about(self.session, self.recording),
                proof=proof(self.recording),
                progress=self.progress,
                cancel=ButtonState(running, "Stop" if running else "Nothing is running.", visible=running),
                message=self.message,
                export=ButtonState(not reason, reason or _EXPORT),
                attention=self.attention.state(),
                features=self.features.state(),
                spectrum=self.spectrum.state(),
                what_if=self.what_if.state(),
            )
        )
