"""The Clean up section on a ``ViewerModel``: one step of napari's history each, nobody's edit lost."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.gui.class_port import NapariClasses
from napari_llm4seg.gui.controllers.clean_up import CleanUpController
from napari_llm4seg.gui.controllers.masks import MaskController
from napari_llm4seg.gui.controllers.ports import ResultSpec, SlicePart
from napari_llm4seg.gui.layers import KEY, classes_of, layer_id
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.gui.results import edited
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.jobs import InlineRunner

CLASSES = ((1, "liver", "#E69F00"), (2, "cyst", "#56B4E9"))


class During(InlineRunner):
    """Calls ``hook`` when the job is done and its result not yet delivered, as a person may act then."""

    hook = None

    def start(self, fn, **callbacks):
        def job(ctx):
            result = fn(ctx)
            if self.hook is not None:
                self.hook()
            return result

        return super().start(job, **callbacks)


class Bench:
    def __init__(self, fakes):
        self.viewer, self.session, self.view = ViewerModel(), Session(), fakes.RecordingView()
        self.masks = MaskController(self.session, NapariMasks(self.viewer), fakes.RecordingView())
        self.runner = During()
        self.controller = CleanUpController(
            self.session,
            NapariMasks(self.viewer),
            NapariClasses(self.viewer),
            self.known,
            self.view,
            self.runner,
        )
        self.masks.start()
        self.controller.start()

    def known(self):
        wanted = self.session.mask_id
        return next((classes_of(layer) for layer in self.viewer.layers if layer_id(layer) == wanted), ())

    def labels(self, data=None, **how):
        how = {"scale": (2, 0.5, 0.5), "units": "mm"} | how
        data = two_pieces() if data is None else data
        self.viewer.add_labels(data, name="mask", metadata={KEY: {"classes": CLASSES}}, **how)
        return self.layer

    @property
    def layer(self):
        return next(layer for layer in self.viewer.layers if layer.name == "mask")

    @property
    def said(self):
        return self.view.state.message.text


@pytest.fixture
def bench(fakes):
    return Bench(fakes)


def two_pieces():
    data = np.zeros((6, 20, 20), np.uint8)
    data[1:5, 2:10, 2:10] = 1
    data[2:4, 5:7, 5:7] = 0  # a hole
    data[2, 15, 15] = 1  # an island of 0.5 mm³
    data[3, 2:4, 12:14] = 2
    return data


def test_nothing_is_shown_without_a_mask(bench):
    assert not bench.view.state.shown
    bench.controller.keep_largest()
    assert bench.session.busy == ""


def test_the_class_is_the_one_that_is_painted(bench):
    layer = bench.labels()
    assert bench.view.state.chosen == "1"
    assert [choice.label for choice in bench.view.state.classes] == ["liver", "cyst"]
    bench.controller.choose_class("2")
    assert layer.selected_label == 2
    assert bench.view.state.chosen == "2"
    layer.selected_label = 9
    bench.session.painted_changed.emit()
    assert not bench.view.state.keep_largest.enabled
    assert "Choose a class" in bench.view.state.keep_largest.tooltip


@pytest.mark.parametrize(
    ("step", "said", "changed"),
    [
        ("keep_largest", "liver: removed 1 piece, 0.5 mm³. Ctrl+Z", 1),
        ("remove_islands", "liver: removed 1 island, 0.5 mm³. Ctrl+Z", 1),
        ("fill_holes", "liver: filled 1 hole, 4 mm³. Ctrl+Z", 8),
    ],
)
def test_a_step_is_one_undo_step_and_said(bench, step, said, changed):
    layer = bench.labels()
    before = layer.data.copy()
    bench.controller.set_smallest(1.0)
    getattr(bench.controller, step)()
    assert bench.said.startswith(said)
    assert np.count_nonzero(layer.data != before) == changed
    assert bench.session.busy == ""
    layer.undo()
    assert np.array_equal(layer.data, before)


def test_sizes_are_remembered_by_unit_and_smoothing_starts_at_a_pixel(bench):
    bench.labels()
    state = bench.view.state
    assert (state.smallest, state.smallest_decimals, state.radius, state.radius_decimals) == (20, 0, 0.5, 2)
    bench.controller.choose_where("slice")
    assert (bench.view.state.smallest, bench.view.state.smallest_unit) == (10, "mm²")
    bench.controller.set_smallest(3)
    bench.controller.choose_where("volume")
    assert bench.view.state.smallest == 20
    bench.controller.choose_where("slice")
    assert bench.view.state.smallest == 3


def test_smoothing_and_nothing_to_do(bench):
    layer = bench.labels()
    bench.controller.set_radius(1.0)
    bench.controller.smooth()
    assert bench.said.startswith("liver: smoothed")
    bench.controller.choose_class("2")
    steps = len(layer._undo_history)
    bench.controller.keep_largest()
    assert bench.said == "cyst: there is only one piece."
    assert len(layer._undo_history) == steps


def test_one_slice_of_whichever_axis_is_on_the_screen(bench):
    layer = bench.labels()
    before = layer.data.copy()
    bench.controller.choose_where("slice")
    assert bench.view.state.smallest_unit == "mm²"
    bench.viewer.dims.set_point(0, 4.0)
    bench.controller.fill_holes()
    changed = np.argwhere(layer.data != before)
    assert set(changed[:, 0]) == {2}
    assert bench.said.startswith("liver in slice 2: filled 1 hole, 1.0 mm²")
    layer.undo()
    bench.viewer.dims.order = (2, 0, 1)
    bench.viewer.dims.set_point(2, 5 * 0.5)
    bench.controller.fill_holes()
    changed = np.argwhere(layer.data != before)
    assert set(changed[:, 2]) == {5}
    assert "in slice 5 along x: filled 1 hole, 4.0 mm²" in bench.said
    bench.viewer.dims.ndisplay = 3
    bench.controller.fill_holes()
    assert "3-D" in bench.said


def test_of_several_time_points_the_one_on_the_screen(bench):
    data = np.stack([two_pieces(), two_pieces(), two_pieces()])
    layer = bench.labels(data, scale=(1, 2, 0.5, 0.5), units=("pixel", "mm", "mm", "mm"), axis_labels=tuple("tzyx"))
    bench.viewer.dims.set_point(0, 1)
    bench.controller.keep_largest()
    assert [int(part[2, 15, 15]) for part in layer.data] == [1, 0, 1]
    assert bench.said.startswith("liver in time point 2 of 3: removed 1 piece, 0.5 mm³")
    bench.controller.choose_where("slice")
    bench.viewer.dims.set_point(1, 4.0)
    bench.controller.fill_holes()
    assert bench.said.startswith("liver in slice 2, time point 2 of 3: filled 1 hole, 1.0 mm²")
    assert layer.data[1, 2, 5:7, 5:7].all()
    assert not layer.data[1, 3, 5:7, 5:7].any()
    layer.undo()
    layer.undo()
    assert np.array_equal(layer.data, data)


def test_slices_are_filled_between_drawn_ones(bench):
    data = np.zeros((7, 20, 20), np.uint8)
    data[1, 5:12, 5:12] = data[5, 5:12, 5:12] = 1
    layer = bench.labels(data)
    bench.controller.choose_where("slice")  # means nothing here
    bench.controller.fill_between()
    assert all(np.array_equal(layer.data[z], data[1]) for z in range(1, 6))
    assert "liver: filled 3 slices" in bench.said
    layer.undo()
    assert np.array_equal(layer.data, data)


def test_a_mask_of_one_slice(bench):
    layer = bench.labels(two_pieces()[2], scale=(0.5, 0.5))
    state = bench.view.state
    assert state.flat
    assert not state.fill_between.enabled
    assert "one slice" in state.fill_between.tooltip
    bench.controller.keep_largest()
    assert layer.data[15, 15] == 0
    assert bench.said.startswith("liver: removed 1 piece, 0.2 mm²")
    layer.undo()
    assert layer.data[15, 15] == 1


def test_without_mm_sizes_are_counts(bench):
    bench.labels(scale=(1, 1, 1), units="pixel")
    assert (bench.view.state.smallest_unit, bench.view.state.radius_unit) == ("voxels", "px")
    assert (bench.view.state.smallest, bench.view.state.radius) == (50, 1)
    bench.controller.set_smallest(2)
    bench.controller.remove_islands()
    assert bench.said.startswith("liver: removed 1 island, 1 voxel.")


def test_what_was_painted_meanwhile_is_not_written_over(bench):
    layer = bench.labels()
    bench.runner.hook = lambda: layer.paint((4, 15, 15), 2)
    bench.controller.keep_largest()
    assert "edited while" in bench.said
    assert layer.data[2, 15, 15] == 1
    assert layer.data[4, 15, 15] == 2
    bench.runner.hook = None
    bench.controller.keep_largest()
    assert layer.data[2, 15, 15] == 0


def test_a_layer_that_goes_meanwhile_is_said(bench):
    layer = bench.labels()
    bench.viewer.add_labels(np.zeros((6, 20, 20), np.uint8), name="other")
    bench.session.mask_id = layer_id(layer)
    bench.runner.hook = lambda: bench.viewer.layers.remove(layer)
    bench.controller.keep_largest()
    assert "gone" in bench.said
    assert bench.session.busy == ""


def test_cancel_changes_nothing(bench):
    layer = bench.labels()
    bench.runner.hook = bench.controller.cancel
    bench.controller.keep_largest()
    assert bench.said == "Stopped; nothing was changed."
    assert layer.data[2, 15, 15] == 1


def test_nothing_starts_while_a_scan_is_segmented(bench):
    layer = bench.labels()
    bench.session.busy = "'ct' is being segmented."
    assert bench.view.state.keep_largest.tooltip == "'ct' is being segmented."
    bench.controller.keep_largest()
    assert layer.data[2, 15, 15] == 1
    bench.session.busy = ""
    assert bench.view.state.keep_largest.enabled


def test_a_mask_on_disk_is_refused(bench):
    da = pytest.importorskip("dask.array")
    bench.labels(da.from_array(two_pieces()))
    bench.controller.keep_largest()
    assert "lies on disk" in bench.said


def test_the_steps_are_noted_with_the_mask_until_they_are_undone(bench):
    layer = bench.labels()
    bench.controller.keep_largest()
    bench.controller.fill_holes()
    noted = ["liver: removed 1 piece, 0.5 mm³", "liver: filled 1 hole, 4 mm³"]
    assert layer.metadata[KEY]["clean_up"] == noted
    layer.undo()
    assert layer.metadata[KEY]["clean_up"] == noted[:1]
    layer.redo()
    assert layer.metadata[KEY]["clean_up"] == noted
    layer.undo()
    layer.paint((0, 0, 0), 2)  # napari forgets the step that was undone
    gc.collect()
    layer.undo()
    assert layer.metadata[KEY]["clean_up"] == noted[:1]


def test_a_clean_up_counts_as_the_persons_edit(bench, fakes):
    """A later run must not write over it."""
    scan = bench.viewer.add_image(np.zeros((6, 20, 20)), name="ct", scale=(2, 0.5, 0.5), units="mm")
    spec = ResultSpec("model", "digest", CLASSES)
    result = fakes.begun(bench.viewer, scan, spec)
    for z, plane in enumerate(two_pieces()):
        result.write(SlicePart(z, plane))
    result.finish({})
    layer = bench.viewer.layers[result.name]
    layer.name = "mask"
    bench.session.result_id = layer_id(layer)
    assert not edited(layer)
    bench.controller.keep_largest()
    assert edited(layer, [2])
    assert not edited(layer, [0, 1, 3, 4, 5])
    assert fakes.begun(bench.viewer, scan, spec).id != layer_id(layer)
    again = fakes.begun(bench.viewer, scan, ResultSpec("model", "digest", CLASSES, (1,)))
    assert again.id == layer_id(layer)
    again.write(SlicePart(2, two_pieces()[2]))
    assert list(again.kept) == [2]
    assert layer.data[2, 15, 15] == 0
