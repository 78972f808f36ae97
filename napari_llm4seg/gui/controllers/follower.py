"""The mask being corrected: every change of it is looked at, kept, and asked what is to come next.

Nothing here looks at more than a few slices in the window's thread: a stroke touches few, and what touches more (a
clean-up, a run, another program) is looked at in a job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari_llm4seg.corrections import Restored
from napari_llm4seg.corrections.suggest import Suggestion
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.controllers.review_ports import Stack, Surveyed
from napari_llm4seg.gui.controllers.reviewing import Reviewing
from napari_llm4seg.gui.controllers.saving import Saver
from napari_llm4seg.gui.views.abstract.common import Message

# Of so many touched slices the digests are made at once: a millisecond or two.
_FEW = 4


class Follower:
    """Follows the edits of one mask at a time.

    Parameters
    ----------
    saver : Saver
        Gets every correction.
    looker : Runner
        Looks at whole masks.
    thinker : Runner
        Finds the slice that is to come next.
    soon : callable(callable)
        Runs its argument in the window's thread a moment later, once for several calls within that moment.
    say : callable(Message)
    on_known : callable()
        All slices of a mask were looked at for the first time.
    on_change : callable()
        Something to draw has changed.

    Attributes
    ----------
    stack : Stack or None
    reviewing : Reviewing or None
        None until all slices of ``stack`` were looked at.
    suggestion : Suggestion or None
    partial : bool
        Whether of an edited slice only what was drawn counts.
    """

    def __init__(
        self,
        saver: Saver,
        looker: Runner,
        thinker: Runner,
        soon: Callable[[Callable[[], None]], Any],
        say: Callable[[Message], None],
        on_known: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._saver, self._looker, self._thinker, self._soon = saver, looker, thinker, soon
        self._say, self._on_known, self._on_change = say, on_known, on_change
        self.stack: Stack | None = None
        self.reviewing: Reviewing | None = None
        self.suggestion: Suggestion | None = None
        self.partial = False
        self._enough = False
        self._touched: set[int] | None = set()
        self._looking = self._again = self._automatic = self._closed = False
        self._asked: list[int] = []  # to be confirmed

    @property
    def enough(self) -> bool:
        """Whether a further correction of this mask buys little."""
        return self.reviewing is not None and self._enough

    @property
    def opening(self) -> bool:
        """Whether the slices of the mask are being looked at for the first time."""
        return self._looking and self.reviewing is None

    def take_up(self, stack: Stack) -> None:
        self.stack = stack
        self.look()

    def put_down(self) -> None:
        self.stack, self.reviewing, self.suggestion, self._touched = None, None, None, set()
        self._looking = self._again = False
        self._asked = []

    def close(self) -> None:
        self._closed = True
        for runner in (self._looker, self._thinker):
            if runner.current is not None:
                runner.current.cancel()

    # ------------------------------------------------------------------ looking at all slices

    def look(self) -> None:
        """Look at every slice, in a job; asked again meanwhile, once more after it."""
        stack = self.stack
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
        if self._closed or stack is not self.stack:
            return
        self._looking = False
        if self.reviewing is None:
            self.reviewing = Reviewing(stack, found)
            self.reviewing.partial = self.partial
            changed = list(self.reviewing.corrected())
            self._on_known()
        else:
            automatic, self._automatic = self._automatic, False
            changed = self.reviewing.take(found, automatic)
        again, self._again = self._again, False
        self.keep(changed)
        if again:
            self.look()
        elif self._touched:
            self.take_edits()
        if not self._looking:
            asked, self._asked = self._asked, []
            for z in asked:
                self.confirm(z)
        self.think()

    def _not_looked(self, stack: Stack, error: BaseException) -> None:
        if stack is self.stack:
            self._looking, self._asked = False, []
            self._say(words.failure(error, "Looking at the mask"))

    # ------------------------------------------------------------------ edits

    def touched(self, stack: Stack) -> None:
        """Note which slices were touched; they are looked at when the change is done: napari tells before it."""
        touched = stack.touched()
        if touched is None or self._touched is None:
            self._touched = None
        else:
            self._touched |= set(touched)
        self._soon(self.take_edits)

    def take_edits(self) -> None:
        """Look at the slices that were touched since."""
        stack, touched = self.stack, self._touched
        if self._closed or stack is None or self.reviewing is None or touched == set() or not stack.readable():
            return
        self._touched = set()
        automatic = len(touched or (0, 0)) > 1 and stack.automatic()
        if touched is None or len(touched) > _FEW:
            self._automatic = automatic
            self.look()
            return
        self.keep(self.reviewing.edited(sorted(touched), automatic))
        self.think()

    def model_wrote(self) -> None:
        """Take note that a model has written into the mask."""
        if self.reviewing is not None:
            self.keep(self.reviewing.sync())
            self.look()
            self.think()

    def confirm(self, z: int) -> None:
        """Confirm slice ``z``, or take that back; while the slices are being looked at, as soon as they were."""
        reviewing = self.reviewing
        if reviewing is None or self._looking:
            self._asked.append(z)
            return
        reviewing.edited([z])
        if reviewing.review.state(z) == "confirmed":
            reviewing.review.unconfirm(z)
        else:
            reviewing.review.confirm(z)
        self.keep([z])
        self.think()

    def set_partial(self, partial: bool) -> None:
        """Let only what was drawn count from now on, or everything; edited slices are kept anew."""
        self.partial = partial
        if self.reviewing is not None and self.reviewing.partial != partial:
            self.reviewing.partial = partial
            self.keep([z for z in self.reviewing.corrected() if self.reviewing.review.state(z) == "edited"])

    def go_on_with(self, restored: Mapping[int, Restored]) -> None:
        """Go on with slices of an earlier session that were just put into the mask."""
        if self.reviewing is None:  # the new mask is being looked at: it finds the slices, and their states come then
            self._again = True
        else:
            self.reviewing.edited(restored)
            self.reviewing.restore(restored)
            self._touched = set()
            self.keep(sorted(restored))
        self.think()

    # ------------------------------------------------------------------ keeping, and what is next

    def keep(self, slices: list[int]) -> None:
        """Put the corrections of these slices on their way to the disk."""
        if self.reviewing is not None:
            for z in slices:
                self._saver.put(z, self.reviewing.put_of(z))

    def keep_all(self) -> None:
        """Put every correction of the mask on its way to the disk."""
        if self.reviewing is not None:
            self.keep(list(self.reviewing.corrected()))

    def think(self) -> None:
        """Ask anew which slice is to come next."""
        reviewing = self.reviewing
        if reviewing is None:
            self.suggestion, self._enough = None, False
        else:
            said = reviewing.think()
            self._thinker.start(
                lambda ctx: said(),
                on_result=lambda found: self._thought(reviewing, *found),
                on_error=lambda error: None,  # the one before stands; the next correction asks again
            )
        self._on_change()

    def _thought(self, reviewing: Reviewing, suggestion: Suggestion | None, enough: bool) -> None:
        if reviewing is self.reviewing:
            self.suggestion, self._enough = suggestion, enough
            self._on_change()
