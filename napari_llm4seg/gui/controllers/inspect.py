"""What the Inspect dock does: record the slice on show, take clicks, hand both to the view that is open. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.inspect_attention import AttentionPart
from napari_llm4seg.gui.controllers.inspect_export import export
from napari_llm4seg.gui.controllers.inspect_features import FeaturesPart
from napari_llm4seg.gui.controllers.inspect_ports import InspectPort, Listeners, Place, axes_of
from napari_llm4seg.gui.controllers.inspect_recording import Asked, Part, Recording, record
from napari_llm4seg.gui.controllers.inspect_spectrum import SpectrumPart
from napari_llm4seg.gui.controllers.inspect_what_if import WhatIfPart
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.loading import with_options
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract.common import ButtonState, Message, ProgressState
from napari_llm4seg.gui.views.abstract.inspect import InspectState, InspectView, ProofState
from napari_llm4seg.planes import slice_axis
from napari_llm4seg.volume import Volume

_ASK = "Click the scan: what does this place look at? Shift + drag follows the mouse; a plain drag moves the view."

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
        self._recorder, self._worker, self._quick = make_runner(), make_runner(), make_runner()
        self._runners = (self._recorder, self._worker, self._quick)
        self._soon, self._listening = soon, Listening()
        self.recording: Recording | None = None
        self.token: int | None = None
        self._place: Place | None = None
        self._pending: _Pending | None = None
        self._followed: tuple[Asked, int] | None = None
        self._message: Message | None = None
        self._progress: ProgressState | None = None
        self._doing = ""
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
        if self._doing:
            self.session.busy = ""
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
        found = self._wanted() if self.view.in_view() else None
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
        side = volume.grid[axes_of(self._axis(asked, volume))[1]], volume.grid[axes_of(self._axis(asked, volume))[2]]
        inside = self._place is not None and self._place[1] <= side[0] - 0.5 and self._place[2] <= side[1] - 0.5
        if recording is not None and recording.asked.scan_id != asked.scan_id:
            inside = False
        if self._place is not None and inside:
            place: Place = (float(z), self._place[1], self._place[2])
            self._place = place
        else:
            self._place, place = None, (float(z), (side[0] - 1) / 2, (side[1] - 1) / 2)
        self._record(asked, volume, place)

    def _wanted(self) -> tuple[Asked, Volume, int] | None:
        """Return what to record of the slice on show; None while there is nothing, or something else runs."""
        scan, predictor = self.session.scan_id, self.session.predictor
        if scan is None or predictor is None or self.session.busy:
            return None
        try:
            frame, _ = self.port.on_show(scan)
            volume = self.port.volume(scan, frame)
            asked = self._asked(scan, frame)
            return asked, volume, self.port.on_show(scan, self._axis(asked, volume))[1]
        except LLM4SegError:
            return None  # the Segment dock says what is wrong with this layer

    def _asked(self, scan: str, frame: int) -> Asked:
        predictor = self.session.predictor
        model = predictor.checkpoint.config
        config = with_options(model.predict, self.settings)
        if self.port.stack_of(scan) or model.model.backbone.spatial_dims == 3:
            config = config.model_copy(update={"axis": "stored"})
        return Asked(scan, frame, predictor, config)

    @staticmethod
    def _axis(asked: Asked, volume: Volume) -> int:
        return slice_axis(volume, asked.config.axis)

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
        self._message = None
        # a bar that runs to and fro would have the whole window drawn anew, and slow down what it waits for
        self._progress = ProgressState(0, 1, f"recording slice {round(place[0])}")
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
        self._pending = self._progress = None
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
        self._pending = self._progress = None
        self._drop()
        if error is not None:
            self._message = words.failure(error, "Recording the slice")
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
            asked = self._asked(scan, frame)
            order = axes_of(self._axis(asked, self.port.volume(scan, frame)))
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
            self._message = None
            self._parts[self._tab].act(what, value)
        except LLM4SegError as error:
            self._message = words.failure(error, "Starting")
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
            self._message = words.failure(error, "Drawing the map")
        self.render()

    # ------------------------------------------------------------------ what takes longer

    def blocked(self) -> str:
        if self.recording is None:
            return "Nothing is recorded yet."
        return f"{self.session.busy} Wait until it has ended." if self.session.busy else ""

    def quick(self, doing: str, work: Callable[[Any], Any], done: Callable[[Any], None]) -> Any:
        recording = self.recording
        if self._closed or recording is None:
            return None

        def ended(result: Any) -> None:
            if not self._closed and recording is self.recording:
                done(result)
                self.redraw()

        def failed(error: BaseException) -> None:
            if not self._closed and recording is self.recording:
                self.say(words.failure(error, doing))

        return self._quick.start(work, on_result=ended, on_error=failed)

    def run(self, doing: str, work: Callable[[Any], Any], done: Callable[[Any], None]) -> None:
        recording = self.recording
        if self._closed or recording is None or self.session.busy:
            self.render()
            return
        self._doing, self._message = doing, None
        self._progress = ProgressState(0, 0, doing)
        self.session.busy = f"{doing[0].upper()}{doing[1:]}."

        def ended(message: Message | None, result: Any = None) -> None:
            if self._closed:
                return
            self._doing, self._progress, self._message = "", None, message
            self.session.busy = ""
            if message is None and recording is self.recording:
                done(result)
                self.redraw()
            else:
                self.render()

        self._worker.start(
            work,
            on_progress=self._show_progress,
            on_result=lambda result: ended(None, result),
            on_error=lambda error: ended(words.failure(error, doing)),
            on_cancelled=lambda: ended(Message("info", "Stopped.")),
        )
        self.render()

    def _show_progress(self, progress: Any) -> None:
        if self._doing:
            text = f"{progress.message}{words.left(progress.seconds_left)}"
            self._progress = ProgressState(progress.done, progress.total, text)
            self.render()

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
            self._message = Message("info", f"Maps, tables and figures are in {path.parent}.", str(path))

        self.run("writing maps, tables and figures", write, written)

    def _no_export(self) -> str:
        """Return why nothing can be exported now, or nothing."""
        if self.recording is not None and not self.recording.seen.proof.ok:
            return self.recording.seen.proof.words
        return self.blocked() or ("" if self.token is not None else "Click the scan first: its place is written too.")

    def say(self, message: Message) -> None:
        self._message = message
        self.render()

    def dismiss_message(self) -> None:
        self._message = None
        self.render()

    # ------------------------------------------------------------------ drawing

    def render(self) -> None:
        if self._closed:
            return
        running = bool(self._doing) or self._pending is not None
        reason = self._no_export()
        self.view.show_state(
            InspectState(
                tab=self._tab,
                hint=self._hint(),
                about=self._about(),
                proof=self._proof(),
                progress=self._progress,
                cancel=ButtonState(running, "Stop" if running else "Nothing is running.", visible=running),
                message=self._message,
                export=ButtonState(not reason, reason or _EXPORT),
                attention=self.attention.state(),
                features=self.features.state(),
                spectrum=self.spectrum.state(),
                what_if=self.what_if.state(),
            )
        )

    def _hint(self) -> str:
        session = self.session
        if session.scan_id is None:
            return "Open a scan; the Segment dock offers some to try."
        if session.predictor is None:
            return "Choose a model in the Segment dock." if session.model is None else "The model is being loaded…"
        if session.busy and self.recording is None:
            return f"{session.busy} The slice is recorded when it has ended."
        return _ASK if self.token is None else ""

    def _about(self) -> str:
        recording = self.recording
        if recording is None:
            return ""
        seen = recording.seen
        name = self.session.model.name if self.session.model is not None else seen.predictor.checkpoint.config.card.name
        grid = " × ".join(str(side) for side in seen.tokens.grid)
        where = {"slice": "", "tile": "one tile, ", "patch": "one patch, "}[seen.frame.kind]
        where = f"slice {seen.frame.z}, {where}" if seen.frame.scan.n_slices > 1 else where
        return f"{where}{grid} tokens · {name}"

    def _proof(self) -> ProofState:
        if self.recording is None:
            return ProofState()
        proof = self.recording.seen.proof
        if not proof.ok:
            return ProofState(proof.words, proof.words, False)
        return ProofState(f"same forward: max diff {proof.relative:.0e}  ok", proof.words, True)
