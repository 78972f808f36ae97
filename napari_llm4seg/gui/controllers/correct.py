"""Correct & Retrain down to its training: review the slices of a mask, keep every correction, say what is next.

Nothing here looks at more than a few slices in the window's thread: a stroke touches few, and what touches more (a
clean-up, a run, another program) is looked at in a job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_llm4seg.corrections import Restored
from napari_llm4seg.corrections.suggest import Suggestion
from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.carrying import Carrier
from napari_llm4seg.gui.controllers.correct_state import Facts, present
from napari_llm4seg.gui.controllers.finding import offer_words
from napari_llm4seg.gui.controllers.ports import MaskInfo, Runner
from napari_llm4seg.gui.controllers.projects import Project
from napari_llm4seg.gui.controllers.review_ports import ReviewPort, Stack, Surveyed
from napari_llm4seg.gui.controllers.reviewing import Reviewing
from napari_llm4seg.gui.controllers.saving import Saver
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract.common import Message
from napari_llm4seg.gui.views.abstract.correct import CorrectView

# Of so many touched slices the digests are made at once: a millisecond or two.
_FEW = 4
CONFIRM, NEXT, TOGGLE = "K", "N", "H"


class CorrectController:
    """Connects the session, the viewer, a project and one view.

    Parameters
    ----------
    session : Session
    port : ReviewPort
    view : CorrectView
    make_runner : callable() -> Runner
        Called four times: looking at masks, recognising scans, carrying projects in and out, and suggesting slices.
    settings : Settings
    post : callable(callable)
        Runs its argument in the window's thread.
    soon : callable(callable)
        Runs its argument in the window's thread a moment later, once for several calls within that moment.
    aside : callable(callable), optional
        Runs what the disk may hold up; in a thread of its own by default.

    ``changed`` is emitted after everything that may have changed what is corrected or on the screen.
    """

    changed = Signal()

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
    ) -> None:
        self.session, self.port, self.view, self.settings = session, port, view, settings
        self._looker, saver_runner, carrier_runner, self._thinker = (make_runner() for _ in range(4))
        self._post, self._soon = post, soon
        chosen = Path(settings.project) if settings.project else None
        self.saver = Saver(saver_runner, post, self._render, self._found, chosen, aside)
        self._carrier = Carrier(self.saver, carrier_runner, self._say, self._render)
        self.reviewing: Reviewing | None = None
        self._stack: Stack | None = None
        self._hint = ""
        self._touched: set[int] | None = set()
        self._offer: dict[int, Restored] = {}
        self._suggestion: Suggestion | None = None
        self._partial = False
        self._enough = False
        self._masks: tuple[MaskInfo, ...] = ()
        self._looking = self._again = self._automatic = self._closed = False
        self._taken: list[str] = []
        self._message: Message | None = None

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        self.view.attach(self)
        self.port.connect(self._layers_changed, self._edited, self._render)
        self._taken = self.port.bind({CONFIRM: self.confirm, NEXT: self.go_to_next, TOGGLE: self.toggle_mask})
        for signal in self._signals():
            signal.connect(self._follow)
        self._layers_changed()

    def close(self) -> None:
        """Write what is left; nothing is drawn any more."""
        if self._closed:
            return
        self._take_edits()
        self._closed = True
        self.port.disconnect()
        for signal in self._signals():
            signal.disconnect(self._follow)
        for runner in (self._looker, self._thinker):
            if runner.current is not None:
                runner.current.cancel()
        self._carrier.close()
        self.saver.close()

    def _signals(self) -> tuple[Any, ...]:
        session = self.session
        return session.mask_changed, session.scan_changed, session.result_changed, session.busy_changed

    # ------------------------------------------------------------------ what the training asks

    @property
    def project(self) -> Project | None:
        return self.saver.project

    @property
    def stack(self) -> Stack | None:
        return self._stack if self.reviewing is not None else None

    @property
    def trouble(self) -> str:
        return self.saver.trouble

    def here(self) -> int | None:
        stack = self.stack
        return self.port.here(stack) if stack is not None and not stack.problem() else None

    def count(self) -> int:
        """Return how many corrected slices would train or judge: of this scan, or of all single images."""
        project = self.saver.project
        if project is not None and self.scans() is None:
            return len(project.store.records())
        return self.saver.kept

    def writes(self) -> int:
        return self.saver.writes

    def settled(self) -> bool:
        return self.saver.pending == 0

    def scans(self) -> list[str] | None:
        single = self._stack is not None and len(self._stack) == 1
        return None if single or self.saver.entry is None else [self.saver.entry.id]

    def untouched(self) -> list[int]:
        states = self.reviewing.states() if self.reviewing is not None else ()
        return [z for z, state in enumerate(states) if state == "untouched"]

    def model_wrote(self) -> None:
        if self.reviewing is not None:
            self._keep(self.reviewing.sync())
            self._look()
            self._think()

    # ------------------------------------------------------------------ which mask

    def _layers_changed(self) -> None:
        self._masks = tuple(self.port.masks())
        known = [mask.id for mask in self._masks]
        if self.session.mask_id not in known and known:
            # without the Segment dock nobody else sees to it
            self.session.mask_id = known[-1]
        self._follow()

    def _follow(self, _: object = None) -> None:
        """Take up the session's mask, or its scan alone while there is no mask."""
        if self._closed:
            return
        mask = self.session.mask_id
        stack = self._stack
        if stack is not None and (mask != stack.id or stack.problem()):
            self._put_down(stack)
        if self._stack is None:
            self._take_up(mask)
        elif self.reviewing is not None and not self.session.busy:
            self._look()
        self._render()

    def _put_down(self, stack: Stack) -> None:
        """Leave a mask: another one was chosen, or the layer was closed or resized."""
        self._take_edits()
        problem = stack.problem()
        if problem:
            self._message = Message("warning", problem)
        self._stack, self.reviewing, self._suggestion, self._touched = None, None, None, set()
        self._looking = self._again = False
        self.saver.follow(None)  # another mask of the same scan may lack what the project has

    def _take_up(self, mask: str | None) -> None:
        self._hint = ""
        if mask is None:
            self._follow_scan()
            return
        try:
            self._stack = self.port.open(mask, self.session.scan_id)
        except LLM4SegError as error:
            self._hint = str(error)
            self.saver.follow(None)
            return
        if not self.saver.follows(self._stack.scan, self._stack.axis):
            self._offer = {}
        if self._stack.classes():
            self.saver.set_classes(self._stack.classes())
        self._look()
        self.saver.follow(self._stack.scan, self._stack.axis)

    def _follow_scan(self) -> None:
        """Without a mask the scan alone is enough to know what an earlier session left."""
        self._hint = "Open a scan and press Segment, or add a labels layer: its slices are corrected here."
        try:
            scan = self.port.scan(self.session.scan_id) if self.session.scan_id is not None else None
        except LLM4SegError:
            scan = None
        if not self.saver.follows(scan):
            self._offer = {}
        self.saver.follow(scan)

    # ------------------------------------------------------------------ looking at all slices

    def _look(self) -> None:
        """Look at every slice, in a job; asked again meanwhile, once more after it."""
        stack = self._stack
        if stack is None:
            return
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._looker.start(
            lambda ctx: stack.survey(ctx.cancelled),
            on_result=lambda found: self._looked(stack, found),
            on_error=lambda error: self._not_looked(stack, error),
        )

    def _looked(self, stack: Stack, found: Surveyed) -> None:
        if self._closed or stack is not self._stack:
            return
        self._looking = False
        if self.reviewing is None:
            self.reviewing = Reviewing(stack, found)
            self.reviewing.partial = self._partial
            changed = list(self.reviewing.corrected())
            if self._offer:
                self._compare(self._offer)
        else:
            automatic, self._automatic = self._automatic, False
            changed = self.reviewing.take(found, automatic)
        again, self._again = self._again, False
        self._keep(changed)
        if again:
            self._look()
        elif self._touched:
            self._take_edits()
        self._think()

    def _not_looked(self, stack: Stack, error: BaseException) -> None:
        if stack is self._stack:
            self._looking = False
            self._say(words.failure(error, "Looking at the mask"))

    # ------------------------------------------------------------------ edits

    def _edited(self, mask: str) -> None:
        """Note which slices were touched; they are looked at when the change is done: napari tells before it."""
        stack = self._stack
        if self._closed or mask != self.session.mask_id:
            return
        if stack is None or stack.problem():
            self._follow()
            return
        touched = stack.touched()
        if touched is None or self._touched is None:
            self._touched = None
        else:
            self._touched |= set(touched)
        self._soon(self._take_edits)

    def _take_edits(self) -> None:
        stack, touched = self._stack, self._touched
        if self._closed or stack is None or self.reviewing is None or touched == set() or not stack.readable():
            return
        self._touched = set()
        automatic = len(touched or (0, 0)) > 1 and stack.automatic()
        if touched is None or len(touched) > _FEW:
            self._automatic = automatic
            self._look()
            return
        self._keep(self.reviewing.edited(sorted(touched), automatic))
        self._think()

    def _keep(self, slices: list[int]) -> None:
        """Put the corrections of these slices on their way to the disk."""
        if self.reviewing is not None:
            for z in slices:
                self.saver.put(z, self.reviewing.put_of(z))

    def _think(self) -> None:
        """Ask anew which slice is to come next."""
        reviewing = self.reviewing
        if reviewing is None:
            self._suggestion, self._enough = None, False
        else:
            said = reviewing.think()
            self._thinker.start(
                lambda ctx: said(),
                on_result=lambda found: self._thought(reviewing, *found),
                on_error=lambda error: None,  # the one before stands; the next correction asks again
            )
        self._render()

    def _thought(self, reviewing: Reviewing, suggestion: Suggestion | None, enough: bool) -> None:
        if reviewing is self.reviewing:
            self._suggestion, self._enough = suggestion, enough
            self._render()

    # ------------------------------------------------------------------ what a person does

    def choose_mask(self, mask_id: str) -> None:
        self.session.mask_id = mask_id
        self._follow()

    def show_slice(self, z: int) -> None:
        if self._stack is not None and 0 <= z < len(self._stack):
            self.port.show(self._stack, z)

    def go_to_next(self) -> None:
        if self._suggestion is not None:
            self.show_slice(self._suggestion.z)

    def toggle_mask(self) -> None:
        if self._stack is not None and not self._stack.problem():
            self.port.toggle(self._stack)

    def confirm(self) -> None:
        """Confirm the slice on show, or take that back."""
        self._take_edits()
        stack, reviewing = self._stack, self.reviewing
        if stack is None or reviewing is None or stack.problem():
            return
        z = self.port.here(stack)
        if z is None or self._looking:
            return
        reviewing.edited([z])
        if reviewing.review.state(z) == "confirmed":
            reviewing.review.unconfirm(z)
        else:
            reviewing.review.confirm(z)
        self._keep([z])
        self._think()

    def set_partial(self, partial: bool) -> None:
        """Let only what was drawn count from now on, or everything; edited slices are kept anew."""
        self._partial = partial
        if self.reviewing is not None and self.reviewing.partial != partial:
            self.reviewing.partial = partial
            self._keep([z for z in self.reviewing.corrected() if self.reviewing.review.state(z) == "edited"])
        self._render()

    def dismiss_message(self) -> None:
        self._message = self.saver.message = None
        self._render()

    # ------------------------------------------------------------------ an earlier session

    def _found(self, restored: Mapping[int, Restored]) -> None:
        """What the project holds of this scan: offered where the mask does not hold it already."""
        self._offer = dict(restored)
        if self.reviewing is not None:
            self._compare(restored)
        self._render()

    def _compare(self, restored: Mapping[int, Restored]) -> None:
        reviewing = self.reviewing
        if reviewing is None:
            return
        missing = reviewing.missing(restored)
        # what the mask holds already is simply gone on with
        reviewing.restore({z: each for z, each in restored.items() if z not in missing})
        self._offer = missing
        self._keep([z for z in reviewing.corrected() if z not in restored])
        self._think()

    def restore(self) -> None:
        """Put an earlier session's slices into the mask, in one undo step; where there is no mask, into a new one."""
        offer = dict(self._offer)
        if self._stack is None:
            if self.session.scan_id is None or not offer:
                return
            known = self.saver.project.store.classes if self.saver.project is not None else ()
            made = self.port.make_mask(
                self.session.scan_id, tuple((spec.value, spec.name, spec.colour) for spec in known)
            )
            self.session.mask_id = made
            self._follow()
            self._offer = offer
        stack = self._stack
        if stack is None or not offer:
            return
        self._offer = {}
        fitting = {z: each for z, each in offer.items() if z < len(stack)}
        stack.put({z: each.labels for z, each in fitting.items()})
        if self.reviewing is None:  # the new mask is being looked at: it finds the slices, and their states come then
            self._offer = fitting
            self._again = True
        else:
            self.reviewing.edited(fitting)
            self.reviewing.restore(fitting)
            self._touched = set()
            self._keep(sorted(fitting))
        self._think()

    def start_anew(self) -> None:
        """Let an earlier session be: its records go to the project's history and train nothing."""
        self._offer = {}
        self.saver.drop_all()
        if self.reviewing is not None:
            self._keep(list(self.reviewing.corrected()))
        self._render()

    # ------------------------------------------------------------------ projects

    def own_project(self) -> None:
        self._use_project(None)

    def new_project(self, folder: Path) -> None:
        self._use_project(folder, create=True)

    def open_project(self, folder: Path) -> None:
        self._use_project(folder)

    def _use_project(self, folder: Path | None, create: bool = False) -> None:
        self._take_edits()
        self.settings.project = str(folder) if folder is not None else ""
        self.settings.save()
        self._message, self._offer = None, {}
        self.saver.choose(folder, create=create)
        if self.reviewing is not None:
            self._keep(list(self.reviewing.corrected()))
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
        reviewing, saver = self.reviewing, self.saver
        self.view.show_state(
            present(
                Facts(
                    masks=self._masks,
                    mask=self.session.mask_id,
                    hint=self._hint,
                    states=reviewing.states() if reviewing is not None else (),
                    here=self.here(),
                    suggestion=self._suggestion,
                    enough=reviewing is not None and self._enough,
                    looking=self._looking and reviewing is None,
                    partial=self._partial,
                    offer=f"{offer_words(self._offer)} are in the project" if self._offer else "",
                    offer_number=len(self._offer),
                    folder=saver.folder,
                    own=saver.chosen is None,
                    open=saver.project is not None,
                    kept=saver.kept,
                    pending=saver.pending,
                    trouble=saver.trouble,
                    carrying=self._carrier.busy,
                    taken=tuple(self._taken),
                    message=self._message or saver.message,
                )
            )
        )
        self.changed.emit()
