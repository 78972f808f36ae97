"""Which labels layer is meant when something is measured, cleaned up, exported or corrected."""

from __future__ import annotations

from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.ports import MaskInfo, MaskPort
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import Choice
from napari_llm4seg.gui.views.abstract.masks import MaskState, MaskView


class MaskController:
    """Keeps ``session.mask_id`` at the layer a person means, and passes edits on as ``session.mask_edited``.

    That is the labels layer selected last, or the newest result if it came after that.

    Parameters
    ----------
    session : Session
    port : MaskPort
    view : MaskView
    """

    def __init__(self, session: Session, port: MaskPort, view: MaskView) -> None:
        self.session, self.port, self.view = session, port, view
        self._listening = Listening()
        self._masks: list[MaskInfo] = []
        self._last_selected: str | None = None

    def start(self) -> None:
        self.view.attach(self)
        self.port.connect(self._layers_changed, self.session.mask_edited.emit)
        self._listening.to(
            (self.session.result_changed, self._result_changed),
            (self.session.mask_changed, self._mask_changed),
        )
        self._layers_changed()

    def close(self) -> None:
        self.port.disconnect()
        self._listening.stop()

    def mask(self) -> MaskInfo | None:
        """Return the chosen mask."""
        return next((mask for mask in self._masks if mask.id == self.session.mask_id), None)

    def choose_mask(self, mask_id: str) -> None:
        self.session.mask_id = mask_id
        self._render()

    def _layers_changed(self) -> None:
        self._masks = self.port.masks()
        known = [mask.id for mask in self._masks]
        selected = self.port.selected_mask()
        if selected in known and selected != self._last_selected:
            self.session.mask_id = selected
        self._last_selected = selected
        if self.session.mask_id not in known:
            self.session.mask_id = known[-1] if known else None
        self._render()
        self.session.masks_changed.emit()

    def _result_changed(self, result: str | None) -> None:
        if result is not None:
            self._masks = self.port.masks()
            self.session.mask_id = result
        self._render()

    def _mask_changed(self, _: object) -> None:
        self._render()

    def _render(self) -> None:
        mask = self.mask()
        self.view.show_state(
            MaskState(
                masks=tuple(Choice(item.id, item.name, f"{item.name}\n{item.words}") for item in self._masks),
                mask=mask.id if mask is not None else None,
            )
        )
