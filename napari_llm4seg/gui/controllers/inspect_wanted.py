"""What an inspection records of what the viewer shows: which scan and frame, with which model, run how."""

from __future__ import annotations

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers.inspect_ports import InspectPort
from napari_llm4seg.gui.controllers.inspect_recording import Asked
from napari_llm4seg.gui.controllers.loading import with_options
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.planes import slice_axis
from napari_llm4seg.volume import Volume


class Wanted:
    """Reads it off session, settings and viewer.

    Parameters
    ----------
    session : Session
        With a model that is loaded, in ``of``.
    port : InspectPort
    settings : Settings
    """

    def __init__(self, session: Session, port: InspectPort, settings: Settings) -> None:
        self._session, self._port, self._settings = session, port, settings

    def now(self) -> tuple[Asked, Volume, int] | None:
        """Return what to record of the slice on show; None while there is nothing, or something else runs."""
        session, port = self._session, self._port
        scan = session.scan_id
        if scan is None or session.predictor is None or session.busy:
            return None
        try:
            frame, _ = port.on_show(scan)
            volume = port.volume(scan, frame)
            asked = self.of(scan, frame)
            return asked, volume, port.on_show(scan, axis_of(asked, volume))[1]
        except LLM4SegError:
            return None  # the Segment dock says what is wrong with this layer

    def of(self, scan: str, frame: int) -> Asked:
        """Return what to record of a frame of a scan with the model that is chosen."""
        predictor = self._session.predictor
        model = predictor.checkpoint.config
        config = with_options(model.predict, self._settings)
        if self._port.stack_of(scan) or model.model.backbone.spatial_dims == 3:
            config = config.model_copy(update={"axis": "stored"})
        return Asked(scan, frame, predictor, config)


def axis_of(asked: Asked, volume: Volume) -> int:
    """Return the axis of (z, y, x) along which the slices follow one another."""
    return slice_axis(volume, asked.config.axis)
