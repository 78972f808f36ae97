"""What the manifest names: the docks and the sample scans."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_llm4seg.gui.class_port import NapariClasses
from napari_llm4seg.gui.controllers.batch import BatchController
from napari_llm4seg.gui.controllers.classes import ClassController
from napari_llm4seg.gui.controllers.clean_up import CleanUpController
from napari_llm4seg.gui.controllers.correct import CorrectController
from napari_llm4seg.gui.controllers.export import ExportController
from napari_llm4seg.gui.controllers.inspect import InspectController
from napari_llm4seg.gui.controllers.keeping import ProjectKeeper
from napari_llm4seg.gui.controllers.masks import MaskController
from napari_llm4seg.gui.controllers.measure import MeasureController
from napari_llm4seg.gui.controllers.ports import ModelSource
from napari_llm4seg.gui.controllers.retrain import RetrainController
from napari_llm4seg.gui.controllers.retrain_ports import MakeTrainer, Trainer
from napari_llm4seg.gui.controllers.segment import SegmentController
from napari_llm4seg.gui.controllers.tidy import PieceFinder, TidyController
from napari_llm4seg.gui.controllers.window import WindowController
from napari_llm4seg.gui.dock import Docked, OpenDock, Part, open_beside
from napari_llm4seg.gui.inspect_port import NapariInspect
from napari_llm4seg.gui.layer_tuples import LayerTuple, layers_of
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.gui.models import SAMPLES, Models, sample
from napari_llm4seg.gui.review_port import NapariReview
from napari_llm4seg.gui.state.session import Session, session_for
from napari_llm4seg.gui.viewer_port import NapariPort
from napari_llm4seg.gui.views.correct_dock import CorrectWidget
from napari_llm4seg.gui.views.inspect_dock import InspectWidget
from napari_llm4seg.gui.views.segment_dock import SegmentWidget
from napari_llm4seg.gui.window_port import NapariWindows

if TYPE_CHECKING:
    import napari

SEGMENT, CORRECT, INSPECT = "Segment", "Correct & Retrain", "Inspect"
# A stroke of the brush is taken up this long after it ended, with those that follow at once.
_STROKE_SECONDS = 0.15
# A slice is recorded this long after the viewer came to it: scrolling through a stack records where it ends.
_SLICE_SECONDS = 0.25


class SegmentDock(Docked, SegmentWidget):
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
        session = session_for(napari_viewer)
        settings = session.settings
        port = NapariPort(napari_viewer)
        source: Any = models or Models(settings.models)
        self.controller = SegmentController(
            session,
            port,
            source,
            self,
            self.make_runner,
            settings,
            self.dispatcher.post,
        )
        self.windows = WindowController(session, NapariWindows(napari_viewer), self.window_row, settings)
        self.masks = MaskController(session, NapariMasks(napari_viewer), self.mask_row)
        tools = mask_tools(session, napari_viewer, self, self.make_runner)
        self.batches = BatchController(
            session, source, self.batch, self.make_runner, self.controller.config, port.show_case
        )
        opened = OpenDock(session, SEGMENT)
        self.begin((opened, self.controller, self.windows, self.masks, *tools, self.batches))


class CorrectDock(Docked, CorrectWidget):
    """The **Correct & Retrain** dock widget; it opens the Segment dock beside it, whose scan and model it follows.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    models : ModelSource, optional
        As for the Segment dock.
    make_trainer : callable(callable(dict)) -> Trainer, optional
        Makes what trains: a process of its own if not given.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        models: ModelSource | None = None,
        make_trainer: MakeTrainer | None = None,
    ) -> None:
        super().__init__()
        session, port = session_for(napari_viewer), NapariReview(napari_viewer)
        self.review = CorrectController(
            session,
            port,
            self,
            self.make_runner,
            session.settings,
            self.dispatcher.post,
            self.make_soon(_STROKE_SECONDS),
        )
        self.retrain = RetrainController(
            session,
            self.review,
            port,
            models or Models(),
            ProjectKeeper(),
            make_trainer or self._make_trainer,
            self.training,
            self.make_runner,
        )
        tidy = TidyController(session, self.training.tidy)
        self.begin((OpenDock(session, CORRECT), self.review, self.retrain, tidy))
        if SEGMENT not in session.docks:
            self.dispatcher.post(lambda: _open_segment(self, napari_viewer))

    def _make_trainer(self, on_event: Callable[[dict[str, Any]], None]) -> Trainer:
        from napari_llm4seg.jobs.child import TrainingChild

        # the first curve finds it imported: a quarter of a second that the window would stand still
        threading.Thread(target=import_module, args=("pyqtgraph",), daemon=True).start()
        return TrainingChild(on_event, self.dispatcher.post)


class InspectDock(Docked, InspectWidget):
    """The **Inspect** dock widget; it opens the Segment dock beside it, whose scan, model and slice it follows.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        session = session_for(napari_viewer)
        self.controller = InspectController(
            session,
            NapariInspect(napari_viewer),
            self,
            self.make_runner,
            session.settings,
            self.make_soon(_SLICE_SECONDS),
        )
        self.begin((OpenDock(session, INSPECT), self.controller))
        if SEGMENT not in session.docks:
            self.dispatcher.post(lambda: _open_segment(self, napari_viewer))


def _open_segment(dock: Docked, viewer: Any) -> None:
    """Open the Segment dock behind another one, which a person has just opened and wants to see."""
    open_beside(viewer, SEGMENT)
    dock.come_forward()


def mask_tools(session: Session, viewer: Any, dock: SegmentWidget, make_runner: Callable[[], Any]) -> tuple[Part, ...]:
    """Return what works on the chosen mask: legend, measures, clean-up, export. They read; one listens for all."""
    masks, classes = NapariMasks(viewer), NapariClasses(viewer)
    legend = ClassController(session, masks, classes, dock.class_list, make_runner())
    return (
        legend,
        MeasureController(session, masks, dock.measure, make_runner(), legend.classes),
        CleanUpController(session, masks, classes, legend.classes, dock.clean_up, make_runner()),
        PieceFinder(session, masks, make_runner()),
        TidyController(session, dock.tidy),
        ExportController(session, masks, dock.export, make_runner()),
    )


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
