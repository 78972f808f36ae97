"""The Clean up section: a class of the mask made tidy in a job, written back as one step of napari's history."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError, LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.clean_up_state import Facts, present
from napari_llm4seg.gui.controllers.clean_up_target import Target
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.ports import ClassPort, MaskInfo, MaskPort, Runner
from napari_llm4seg.gui.state.session import Session, Tidy
from napari_llm4seg.gui.views.abstract.clean_up import CleanUpView, Where
from napari_llm4seg.gui.views.abstract.common import Message, ProgressState

if TYPE_CHECKING:
    from napari_llm4seg.labels.cleanup import Cleaned, Hooks
    from napari_llm4seg.labels.size import Scale
    from napari_llm4seg.volume import Volume

Labels = npt.NDArray[Any]
Step = Callable[[Labels, int, "Scale", "Hooks"], "Cleaned"]
_MEANWHILE = "The mask was edited while this was computed, so nothing was changed. Press again."


class CleanUpController:
    """Cleans up ``session.mask_id``.

    Parameters
    ----------
    session : Session
    port : MaskPort
        Read and written, never listened to.
    classes : ClassPort
        Likewise.
    known : callable() -> tuple of (value, name, colour)
        The classes of the mask as its legend has them.
    view : CleanUpView
    runner : Runner
    """

    def __init__(
        self,
        session: Session,
        port: MaskPort,
        classes: ClassPort,
        known: Callable[[], tuple[tuple[int, str, str], ...]],
        view: CleanUpView,
        runner: Runner,
    ) -> None:
        self.session, self.port, self.classes, self.view, self._runner = session, port, classes, view, runner
        self._listening = Listening()
        self._known = known
        self._where: Where = "volume"
        self._sizes: dict[str, float] = {}
        self._radii: dict[str, float] = {}
        self._target: Target | None = None
        self._tidying = False
        self._edited = False
        self._progress: ProgressState | None = None
        self._message: Message | None = None

    def start(self) -> None:
        self.view.attach(self)
        self._listening.to(
            (self.session.mask_changed, self._mask_changed),
            (self.session.mask_edited, self._mask_edited),
            (self.session.classes_changed, self._render),
            (self.session.painted_changed, self._render),
            (self.session.busy_changed, self._render),
            (self.session.tidy_wanted, self._tidy_up),
        )
        self._render()

    def close(self) -> None:
        self._listening.stop()
        if self._target is not None:
            self.cancel()
            self.session.busy = ""

    # ------------------------------------------------------------------ what a person does

    def choose_class(self, key: str) -> None:
        if self.session.mask_id is not None:
            self.classes.select(self.session.mask_id, int(key))
        self._render()

    def choose_where(self, where: Where) -> None:
        self._where = where
        self._render()

    def set_smallest(self, value: float) -> None:
        """Remove islands below ``value`` from now on, wherever sizes have this unit."""
        self._sizes[self._facts().smallest_unit] = value

    def set_radius(self, value: float) -> None:
        """Smooth over ``value`` from now on, wherever lengths have this unit."""
        self._radii[self._facts().radius_unit] = value

    def keep_largest(self) -> None:
        from napari_llm4seg.labels import cleanup

        self._run(cleanup.keep_largest)

    def fill_holes(self) -> None:
        from napari_llm4seg.labels import cleanup

        self._run(cleanup.fill_holes)

    def remove_islands(self) -> None:
        from napari_llm4seg.labels import cleanup

        smallest = self._facts().smallest
        self._run(lambda labels, value, scale, hooks: cleanup.remove_islands(labels, value, scale, smallest, hooks))

    def smooth(self) -> None:
        from napari_llm4seg.labels import cleanup

        radius = self._facts().radius
        self._run(lambda labels, value, scale, hooks: cleanup.smooth(labels, value, scale, radius, hooks))

    def fill_between(self) -> None:
        """Fill between drawn slices of the kind on the screen; of the first axis while all is seen in 3-D."""
        from napari_llm4seg.labels.between import interpolate_slices

        mask = self._mask()
        plane = self.port.plane_on_show(mask.id) if mask is not None else None
        axis = plane[0] if plane is not None else 0
        self._run(lambda labels, value, scale, hooks: interpolate_slices(labels, value, scale, axis, hooks), whole=True)

    def cancel(self) -> None:
        if self._target is not None and self._runner.current is not None:
            self._runner.current.cancel()

    def dismiss_message(self) -> None:
        self._message = None
        self._render()

    # ------------------------------------------------------------------ a step

    def _tidy_up(self) -> None:
        """Keep the largest piece of the classes that ``session.tidy`` names; it says what came of that."""
        from napari_llm4seg.labels import cleanup

        tidy = self.session.tidy
        if tidy is not None and tidy.values and tidy.mask_id == self.session.mask_id:
            values = tidy.values
            self._run(lambda labels, _, scale, hooks: cleanup.keep_largest(labels, values, scale, hooks), tidy=tidy)

    def _run(self, step: Step, whole: bool = False, tidy: Tidy | None = None) -> None:
        if self._target is not None or self.session.busy:
            return
        self._tidying = tidy is not None
        try:
            target = self._aim(whole) if tidy is None else self._aim_at(tidy)
        except LLM4SegError as error:
            self._say(words.failure(error, "Cleaning up"))
            self._render()
            return

        def job(ctx: Any) -> Cleaned:
            from napari_llm4seg.labels.cleanup import Hooks
            from napari_llm4seg.labels.size import Scale

            scale = Scale.of(target.volume.affine, target.volume.unit, target.axes)
            return step(target.labels(), target.value, scale, Hooks(ctx.progress, ctx.cancelled))

        self._target, self._edited, self._message = target, False, None
        self._progress = ProgressState(0, 0, "cleaning up")
        self.session.busy = f"'{target.mask.name}' is being cleaned up."
        self._render()
        self._runner.start(
            job,
            on_progress=self._progressed,
            on_result=self._done,
            on_error=self._failed,
            on_cancelled=lambda: self._end(Message("info", "Stopped; nothing was changed.")),
        )

    def _aim(self, whole: bool) -> Target:
        """Return what the next step works on.

        Raises
        ------
        InputError
            Where there is no mask or class, or the mask is not in memory.
        """
        mask, volume = self._in_memory()
        value = self.classes.selected(mask.id)
        name = {item[0]: item[1] for item in self._known()}.get(value)
        if name is None:
            raise InputError("Choose a class of the mask first.")
        plane = self.port.plane_on_show(mask.id) if self._where == "slice" else None
        if self._where == "slice" and plane is None:
            raise InputError("No single slice is on the screen in 3-D; choose the whole volume, or show slices.")
        if volume.n_slices == 1:
            plane = (0, 0)
        frame = self.port.frame_on_show(mask.id)
        return Target(mask, volume, value, name, None if whole and volume.n_slices > 1 else plane, frame)

    def _aim_at(self, tidy: Tidy) -> Target:
        """Return the classes of ``tidy`` in the whole mask; raises as ``_aim``."""
        mask, volume = self._in_memory()
        return Target(mask, volume, tidy.values[0], tidy.names, None, self.port.frame_on_show(mask.id))

    def _in_memory(self) -> tuple[MaskInfo, Volume]:
        mask = self._mask()
        if mask is None:
            raise InputError("There is no mask; segment a scan or add a labels layer first.")
        volume = self.port.volume(mask.id)
        if not isinstance(volume.data, np.ndarray):
            raise InputError(f"'{mask.name}' lies on disk, where napari cannot undo a change; open a copy in memory.")
        return mask, volume

    def _done(self, cleaned: Cleaned) -> None:
        target = self._target
        if target is None:
            return
        if self._edited:
            self._end(Message("warning", _MEANWHILE))
            return
        said = f"{target.name}{target.where}: {cleaned.words}"
        if cleaned.changed:
            try:
                self._write(target, cleaned)
            except LLM4SegError as error:
                self._failed(error)
                return
            said += ". Ctrl+Z on the canvas takes it back"
        self._end(Message("info", f"{said}."))

    def _write(self, target: Target, cleaned: Cleaned) -> None:
        """Write the changed part back as one step that can be undone, and note it with the mask."""
        part, box = target.placed(cleaned.labels[cleaned.box], cleaned.box)
        self.port.replace_labels(target.mask.id, part, box, target.frame[0])
        self.port.note_step(target.mask.id, f"{target.name}{target.where}: {cleaned.words}")

    def _progressed(self, progress: Any) -> None:
        if self._target is not None:
            self._progress = ProgressState(progress.done, progress.total, progress.message)
            self._render()

    def _failed(self, error: BaseException) -> None:
        message = Message("warning", _MEANWHILE) if self._edited else words.failure(error, "Cleaning up")
        self._end(message)

    def _end(self, message: Message) -> None:
        self._target, self._progress = None, None
        self._say(message)
        self.session.busy = ""
        self._render()

    def _say(self, message: Message) -> None:
        """Say it where the step was asked for."""
        if self._tidying:
            self.session.tidy = Tidy(self.session.mask_id or "", message.text)
        else:
            self._message = message

    # ------------------------------------------------------------------ what happens

    def _mask_changed(self, _: object) -> None:
        self._message = None
        self._render()

    def _mask_edited(self, mask_id: str) -> None:
        if self._target is not None and mask_id == self._target.mask.id:
            self._edited = True

    def _mask(self) -> MaskInfo | None:
        return next((mask for mask in self.port.masks() if mask.id == self.session.mask_id), None)

    def _render(self, *_: object) -> None:
        self.view.show_state(present(self._facts()))

    def _facts(self) -> Facts:
        mask = self._mask()
        return Facts(
            mask=mask,
            scale=self._scale(mask),
            classes=self._known(),
            painted=self.classes.selected(mask.id) if mask is not None else 0,
            where=self._where,
            sizes=self._sizes,
            radii=self._radii,
            running=self._target is not None,
            elsewhere="" if self._target is not None else self.session.busy,
            progress=self._progress,
            message=self._message,
        )

    def _scale(self, mask: MaskInfo | None) -> Scale | None:
        """Return the steps of what the next one would see: of the slice on the screen, or of the volume."""
        from napari_llm4seg.labels.size import Scale

        try:
            volume = self.port.volume(mask.id) if mask is not None else None
        except LLM4SegError:
            return None
        if mask is None or volume is None:
            return None
        plane = (self.port.plane_on_show(mask.id) or (0, 0)) if self._where == "slice" else (0, 0)
        flat = self._where == "slice" or volume.n_slices == 1
        axes = tuple(axis for axis in range(3) if not flat or axis != plane[0])
        return Scale.of(volume.affine, volume.unit, axes)
