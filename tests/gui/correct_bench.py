"""A viewer with a scan and the controller of Correct & Retrain on it: real layers and files, no window."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_llm4seg.gui.controllers.correct import CorrectController
from napari_llm4seg.gui.controllers.ports import ResultSpec, SlicePart
from napari_llm4seg.gui.layers import layer_id
from napari_llm4seg.gui.review_port import NapariReview
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.jobs import InlineRunner

CLASSES = ((1, "liver", "#E69F00"), (2, "spleen", "#56B4E9"))


class Soon:
    """Holds a call back until the test says that its moment has come."""

    def __init__(self):
        self.waiting = None

    def __call__(self, call):
        self.waiting = call

    def come(self):
        call, self.waiting = self.waiting, None
        if call is not None:
            call()


class Bench:
    """A viewer with a scan, its session, and the dock's controller."""

    def __init__(self, fakes, viewer=None, shape=(6, 12, 14), make_runner=lambda: InlineRunner(interval=0)):
        self.fakes = fakes
        self.viewer, self.session, self.view = viewer or ViewerModel(), Session(), fakes.RecordingView()
        self.soon = Soon()
        if viewer is None:
            values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
            self.scan = self.viewer.add_image(values, name="ct", scale=(3, 1, 1)[-len(shape) :])
        else:
            self.scan = viewer.layers["ct"]
        self.session.scan_id = layer_id(self.scan)
        self.port = NapariReview(self.viewer)
        self.controller = CorrectController(
            self.session,
            self.port,
            self.view,
            make_runner,
            self.session.settings,
            post=lambda call: call(),
            soon=self.soon,
            aside=lambda call: call(),
        )
        self.controller.start()

    def segment(self, found=(1, 2, 3)):
        """Let a model write a square into the slices ``found``."""
        result = self.fakes.begun(self.viewer, self.scan, ResultSpec("liver-v1", "a" * 64, CLASSES))
        rows, columns = self.scan.data.shape[-2:]
        for z in range(len(self.scan.data) if self.scan.data.ndim > 2 else 1):
            labels = np.zeros((rows, columns), np.uint8)
            if z in found:
                labels[3:8, 4:9] = 1
            result.write(SlicePart(z, labels))
        result.finish({})
        self.session.result_id = self.session.mask_id = result.id
        return next(layer for layer in self.viewer.layers if layer_id(layer) == result.id)

    def paint(self, layer, *where, label=2):
        layer.paint(where, label)
        self.soon.come()

    @property
    def state(self):
        return self.view.state

    def written(self):
        """Return what is on the disk once the writer is done: slice -> state."""
        project = self.controller.saver.project
        if project is None:
            return {}
        assert project.writer.flush(10)
        return {record.index: record.state for record in self.controller.saver.records()}
