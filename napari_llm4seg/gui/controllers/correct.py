"""Correct & Retrain down to its training: review the slices of a mask, keep every correction, say what is next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_llm4seg.corrections import Restored
from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers.carrying import Carrier
from napari_llm4seg.gui.controllers.correct_state import Facts, present
from napari_llm4seg.gui.controllers.corrected import CorrectedSlices
from napari_llm4seg.gui.controllers.earlier import EarlierSession
from napari_llm4seg.gui.controllers.follower import Follower
from napari_llm4seg.gui.controllers.homes import AUTOMATIC, ProjectChoice
from napari_llm4seg.gui.controllers.image_set import ImageSet
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.meant import MeantMask
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.controllers.review_ports import ReviewPort, Stack
from napari_llm4seg.gui.controllers.saving import Saver
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract.common import Message
from napari_llm4seg.gui.views.abstract.correct import CorrectView

CONFIRM, NEXT, TOGGLE = "K", "N", "H"
_OPEN = "Open a scan and press Segment, or add a labels layer: its slices are corrected here."
_SEGMENT = "This scan has no mask yet: press Segment, or add a labels layer and draw."


def read_image(path: Path) -> Sequence[Any]:
    """Read an image file."""
    from napari_llm4seg.io import read

    return [read(path)]


class CorrectController(CorrectedSlices):
    """Connects the session, the viewer, a project and one view.

    Parameters
    ----------
    session : Session
    port : ReviewPort
    view : CorrectView
    make_runner : callable() -> Runner
        Called five times: looking at masks, recognising scans, carrying projects in and out, suggesting slices, and
        reading images.
    settings : Settings
    post : callable(callable)
        Runs its argument in the window's thread.
    soon : callable(callable)
        Runs its argument in the window's thread a moment later, once for several calls within that moment.
    aside : callable(callable), optional
        Runs what the disk may hold up; in a thread of its own by default.
    read : callable(Path) -> list of Volume, optional
        Reads an image file, in a job.
    """

    def __init__(
        self,
        session: Session,
        port: ReviewPort,
        view: CorrectView,
        make_runner: Callable[[], Runner],
        settings: Settings,
        post: Callable[[Callable[[], None]], Any],
        soon: Callable[[Callable[[], None]], Any],
        aside: Callable[[Callable[[], None]], Any] | None = None,
        read: Callable[[Path], Sequence[Any]] | None = None,
    ) -> None:
        self.session, self.view, self.settings = session, view, settings
        looker, saver_runner, carrier_runner, thinker, reader = (make_runner() for _ in range(5))
        choice = ProjectChoice(Path(settings.project) if settings.project else None, settings.apart)
        saver = Saver(saver_runner, post, self._render, self._found, choice, aside)
        follower = Follower(saver, looker, thinker, soon, self._say, lambda: self._earlier.mask_known(), self._render)
        super().__init__(port, saver, follower)
        self._carrier = Carrier(saver, carrier_runner, self._say, self._render)
        self._earlier = EarlierSession(session, port, saver, follower, self._follow, self._render)
        self._images = ImageSet(session, port, saver, follower, reader, read or read_image, self._say)
        self._meant = MeantMask(session, port)
        self._listening = Listening()
        self._hint = ""
        self._closed = False
        self._taken: list[str] = []
        self._message: Message | None = None

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        self.view.attach(self)
        self.port.connect(self._layers_changed, self._edited, self._render)
        self._taken = self.port.bind({CONFIRM: self.confirm, NEXT: self.go_to_next, TOGGLE: self.toggle_mask})
        self._listening.to(
            (self.session.mask_changed, self._mask_chosen),
            (self.session.scan_changed, self._follow),
            (self.session.result_changed, self._follow),
            (self.session.busy_changed, self._follow),
        )
        self._layers_changed()

    def close(self) -> None:
        """Write what is left; nothing is drawn any more."""
        if self._closed:
            return
        self._follower.take_edits()
        self._closed = True
        self.port.disconnect()
        self._listening.stop()
        self._images.close()
        self._follower.close()
        self._carrier.close()
        self.saver.close()

    # ------------------------------------------------------------------ which mask

    def _layers_changed(self) -> None:
        self._meant.look()
        self._follow()

    def _follow(self, _: object = None) -> None:
        """Take up the session's mask, or its scan alone while there is no mask."""
        if self._closed:
            return
        mask = self._meant.which()
        stack = self._stack
        if stack is not None and (mask != stack.id or stack.problem()):
            self._put_down(stack)
        if self._stack is None:
            self._take_up(mask)
        elif self.reviewing is not None and not self.session.busy:
            self._follower.take_edits()  # which knows a clean-up from an edit, as a look at all slices does not
            self._follower.look()
        self._images.see_to(self._earlier)
        self._render()

    def _mask_chosen(self, _: object = None) -> None:
        self._meant.turn()
        self._follow()

    def _put_down(self, stack: Stack) -> None:
        """Leave a mask: another one was chosen, or the layer was closed or resized."""
        self._follower.take_edits()
        problem = stack.problem()
        if problem:
            self._message = Message("warning", problem)
        self._follower.put_down()
        self.saver.part()  # another mask of the same scan may lack what the project has

    def _take_up(self, mask: str | None) -> None:
        self._hint = ""
        if mask is None:
            self._follow_scan()
            return
        try:
            stack = self.port.open(mask, self.session.scan_id)
        except LLM4SegError as error:
            self._hint = str(error)
            self.saver.follow(None)
            return
        if not self.saver.follows(stack.scan, stack.axis):
            self._earlier.forget()
        if stack.classes():
            self.saver.set_classes(stack.classes())
        self._follower.take_up(stack)
        self.saver.follow(stack.scan, stack.axis)
        if len(stack) == 1:
            self.port.take_tool(stack)

    def _follow_scan(self) -> None:
        """Without a mask the scan alone is enough to know what an earlier session left."""
        self._hint = _OPEN if self.session.scan_id is None else _SEGMENT
        try:
            scan = self.port.scan(self.session.scan_id) if self.session.scan_id is not None else None
        except LLM4SegError:
            scan = None
        if not self.saver.follows(scan):
            self._earlier.forget()
        self.saver.follow(scan)

    def _edited(self, mask: str) -> None:
        stack = self._stack
        if self._closed or mask != self.session.mask_id:
            return
        if stack is None or stack.problem():
            self._mask_chosen()  # also where its image was left for another
            return
        self._follower.touched(stack)

    def _found(self, held: Mapping[int, Restored]) -> None:
        """What the project holds of the scan has become known."""
        self._earlier.found(held)
        self._images.see_to(self._earlier)

    # ------------------------------------------------------------------ what a person does

    def choose_mask(self, mask_id: str) -> None:
        self.session.mask_id = mask_id
        self._follow()

    def show_slice(self, z: int) -> None:
        if self._images.row() is not None:
            self._images.go(z)
        elif self._stack is not None and 0 <= z < len(self._stack):
            self.port.show(self._stack, z)

    def go_to_next(self) -> None:
        row = self._images.row()
        suggestion = row.suggestion if row is not None else self._follower.suggestion
        if suggestion is not None:
            self.show_slice(suggestion.z)

    def toggle_mask(self) -> None:
        if self._stack is not None and not self._stack.problem():
            self.port.toggle(self._stack)

    def confirm(self) -> None:
        """Confirm the slice on show, or take that back."""
        self._follower.take_edits()
        stack = self._stack  # its slices looked at or not yet
        z = self.port.here(stack) if stack is not None and not stack.problem() else None
        if z is not None:
            self._follower.confirm(z)

    def set_partial(self, partial: bool) -> None:
        self._follower.set_partial(partial)
        self._render()

    def dismiss_message(self) -> None:
        self._message = self.saver.message = None
        self._render()

    def restore(self) -> None:
        self._earlier.restore()

    def start_anew(self) -> None:
        self._earlier.start_anew()

    # ------------------------------------------------------------------ projects

    def shared_project(self) -> None:
        """Let single images of one folder share a project; a volume has one of its own."""
        self._use_project(AUTOMATIC)

    def own_project(self) -> None:
        self._use_project(ProjectChoice(apart=True))

    def new_project(self, folder: Path) -> None:
        self._use_project(ProjectChoice(folder), create=True)

    def open_project(self, folder: Path) -> None:
        self._use_project(ProjectChoice(folder))

    def _use_project(self, choice: ProjectChoice, create: bool = False) -> None:
        self._follower.take_edits()
        self.settings.project = str(choice.folder) if choice.folder is not None else ""
        self.settings.apart = choice.apart
        self.settings.save()
        self._message = None
        self._earlier.forget()
        self.saver.choose(choice, create=create)
        self._follower.keep_all()
        self._render()

    def export_project(self, path: Path) -> None:
        self._carrier.take_out(path)

    def import_project(self, path: Path) -> None:
        self._carrier.bring_in(path)

    # ------------------------------------------------------------------ drawing

    def _say(self, message: Message) -> None:
        self._message = message
        self._render()

    def _render(self) -> None:
        if self._closed:
            return
        follower, reviewing, saver = self._follower, self.reviewing, self.saver
        self.view.show_state(
            present(
                Facts(
                    masks=self._meant.masks,
                    mask=self.session.mask_id,
                    hint=self._hint,
                    states=reviewing.states() if reviewing is not None else (),
                    here=self.here(),
                    row=self._images.row(),
                    suggestion=follower.suggestion,
                    enough=follower.enough,
                    looking=follower.opening,
                    partial=follower.partial,
                    offer=self._earlier.words,
                    offer_number=len(self._earlier.offer),
                    folder=saver.folder,
                    images=saver.home.images if saver.home is not None else None,
                    choice=saver.choice,
                    open=saver.project is not None,
                    kept=saver.kept + (saver.others if saver.image is not None else 0),
                    pending=saver.pending,
                    trouble=saver.trouble,
                    carrying=self._carrier.busy,
                    taken=tuple(self._taken),
                    message=self._message or saver.message,
                )
            )
        )
        self.changed.emit()
