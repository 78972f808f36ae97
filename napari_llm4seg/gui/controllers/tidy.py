"""A new result in several pieces: found in a job, said in one line, and the largest kept where a person wants that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.ports import MaskInfo, MaskPort, Runner
from napari_llm4seg.gui.state.session import Session, Tidy
from napari_llm4seg.gui.views.abstract.common import ButtonState
from napari_llm4seg.gui.views.abstract.tidy import TidyState, TidyView

if TYPE_CHECKING:
    from napari_llm4seg.labels.cleanup import Scattered

_NAMED = 3


class PieceFinder:
    """Looks at every stack that a model has written, and keeps ``session.tidy`` at what is to be said of it.

    Parameters
    ----------
    session : Session
    port : MaskPort
        Read, never listened to.
    runner : Runner
    """

    def __init__(self, session: Session, port: MaskPort, runner: Runner) -> None:
        self.session, self.port, self._runner = session, port, runner
        self._listening = Listening()
        self._looking = ""

    def start(self) -> None:
        self._listening.to(
            (self.session.stack_written, self._look),
            (self.session.mask_edited, self._edited),
            (self.session.mask_changed, self._forget),
        )

    def close(self) -> None:
        self._listening.stop()
        self._stop()

    def _look(self, mask_id: str) -> None:
        """Count the pieces of a mask's classes; of a mask that lies on disk, or of one time point of many, none."""
        self._forget()
        mask = next((mask for mask in self.port.masks() if mask.id == mask_id), None)
        if mask is None or mask.n_slices < 2 or mask_id != self.session.mask_id or not mask.classes:
            return
        try:
            labels, frame = self.port.volume(mask_id).data[0], self.port.frame_on_show(mask_id)[1]
        except LLM4SegError:
            return
        if frame or not isinstance(labels, np.ndarray):
            return

        def job(ctx: Any) -> list[Scattered]:
            from napari_llm4seg.labels.cleanup import Hooks, scattered

            return scattered(labels, [value for value, _, _ in mask.classes], Hooks(cancel=ctx.cancelled))

        self._looking = mask_id
        self._runner.start(job, on_result=lambda found: self._found(mask, found), on_error=lambda error: self._stop())

    def _found(self, mask: MaskInfo, found: Sequence[Scattered]) -> None:
        looking, self._looking = self._looking, ""
        if looking == mask.id and found:
            self.session.tidy = offer(mask, found)

    def _edited(self, mask_id: str) -> None:
        """Say nothing any more of a mask that is another one by now."""
        tidy = self.session.tidy
        if mask_id == self._looking:
            self._stop()
        if tidy is not None and tidy.values and tidy.mask_id == mask_id:
            self.session.tidy = None

    def _forget(self, _: object = None) -> None:
        self._stop()
        self.session.tidy = None

    def _stop(self) -> None:
        if self._looking and self._runner.current is not None:
            self._runner.current.cancel()
        self._looking = ""


class TidyController:
    """Shows ``session.tidy`` in a dock.

    Parameters
    ----------
    session : Session
    view : TidyView
    """

    def __init__(self, session: Session, view: TidyView) -> None:
        self.session, self.view = session, view
        self._listening = Listening()

    def start(self) -> None:
        self.view.attach(self)
        self._listening.to((self.session.tidy_changed, self._render), (self.session.busy_changed, self._render))
        self._render()

    def close(self) -> None:
        self._listening.stop()

    def keep_largest(self) -> None:
        self.session.tidy_wanted.emit()

    def dismiss(self) -> None:
        self.session.tidy = None

    def _render(self, _: object = None) -> None:
        self.view.show_state(present(self.session.tidy, self.session.busy))


def offer(mask: MaskInfo, found: Sequence[Scattered]) -> Tidy:
    """Return what to say of the scattered classes of a mask."""
    names = {value: name for value, name, _ in mask.classes}
    said = [f"{names[each.value]}: {each.pieces} pieces, the largest holds {int(100 * each.share)} %" for each in found]
    more = [f"and {len(said) - _NAMED} more classes" if len(said) > _NAMED + 1 else "and one more class"]
    text = "; ".join(said[:_NAMED] + (more if len(said) > _NAMED else []))
    return Tidy(mask.id, text, tuple(each.value for each in found), ", ".join(names[each.value] for each in found))


def present(tidy: Tidy | None, busy: str) -> TidyState:
    """Return the line to draw."""
    if tidy is None:
        return TidyState()
    if not tidy.values:
        return TidyState(tidy.words)
    own = "each its" if len(tidy.values) > 1 else "the"
    about = (
        f"Keep of {tidy.names} {own} largest piece and remove the rest, which is mostly false where it lies far away. "
    )
    return TidyState(
        f"{tidy.words}.",
        ButtonState(not busy, busy or f"{about}Ctrl+Z on the canvas takes it back", "Keep largest piece"),
    )
