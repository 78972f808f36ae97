"""Which mask is meant to be corrected: the chosen one, which of single images is that of the image on show."""

from __future__ import annotations

from napari_llm4seg.gui.controllers.ports import MaskInfo
from napari_llm4seg.gui.controllers.review_ports import ReviewPort
from napari_llm4seg.gui.state.session import Session


class MeantMask:
    """Keeps the session's mask and scan together.

    Parameters
    ----------
    session : Session
    port : ReviewPort

    Attributes
    ----------
    masks : tuple of MaskInfo
        All there are.
    """

    def __init__(self, session: Session, port: ReviewPort) -> None:
        self._session, self._port = session, port
        self.masks: tuple[MaskInfo, ...] = ()

    def look(self) -> None:
        """See which masks there are; where the chosen one is gone, without the Segment dock nobody else sees to it."""
        self.masks = tuple(self._port.masks())
        known = [mask.id for mask in self.masks]
        if self._session.mask_id not in known:
            self._session.mask_id = known[-1] if known else None

    def which(self) -> str | None:
        """Return the mask to correct: the session's, but of single images that of the chosen image, if it has one."""
        mask, scan = self._chosen(), self._session.scan_id
        if mask is None or mask.n_slices > 1 or mask.scan_id in (None, scan):
            return self._session.mask_id
        if scan is None or not self._port.is_image(scan):
            return self._session.mask_id
        own = [each.id for each in self.masks if each.scan_id == scan]
        if own:
            self._session.mask_id = own[-1]
        return own[-1] if own else None

    def turn(self) -> None:
        """Turn to the image of a mask that was chosen; the other way round it is the image that decides."""
        self.masks = tuple(self._port.masks())
        mask = self._chosen()
        if mask is not None and mask.n_slices == 1 and mask.scan_id is not None:
            self._session.scan_id = mask.scan_id

    def _chosen(self) -> MaskInfo | None:
        return next((mask for mask in self.masks if mask.id == self._session.mask_id), None)
