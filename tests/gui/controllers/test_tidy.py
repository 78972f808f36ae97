"""A new stack in several pieces on a ``ViewerModel``: said once, the largest kept in one step of napari's history."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.gui.class_port import NapariClasses
from napari_llm4seg.gui.controllers.clean_up import CleanUpController
from napari_llm4seg.gui.controllers.masks import MaskController
from napari_llm4seg.gui.controllers.ports import MaskInfo
from napari_llm4seg.gui.controllers.tidy import PieceFinder, TidyController, offer
from napari_llm4seg.gui.layers import KEY, classes_of, layer_id
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.jobs import InlineRunner
from napari_llm4seg.labels.cleanup import Scattered

CLASSES = ((1, "liver", "#E69F00"), (2, "spleen", "#56B4E9"))


class Hooked(InlineRunner):
    """Calls ``during`` when the job is done and its result not yet delivered, as a person may act then."""

    during = None

    def start(self, fn, **callbacks):
        def job(ctx):
            found = fn(ctx)
            if self.during is not None:
                self.during()
            return found

        return super().start(job, **callbacks)


class Bench:
    def __init__(self, fakes):
        self.viewer, self.session = ViewerModel(), Session()
        masks, self.runner, self.cleaner = NapariMasks(self.viewer), Hooked(), Hooked()
        self.views = [fakes.RecordingView(), fakes.RecordingView()]
        self.section = fakes.RecordingView()
        known = lambda: classes_of(self.layer) if self.viewer.layers else ()  # noqa: E731
        classes = NapariClasses(self.viewer)
        self.parts = (
            MaskController(self.session, NapariMasks(self.viewer), fakes.RecordingView()),
            CleanUpController(self.session, masks, classes, known, self.section, self.cleaner),
            PieceFinder(self.session, masks, self.runner),
            *(TidyController(self.session, view) for view in self.views),
        )
        for part in self.parts:
            part.start()

    @property
    def layer(self):
        return self.viewer.layers["mask"]

    def result(self, data, classes=CLASSES):
        layer = self.viewer.add_labels(
            data, name="mask", scale=(2, 0.5, 0.5), units="mm", metadata={KEY: {"classes": classes}}
        )
        self.session.stack_written.emit(layer_id(layer))
        return layer

    @property
    def state(self):
        assert self.views[0].state == self.views[1].state, "every dock says the same"
        return self.views[0].state

    def keep(self):
        self.parts[-1].keep_largest()


@pytest.fixture
def bench(fakes):
    return Bench(fakes)


def organ(pieces=True):
    data = np.zeros((12, 30, 30), np.uint8)
    data[1:6, 2:22, 2:22] = 1
    if pieces:
        data[8, 0:10, 0:10] = 1
        data[10, 3:5, 3:5] = 1
    return data


def test_one_piece_is_not_worth_a_word_and_false_ones_are_told(bench):
    bench.result(organ(pieces=False))
    assert bench.state.words == ""
    bench.viewer.layers.clear()
    bench.result(organ())
    assert bench.state.words == "liver: 3 pieces, the largest holds 95 %."
    assert bench.state.keep.visible
    assert bench.state.keep.enabled
    assert "Ctrl+Z" in bench.state.keep.tooltip
    assert bench.session.busy == ""


def test_two_kidneys_are_left_alone(bench):
    data = np.zeros((6, 30, 30), np.uint8)
    data[1:4, 2:12, 2:12] = data[1:4, 2:12, 18:27] = 1
    bench.result(data)
    assert bench.state.words == ""


def test_the_largest_is_kept_in_one_step_of_the_history(bench):
    data = organ()
    data[0, 25:28, 25:28] = 2
    data[1:6, 25:30, 23:30] = 2
    data[9, 29, 0:20] = 2
    layer = bench.result(data.copy())
    assert bench.state.words == "liver: 3 pieces, the largest holds 95 %; spleen: 2 pieces, the largest holds 90 %."
    layer.selected_label = 2  # what is painted is no matter
    bench.keep()
    assert (layer.data == 1).sum() == 2000
    assert (layer.data == 2).sum() == 184
    assert bench.state.words == "liver, spleen: removed 3 pieces, 62 mm³. Ctrl+Z on the canvas takes it back."
    assert not bench.state.keep.visible
    assert bench.section.state.message is None, "it is said where it was asked for"
    layer.undo()
    np.testing.assert_array_equal(layer.data, data)
    bench.parts[-1].dismiss()
    assert bench.state.words == ""


def test_it_waits_while_something_else_runs(bench):
    layer = bench.result(organ())
    bench.session.busy = "'ct' is being segmented."
    assert (bench.state.keep.enabled, bench.state.keep.tooltip) == (False, "'ct' is being segmented.")
    bench.keep()
    np.testing.assert_array_equal(layer.data, organ())


def test_nothing_is_said_of_a_mask_that_was_edited_or_left(bench):
    layer = bench.result(organ())
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    assert bench.state.words == ""
    bench.session.stack_written.emit(layer_id(layer))
    assert bench.state.words
    bench.viewer.add_labels(organ(), name="other")
    assert bench.state.words == ""
    bench.viewer.layers.selection.active = layer
    paint = lambda: layer.data_setitem((np.array([0]), np.array([1]), np.array([0])), 1)  # noqa: E731
    bench.runner.during = paint
    bench.session.stack_written.emit(layer_id(layer))
    assert bench.state.words == "", "it was edited while its pieces were counted"


def test_an_edit_in_the_middle_of_the_step_is_not_lost(bench):
    layer = bench.result(organ())
    bench.cleaner.during = lambda: layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    bench.keep()
    assert (layer.data == 1).sum() == 2105
    assert "nothing was changed" in bench.state.words


@pytest.mark.parametrize(
    "data",
    [organ()[8], np.stack([organ(), organ()]), da.from_array(organ())],
    ids=["one slice", "time points", "on disk"],
)
def test_what_is_no_stack_in_memory_is_passed_over(bench, data):
    layer = bench.viewer.add_labels(data, name="mask", metadata={KEY: {"classes": CLASSES}})
    bench.session.stack_written.emit(layer_id(layer))
    assert bench.state.words == ""


def test_many_classes_are_summed_up_and_the_share_is_never_rounded_to_all():
    names = tuple((value, f"c{value}", "#000000") for value in range(1, 6))
    mask = MaskInfo("m", "mask", "", 9, names)
    found = [Scattered(value, 2, 0.9949) for value in range(1, 6)]
    tidy = offer(mask, found)
    assert tidy.words.startswith("c1: 2 pieces, the largest holds 99 %; c2")
    assert tidy.words.endswith("; and 2 more classes")
    assert tidy.values == (1, 2, 3, 4, 5)
    assert offer(mask, found[:4]).words.endswith("; and one more class")
    assert offer(mask, found[:3]).words.endswith("c3: 2 pieces, the largest holds 99 %")


def test_nothing_is_heard_once_it_is_closed(bench):
    for part in bench.parts:
        part.close()
    bench.result(organ())
    assert bench.state.words == ""
