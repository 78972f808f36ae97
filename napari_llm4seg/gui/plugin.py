"""What the manifest names: the dock and the sample scans."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from qtpy.QtCore import QEvent

from napari_llm4seg.gui.class_port import NapariClasses
from napari_llm4seg.gui.controllers.batch import BatchController
from napari_llm4seg.gui.controllers.classes import ClassController
from napari_llm4seg.gui.controllers.clean_up import CleanUpController
from napari_llm4seg.gui.controllers.export import ExportController
from napari_llm4seg.gui.controllers.masks import MaskController
from napari_llm4seg.gui.controllers.measure import MeasureController
from napari_llm4seg.gui.controllers.ports import ModelSource
from napari_llm4seg.gui.controllers.segment import SegmentController
from napari_llm4seg.gui.dispatch import Dispatcher
from napari_llm4seg.gui.layer_tuples import LayerTuple, layers_of
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.gui.models import SAMPLES, Models, sample
from napari_llm4seg.gui.state.session import Session, session_for
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.viewer_port import NapariPort
from napari_llm4seg.gui.views.segment_dock import SegmentWidget
from napari_llm4seg.jobs import ThreadRunner

if TYPE_CHECKING:
    import napari

_RUNNERS: weakref.WeakSet[ThreadRunner] = weakref.WeakSet()


@atexit.register
def _wait_for_jobs() -> None:
    """Let running jobs end before the interpreter goes: a thread inside torch must not outlive it."""
    for runner in list(_RUNNERS):
        runner.close(timeout=3.0)


class SegmentDock(SegmentWidget):
    """The **Segment** dock widget.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    models : ModelSource, optional
        Where models come from; the shipped and added checkpoints if not given.
    """

    # napari recognises the parameter by its name.
    def __init__(self, napari_viewer: napari.viewer.Viewer, models: ModelSource | None = None) -> None:
        super().__init__(SAMPLES)
        settings = Settings.load()
        dispatcher = Dispatcher()

        def make_runner() -> ThreadRunner:
            runner = ThreadRunner(dispatcher.post)
            _RUNNERS.add(runner)
            return runner

        session = session_for(napari_viewer)
        port = NapariPort(napari_viewer)
        source: Any = models or Models(settings.models)
        self.controller = SegmentController(
            session,
            port,
            source,
            self,
            make_runner,
            settings,
            dispatcher.post,
        )
        self.masks = MaskController(session, NapariMasks(napari_viewer), self.mask_row)
        tools = mask_tools(session, napari_viewer, self, make_runner)
        self.batches = BatchController(session, source, self.batch, make_runner, self.controller.config, port.show_case)
        parts: tuple[Part, ...] = (self.controller, self.masks, *tools, self.batches)
        self._docked = False
        self._close = _closer(parts, dispatcher)
        self.destroyed.connect(self._close)
        for part in parts:
            part.start()

    def event(self, event: Any) -> bool:
        """Notice that the dock was closed: napari then takes this widget out of it, and keeps nothing of it."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self._close()
                self.deleteLater()
        return bool(super().event(event))


class Part(Protocol):
    """A controller of the dock."""

    def start(self) -> None: ...

    def close(self) -> None: ...


def mask_tools(session: Session, viewer: Any, dock: SegmentWidget, make_runner: Callable[[], Any]) -> tuple[Part, ...]:
    """Return what works on the chosen mask: legend, measures, clean-up, export. They read; one listens for all."""
    masks, classes = NapariMasks(viewer), NapariClasses(viewer)
    legend = ClassController(session, masks, classes, dock.class_list, make_runner())
    return (
        legend,
        MeasureController(session, masks, dock.measure, make_runner(), legend.classes),
        CleanUpController(session, masks, classes, legend.classes, dock.clean_up, make_runner()),
        ExportController(session, masks, dock.export, make_runner()),
    )


def _closer(parts: Sequence[Part], dispatcher: Dispatcher) -> Callable[..., None]:
    """Return what ends the controllers, once; it holds no reference to the widget that is being destroyed."""
    left = list(parts)

    def close(*_: Any) -> None:
        dispatcher.close()
        while left:
            left.pop().close()

    return close


def _sample(key: str) -> list[LayerTuple]:
    return layers_of(sample(key))


def sample_ultrasound_phantom() -> list[LayerTuple]:
    """Made breast-ultrasound image with its lesion mask."""
    return _sample("ultrasound_phantom")


def sample_ct_phantom() -> list[LayerTuple]:
    """Made CT-like volume."""
    return _sample("ct_phantom")


def sample_real_ct() -> list[LayerTuple]:
    """Real CT slice that comes with pydicom."""
    return _sample("ct")


def sample_real_mr() -> list[LayerTuple]:
    """Real MR slice that comes with pydicom."""
    return _sample("mr")


def sample_real_ultrasound() -> list[LayerTuple]:
    """Real ultrasound image that comes with pydicom."""
    return _sample("ultrasound")
