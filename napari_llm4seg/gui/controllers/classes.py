"""What the colours of the chosen mask mean: shown, chosen for painting, named, coloured, added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_llm4seg.errors import InputError, LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.ports import ClassPort, MaskPort, Runner
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.classes import ClassesState, ClassesView, ClassRow
from napari_llm4seg.gui.views.abstract.common import Message

Classes = tuple[tuple[int, str, str], ...]
# Of labels that nobody named so many are listed: a mask may number thousands of cells.
_MOST = 200


class ClassController:
    """Keeps the legend of ``session.mask_id``.

    Parameters
    ----------
    session : Session
    masks : MaskPort
        Read, never listened to.
    port : ClassPort
    view : ClassesView
    runner : Runner
        Looks in the background which labels occur: a mask from a file may name none.
    """

    def __init__(self, session: Session, masks: MaskPort, port: ClassPort, view: ClassesView, runner: Runner) -> None:
        self.session, self.masks, self.port, self.view, self._runner = session, masks, port, view, runner
        self._listening = Listening()
        self._present: dict[str, tuple[int, ...]] = {}
        self._message: Message | None = None

    def start(self) -> None:
        self.view.attach(self)
        self.port.connect(self._painted_changed)
        self._listening.to(
            (self.session.mask_changed, self._mask_changed),
            (self.session.mask_edited, self._mask_edited),
            (self.session.classes_changed, self._classes_changed),
        )
        self._mask_changed(self.session.mask_id)

    def close(self) -> None:
        self.port.disconnect()
        self._listening.stop()
        if self._runner.current is not None:
            self._runner.current.cancel()

    def classes(self) -> Classes:
        """Return the classes of the mask: the named ones, what else occurs in it, and what is painted now."""
        from napari_llm4seg.labels.classes import complete

        mask = self.session.mask_id
        if mask is None:
            return ()
        try:
            named, painted = self.port.classes(mask), self.port.selected(mask)
            others = set(self._present.get(mask, ())[:_MOST]) | {painted}
            others -= {value for value, _, _ in named}
            drawn = tuple(item for item in complete((), others))
            return complete((*named, *((value, name, self.port.colour(mask, value)) for value, name, _ in drawn)), ())
        except InputError:  # the layer has just been closed
            return ()

    # ------------------------------------------------------------------ what a person does

    def select_class(self, value: int) -> None:
        mask = self.session.mask_id
        if mask is not None:
            self.port.select(mask, value)
        self._render()

    def rename_class(self, value: int, name: str) -> None:
        from napari_llm4seg.labels.classes import renamed

        self._change(lambda classes: renamed(classes, value, name))

    def recolour_class(self, value: int, colour: str) -> None:
        from napari_llm4seg.labels.classes import recoloured

        self._change(lambda classes: recoloured(classes, value, colour))

    def add_class(self) -> None:
        """Add a class with a value, a name and a colour of its own, and paint with it from now on."""
        from napari_llm4seg.labels.classes import added

        mask = self.session.mask_id
        if mask is None:
            return
        new: list[int] = []

        def more(classes: Classes) -> Classes:
            classes, value = added(classes, self.port.largest(mask))
            new.append(value)
            return classes

        self._change(more)
        if new:
            self.port.select(mask, new[0])

    def dismiss_message(self) -> None:
        self._message = None
        self._render()

    def _change(self, change: Callable[[Classes], Classes]) -> None:
        mask = self.session.mask_id
        self._message = None
        if mask is not None:
            try:
                self.port.set_classes(mask, change(self.classes()))
            except LLM4SegError as error:
                self._message = words.failure(error, "Changing the class")
            else:
                self.session.classes_changed.emit(mask)
        self._render()

    # ------------------------------------------------------------------ what happens

    def _mask_changed(self, mask: str | None) -> None:
        self._message = None
        if mask is not None:
            self._look(mask)
        self._render()

    def _mask_edited(self, mask: str) -> None:
        """A label that was painted stays in the list when another one is painted next."""
        if mask != self.session.mask_id:
            return
        known, painted = self._present.get(mask, ()), self.port.selected(mask)
        if painted > 0 and painted not in known:
            self._present[mask] = (painted, *known)
            self._painted_changed()

    def _classes_changed(self, _: str) -> None:
        self._render()

    def _painted_changed(self) -> None:
        self._render()
        self.session.painted_changed.emit()

    def _look(self, mask: str) -> None:
        """Find out in the background which labels occur in a mask in memory; one on disk shows what is named."""
        try:
            data = self.masks.volume(mask).data
        except LLM4SegError:
            return
        if not isinstance(data, np.ndarray):
            return

        def job(ctx: Any) -> tuple[int, ...]:
            from napari_llm4seg.labels.measure import boxes_of

            return tuple(boxes_of(data[0]))

        def found(values: tuple[int, ...]) -> None:
            self._present[mask] = tuple(dict.fromkeys((*self._present.get(mask, ()), *values)))
            self._painted_changed()

        self._runner.start(job, on_result=found, on_error=lambda error: None)

    def _render(self) -> None:
        mask = self.session.mask_id
        rows = tuple(ClassRow(*item) for item in self.classes())
        try:
            selected = self.port.selected(mask) if mask is not None and rows else None
        except InputError:
            selected = None
        self.view.show_state(ClassesState(bool(rows), rows, selected, self._message))
