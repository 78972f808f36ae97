"""What an earlier session left of the scan: compared with the mask, offered, put back or left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from napari_llm4seg.corrections import Restored
from napari_llm4seg.gui.controllers.finding import offer_words
from napari_llm4seg.gui.controllers.follower import Follower
from napari_llm4seg.gui.controllers.review_ports import ReviewPort
from napari_llm4seg.gui.controllers.saving import Saver
from napari_llm4seg.gui.state.session import Session


class EarlierSession:
    """Offers corrected slices that the project holds and the mask does not.

    Parameters
    ----------
    session : Session
    port : ReviewPort
    saver : Saver
    follower : Follower
    follow : callable()
        Takes up the session's mask.
    on_change : callable()
        Something to draw has changed.

    Attributes
    ----------
    offer : dict of int to Restored
        By slice.
    """

    def __init__(
        self,
        session: Session,
        port: ReviewPort,
        saver: Saver,
        follower: Follower,
        follow: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._session, self._port, self._saver, self._follower = session, port, saver, follower
        self._follow, self._on_change = follow, on_change
        self.offer: dict[int, Restored] = {}

    @property
    def words(self) -> str:
        """What is offered, in words; empty where nothing is."""
        return f"{offer_words(self.offer)} are in the project" if self.offer else ""

    def forget(self) -> None:
        """Offer nothing: another scan or project is followed."""
        self.offer = {}

    def found(self, restored: Mapping[int, Restored]) -> None:
        """What the project holds of this scan: offered where the mask does not hold it already."""
        self.offer = dict(restored)
        self._compare(restored)
        self._on_change()

    def mask_known(self) -> None:
        """The slices of a mask were looked at: what it holds already is not offered."""
        if self.offer:
            self._compare(self.offer)

    def _compare(self, restored: Mapping[int, Restored]) -> None:
        reviewing = self._follower.reviewing
        if reviewing is None:
            return
        missing = reviewing.missing(restored)
        # what the mask holds already is simply gone on with
        reviewing.restore({z: each for z, each in restored.items() if z not in missing})
        self.offer = missing
        self._follower.keep([z for z in reviewing.corrected() if z not in restored])
        self._follower.think()

    def restore(self) -> None:
        """Put an earlier session's slices into the mask, in one undo step; where there is no mask, into a new one."""
        offer = dict(self.offer)
        if self._follower.stack is None:
            if self._session.scan_id is None or not offer:
                return
            self._make_mask(self._session.scan_id, max(offer.items())[1].record.model)
            self.offer = offer
        stack = self._follower.stack
        if stack is None or not offer:
            return
        self.offer = {}
        fitting = {z: each for z, each in offer.items() if z < len(stack)}
        stack.put({z: each.labels for z, each in fitting.items()})
        if self._follower.reviewing is None:
            self.offer = fitting
        self._follower.go_on_with(fitting)

    def _make_mask(self, scan_id: str, model: str) -> None:
        """Add an empty mask with the project's classes, for corrections of what ``model`` wrote, and take it up."""
        known = self._saver.project.store.classes if self._saver.project is not None else ()
        classes = tuple((spec.value, spec.name, spec.colour) for spec in known)
        self._session.mask_id = self._port.make_mask(scan_id, classes, model)
        self._follow()

    def start_anew(self) -> None:
        """Let an earlier session be: its records go to the project's history and train nothing."""
        self.offer = {}
        self._saver.drop_all()
        self._follower.keep_all()
        self._on_change()
