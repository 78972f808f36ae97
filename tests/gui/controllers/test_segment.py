"""The Segment dock's behaviour on a ``ViewerModel``: no window, no thread, no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg import scratch
from napari_llm4seg.gui.controllers import running
from napari_llm4seg.gui.controllers.segment import SegmentController
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.viewer_port import NapariPort
from napari_llm4seg.jobs import InlineRunner


class Held(InlineRunner):
    """Starts nothing until ``go``: a job that is still to come."""

    def __init__(self):
        super().__init__()
        self.waiting = []

    def start(self, fn, **callbacks):
        self.waiting.append((fn, callbacks))

    def go(self):
        while self.waiting:
            fn, callbacks = self.waiting.pop(0)
            super().start(fn, **callbacks)


class Bench:
    """A viewer with the controller on it and a view that remembers."""

    def __init__(self, fakes, settings=None, runner=None, session=None, viewer=None, **how):
        self.viewer = viewer if viewer is not None else ViewerModel()
        self.models, self.view = fakes.FakeModels(**how), fakes.RecordingView()
        self.session = session or Session()
        self.runners = []

        def make_runner():
            self.runners.append((runner or (lambda: InlineRunner(interval=0)))())
            return self.runners[-1]

        self.controller = SegmentController(
            self.session, NapariPort(self.viewer), self.models, self.view, make_runner, settings or Settings()
        )

    def start(self):
        self.controller.start()
        return self

    @property
    def state(self):
        return self.view.state

    @property
    def results(self):
        return [layer for layer in self.viewer.layers if "· seg ·" in layer.name]


@pytest.fixture
def bench(fakes):
    return Bench(fakes)


def square(shape, value=200):
    data = np.zeros(shape, np.uint8)
    data[..., 10:20, 15:30] = value
    return data


def test_nothing_open_says_what_is_missing(bench):
    bench.start()
    assert bench.state.scans == ()
    assert not bench.state.segment_slice.enabled
    assert "Open a scan" in bench.state.segment_slice.tooltip
    assert not bench.state.cancel.enabled
    assert bench.state.cancel.tooltip
    assert not bench.state.undo.enabled
    assert bench.state.undo.tooltip


def test_first_result_needs_no_choice(bench):
    bench.start()
    bench.viewer.add_image(square((40, 50)), name="us", metadata={"modality": "US"}, scale=(0.2, 0.1))
    assert bench.state.model == "breast-ultrasound"  # the CT model comes first, but does not fit
    assert bench.state.segment_slice.enabled
    assert not bench.state.segment_all.visible
    bench.controller.segment_slice()
    (layer,) = bench.results
    assert layer.name == "us · seg · breast-ultrasound"
    assert np.array_equal(layer.data, square((40, 50)) > 0)
    np.testing.assert_allclose(layer.scale, (0.2, 0.1))
    assert layer.metadata["napari_llm4seg"]["provenance"]["checkpoint"] == "breast-ultrasound"
    assert bench.session.result_id == str(layer.unique_id)
    assert bench.session.busy == ""
    assert bench.state.undo.enabled


def test_without_a_header_the_look_of_the_scan_chooses(fakes):
    red = np.broadcast_to(np.array([140, 80, 60], np.uint8), (40, 50, 3))
    bench = Bench(fakes, cards=(fakes.ULTRASOUND, fakes.SKIN, fakes.POLYP), looks=fakes.LOOKS).start()
    bench.viewer.add_image(red, rgb=True, name="picture")
    assert bench.state.model == "polyp"
    bench.viewer.add_image(np.broadcast_to(np.array([180, 150, 140], np.uint8), (40, 50, 3)), rgb=True, name="other")
    assert bench.state.model == "skin-lesion"
    bench.viewer.add_image(square((40, 50)), name="third")
    assert bench.state.model == "breast-ultrasound"
    bench.controller.choose_model("polyp")
    bench.viewer.add_image(square((40, 50)), name="fourth")
    assert bench.state.model == "polyp", "what a person chose stays"


def test_a_model_of_volumes_is_not_proposed_for_one_image(fakes):
    how = {"cards": (fakes.BRAIN, fakes.ULTRASOUND), "looks": fakes.LOOKS}
    bench = Bench(fakes, **how).start()
    bench.viewer.add_image(square((40, 50)), name="one", metadata={"modality": "MR"})
    assert bench.state.model == "breast-ultrasound"
    bench.viewer.add_image(square((6, 40, 50)), name="many", metadata={"modality": "MR"})
    assert bench.state.model == "hippocampus-mri"


def test_the_model_used_last_is_proposed_for_its_kind_of_scan_alone(fakes):
    how = {"cards": (fakes.ULTRASOUND, fakes.SKIN, fakes.POLYP), "looks": fakes.LOOKS}
    bench = Bench(fakes, settings=Settings(model="polyp"), **how).start()
    bench.viewer.add_image(np.broadcast_to(np.array([180, 150, 140], np.uint8), (40, 50, 3)), rgb=True, name="mole")
    assert bench.state.model == "polyp"
    bench.viewer.add_image(square((40, 50)), name="grey")
    assert bench.state.model == "breast-ultrasound"


def test_a_proposed_model_that_is_chosen_stays_chosen(fakes):
    how = {"cards": (fakes.ULTRASOUND, fakes.POLYP), "looks": fakes.LOOKS}
    bench = Bench(fakes, **how).start()
    bench.viewer.add_image(square((40, 50)), name="us")
    assert bench.state.model == "breast-ultrasound"
    bench.controller.choose_model("breast-ultrasound")
    bench.viewer.add_image(np.broadcast_to(np.array([150, 80, 60], np.uint8), (40, 50, 3)), rgb=True, name="gut")
    assert bench.state.model == "breast-ultrasound"


def test_the_buttons_stay_where_they_are_while_a_model_is_loaded(fakes):
    how = {"cards": (fakes.BRAIN,), "looks": fakes.LOOKS}
    bench = Bench(fakes, runner=Held, **how)
    bench.viewer.add_image(square((6, 40, 50)), name="brain", metadata={"modality": "MR"})
    bench.start()
    catalogue = bench.runners[0]
    fn, callbacks = catalogue.waiting.pop(0)
    callbacks["on_result"](fn(None))
    loading = bench.state
    assert loading.model_lines[-1].endswith("loading…")
    assert not loading.segment_all.visible, "that this model sees volumes is known before it is there"
    catalogue.go()
    assert len(bench.state.model_lines) == len(loading.model_lines)


def test_a_click_before_the_model_is_there_is_kept(fakes):
    bench = Bench(fakes, runner=Held)
    bench.viewer.add_image(square((40, 50)), name="us")
    bench.start()
    bench.controller.segment_slice()
    assert bench.state.progress is not None
    assert bench.state.cancel.enabled
    assert not bench.results
    loader, worker, _ = bench.runners
    loader.go()
    worker.go()
    assert len(bench.results) == 1


def test_a_waiting_click_can_be_cancelled(fakes):
    bench = Bench(fakes, runner=Held)
    bench.viewer.add_image(square((40, 50)), name="us")
    bench.start()
    bench.controller.segment_slice()
    bench.controller.cancel()
    assert bench.state.progress is None
    loader, worker, _ = bench.runners
    loader.go()
    worker.go()
    assert not bench.results


@pytest.mark.parametrize("turns", range(4))
def test_cancelled_before_the_model_began_nothing_is_left(fakes, turns):
    """Whichever part of the result's layers was the last one made."""
    calls = []
    bench = Bench(fakes)
    bench.controller._runs._later = calls.append
    bench.viewer.add_image(square((3, 40, 50)), name="ct")
    bench.start()
    bench.controller.set_option("probability", True)
    bench.controller.segment_all()
    for _ in range(turns):
        calls.pop(0)()
    assert len(bench.results) == (turns > 1)
    bench.controller.cancel()
    while calls:
        calls.pop(0)()
    assert [layer.name for layer in bench.viewer.layers] == ["ct"]
    assert bench.models.predictor.ran == []
    assert not bench.state.busy
    assert bench.state.segment_slice.enabled
    assert not bench.state.undo.enabled


def test_a_failure_before_the_first_slice_leaves_no_layer(fakes):
    bench = Bench(fakes, fail_at=0)
    bench.viewer.add_image(square((40, 50)), name="us")
    bench.start()
    bench.controller.segment_slice()
    assert bench.state.message.kind == "error"
    assert not bench.results


def test_no_room_for_the_result_is_said(bench, monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(bench.controller.port, "begin_result", refuse)
    bench.viewer.add_image(square((40, 50)), name="us")
    bench.start()
    bench.controller.segment_slice()
    assert bench.state.message.kind == "error"
    assert "memory" in bench.state.message.text
    assert not bench.state.busy


def test_the_slice_on_show_comes_first_and_the_rest_follows(bench):
    bench.viewer.add_image(square((6, 40, 50)), name="ct")
    bench.start()
    bench.viewer.dims.set_current_step(0, 4)
    bench.controller.segment_all()
    assert bench.models.predictor.ran == [[4, 0, 1, 2, 3, 5]]
    (layer,) = bench.results
    assert np.array_equal(layer.data, square((6, 40, 50)) > 0)
    assert "6 of 6 slices" in bench.state.message.text


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("ndisplay", [2, 3])
def test_slices_are_the_first_axis_however_the_viewer_turns_it(bench, order, ndisplay):
    data = np.zeros((5, 40, 50), np.uint8)
    data[3, 5:9, 7:20] = 255
    bench.viewer.add_image(data, name="ct", scale=(3, 1, 1))
    bench.start()
    bench.viewer.dims.order = order
    bench.viewer.dims.ndisplay = ndisplay
    bench.viewer.dims.set_point(0, 9.0)
    bench.controller.segment_slice()
    assert bench.models.predictor.ran == [[3]]
    assert np.array_equal(bench.results[0].data, data > 0)


def test_a_model_of_volumes_has_one_button_that_segments_the_whole_scan_and_says_so(fakes):
    bench = Bench(fakes, cards=(fakes.HEAD,)).start()
    bench.viewer.add_image(square((6, 40, 50)), name="mr")
    bench.viewer.dims.set_current_step(0, 2)
    assert bench.state.segment_slice.text == "Segment whole scan"
    assert "whole volumes" in bench.state.segment_slice.tooltip
    assert not bench.state.segment_all.visible
    assert "patches" in bench.state.options.mode_reason
    assert bench.state.options.overlap_reason == ""
    bench.controller.segment_slice()
    assert bench.models.predictor.ran == [[2, 0, 1, 3, 4, 5]]
    (layer,) = bench.results
    assert np.array_equal(layer.data, square((6, 40, 50)) > 0)
    bench.viewer.add_image(square((40, 50)), name="one slice")
    assert bench.state.segment_slice.text == "Segment"


def test_another_slice_joins_the_result(bench):
    bench.viewer.add_image(square((4, 40, 50)), name="ct")
    bench.start()
    for z in (1, 2):
        bench.viewer.dims.set_current_step(0, z)
        bench.controller.segment_slice()
    (layer,) = bench.results
    assert [bool(part.any()) for part in layer.data] == [False, True, True, False]
    layer.undo()  # napari's own Ctrl+Z
    assert [bool(part.any()) for part in layer.data] == [False, True, False, False]
    layer.redo()
    bench.controller.undo()
    assert [bool(part.any()) for part in layer.data] == [False, True, False, False]
    bench.controller.undo()
    assert not bench.results
    assert not bench.state.undo.enabled


@pytest.mark.parametrize("shape", [(40, 50), (3, 40, 50)])
@pytest.mark.parametrize("kind", ["segment_slice", "segment_all"])
def test_edits_are_never_written_over(bench, shape, kind):
    bench.viewer.add_image(square(shape), name="scan")
    bench.viewer.dims.set_current_step(0, 0)
    bench.start()
    getattr(bench.controller, kind)()
    first = bench.results[0]
    first.paint((0,) * (len(shape) - 2) + (30, 40), 1)
    painted = first.data.copy()
    getattr(bench.controller, kind)()
    assert len(bench.results) == 2
    assert np.array_equal(first.data, painted)
    assert bench.results[1].name.endswith(" [2]")
    # The new one can be taken back, the edited one cannot.
    bench.controller.undo()
    assert bench.results == [first]
    bench.controller.undo()
    assert bench.results == [first]
    assert "edited" in bench.state.message.text


def test_a_stroke_taken_back_counts_as_unedited(bench):
    bench.viewer.add_image(square((40, 50)), name="scan")
    bench.start()
    bench.controller.segment_slice()
    bench.results[0].paint((30, 40), 1)
    bench.results[0].undo()
    bench.controller.segment_slice()
    assert len(bench.results) == 1


def test_segmenting_again_replaces_what_nobody_edited_and_undo_brings_it_back(bench):
    data = square((3, 40, 50), 100)
    bench.viewer.add_image(data, name="ct")
    bench.start()
    bench.controller.segment_all()  # 100 / 255 is below the threshold
    (layer,) = bench.results
    assert not layer.data.any()
    bench.controller.set_option("threshold", 0.2)
    bench.controller.segment_all()
    assert bench.results == [layer]
    assert layer.data.any()
    bench.controller.undo()
    assert bench.results == [layer]
    assert not layer.data.any()
    bench.controller.undo()
    assert not bench.results


def test_painting_during_the_run_is_kept(fakes):
    bench = Bench(fakes, hooks={2: lambda: bench.results[0].paint((3, 30, 40), 1)})
    bench.viewer.add_image(square((5, 40, 50)), name="ct")
    bench.viewer.dims.set_current_step(0, 0)
    bench.start()
    bench.controller.segment_all()
    (layer,) = bench.results
    assert layer.data[3, 30, 40] == 1
    assert not layer.data[3, 10:20, 15:30].any()
    assert layer.data[4].any()
    assert "slice 3" in bench.state.message.text


def test_cancel_keeps_the_finished_slices(fakes):
    bench = Bench(fakes, hooks={3: lambda: bench.controller.cancel()})
    bench.viewer.add_image(square((6, 40, 50)), name="ct")
    bench.viewer.dims.set_current_step(0, 0)
    bench.start()
    bench.controller.segment_all()
    assert [bool(part.any()) for part in bench.results[0].data] == [True] * 3 + [False] * 3
    assert "3 of 6" in bench.state.message.text
    assert bench.state.message.kind == "info"
    assert not bench.state.busy
    bench.controller.undo()
    assert not bench.results


def test_a_removed_scan_stops_the_run_calmly(fakes):
    bench = Bench(fakes, hooks={2: lambda: bench.viewer.layers.remove("ct")})
    bench.viewer.add_image(square((6, 40, 50)), name="ct")
    bench.start()
    bench.controller.segment_all()
    assert "was closed" in bench.state.message.text
    assert bench.state.message.kind == "info"
    assert not bench.state.busy
    assert bench.state.scans == ()


def test_a_removed_result_stops_the_run_calmly(fakes):
    bench = Bench(fakes, hooks={2: lambda: bench.viewer.layers.remove(bench.results[0])})
    bench.viewer.add_image(square((6, 40, 50)), name="ct")
    bench.viewer.dims.set_current_step(0, 0)
    bench.start()
    bench.controller.segment_all()
    assert not bench.results
    assert "removed" in bench.state.message.text
    assert not bench.state.undo.enabled


def test_closing_during_a_run_draws_nothing_more(fakes):
    seen = []

    def leave():
        bench.controller.close()
        seen.append(len(bench.view.states))

    bench = Bench(fakes, hooks={2: leave})
    bench.viewer.add_image(square((6, 40, 50)), name="ct")
    bench.start()
    bench.controller.segment_all()
    assert len(bench.view.states) == seen[0]
    assert bench.session.busy == ""
    bench.viewer.add_image(square((40, 50)), name="later")
    assert len(bench.view.states) == seen[0]


def test_a_failure_is_said_in_words_with_details(fakes):
    bench = Bench(fakes, fail_at=2)
    bench.viewer.add_image(square((4, 40, 50)), name="ct")
    bench.start()
    bench.controller.segment_all()
    message = bench.state.message
    assert message.kind == "error"
    assert "kernel image is missing" in message.text
    assert "2 finished slices are kept" in message.text
    assert "Traceback" in message.details
    assert bench.state.segment_slice.enabled


def test_what_was_converted_is_said_calmly(fakes):
    bench = Bench(fakes, messages=["The scan is grey; it was run three times."])
    bench.viewer.add_image(square((40, 50)), name="us")
    bench.start()
    bench.controller.segment_slice()
    assert bench.state.message.kind == "info"
    assert "three times" in bench.state.message.text


def test_finding_nothing_is_said(bench):
    bench.viewer.add_image(np.zeros((40, 50), np.uint8), name="black")
    bench.start()
    bench.controller.segment_slice()
    assert "found no lesion" in bench.state.message.text


def test_no_checkpoint_goes_back_to_the_model_before(bench):
    bench.viewer.add_image(square((40, 50)), name="us", metadata={"modality": "US"})
    bench.start()
    bench.controller.add_model(Path("/somewhere/broken"))
    assert bench.state.message.kind == "error"
    assert bench.state.model == "breast-ultrasound"
    assert [choice.key for choice in bench.state.models] == ["abdomen", "breast-ultrasound"]
    assert bench.state.segment_slice.enabled
    assert Settings.load().models == []


def test_an_added_checkpoint_is_remembered(fakes, bench):
    bench.start()
    bench.controller.add_model(Path("/somewhere/mine"))
    assert bench.state.model == str(Path("/somewhere/mine"))
    assert any("own" in line for line in bench.state.model_lines)
    assert Settings.load().models == [str(Path("/somewhere/mine"))]
    assert Settings.load().model == str(Path("/somewhere/mine"))


def test_the_last_model_is_taken_where_no_modality_speaks_against_it(fakes):
    bench = Bench(fakes, settings=Settings(model="breast-ultrasound"))
    bench.viewer.add_image(square((40, 50)), name="png")
    assert bench.start().state.model == "breast-ultrasound"


def test_another_modality_is_pointed_out(bench):
    bench.viewer.add_image(square((40, 50)), name="us", metadata={"modality": "US"})
    bench.start()
    bench.controller.choose_model("abdomen")
    assert bench.state.message.kind == "warning"
    assert "CT" in bench.state.message.text
    bench.controller.segment_slice()
    # A result must not make the doubt forgotten.
    assert bench.state.message.kind == "warning"
    assert "Expect a poor mask" in bench.state.message.text


def test_undo_passes_an_edited_result_on_to_the_run_before(bench):
    bench.viewer.add_image(square((40, 50)), name="first")
    bench.start()
    bench.controller.segment_slice()
    scan = bench.viewer.add_image(square((40, 50)), name="second")
    bench.viewer.layers.selection.active = scan
    bench.controller.segment_slice()
    of_first, of_second = bench.results
    of_second.paint((30, 40), 1)
    bench.controller.undo()
    assert bench.results == [of_first, of_second]
    assert "edited" in bench.state.message.text
    bench.controller.undo()
    assert bench.results == [of_second]
    assert bench.viewer.layers.selection.active.name == "first"
    assert not bench.state.undo.enabled


def test_a_chosen_model_stays_when_the_scan_changes(bench):
    bench.viewer.add_image(square((40, 50)), name="us", metadata={"modality": "US"})
    bench.start()
    bench.controller.choose_model("abdomen")
    bench.viewer.add_image(square((40, 50)), name="us2", metadata={"modality": "US"})
    assert bench.state.model == "abdomen"


def test_the_scan_follows_the_selected_image_only(bench):
    first = bench.viewer.add_image(square((40, 50)), name="a")
    second = bench.viewer.add_image(square((3, 40, 50)), name="b")
    bench.start()
    assert bench.state.scan == str(second.unique_id)
    bench.viewer.layers.selection.active = first
    assert bench.state.scan == str(first.unique_id)
    bench.viewer.add_labels(np.zeros((40, 50), np.uint8), name="mask")
    assert bench.state.scan == str(first.unique_id)
    first.name = "renamed"
    assert "renamed" in [choice.label for choice in bench.state.scans]


def movie(bench, labels=("t", "z", "y", "x"), shape=(4, 3, 40, 50)):
    """A scan of four time points, bright in the square of the third one's second slice alone."""
    data = np.zeros(shape, np.uint8)
    data[2, 1, 10:20, 15:30] = 200
    return bench.viewer.add_image(data, name="movie", axis_labels=labels)


def test_the_slice_on_show_of_the_time_point_on_show(bench):
    movie(bench)
    bench.start()
    assert bench.state.scan_words.startswith("4 time points of 50 × 40 × 3")
    bench.viewer.dims.set_current_step((0, 1), (2, 1))
    bench.controller.segment_slice()
    layer = bench.results[0]
    assert layer.data.shape == (4, 3, 40, 50)
    assert np.count_nonzero(layer.data) == np.count_nonzero(layer.data[2, 1]) == 150
    assert bench.models.predictor.ran == [[1]]
    bench.controller.undo()
    assert not bench.results


def test_every_time_point_is_a_scan_of_its_own_the_one_on_show_first(bench):
    movie(bench)
    bench.start()
    bench.viewer.dims.set_current_step((0, 1), (2, 1))
    assert "every slice of the 4 time points" in bench.state.segment_all.tooltip
    bench.controller.segment_all()
    layer = bench.results[0]
    assert np.count_nonzero(layer.data) == np.count_nonzero(layer.data[2, 1]) == 150
    assert bench.models.predictor.ran == [[1, 0, 2]] * 4
    assert "in 1 of 12 slices" in bench.state.message.text
    seen = {state.progress.text.partition(" ·")[0] for state in bench.view.states if state.progress}
    assert "time point 2/4, slice 3/3" in seen
    provenance = layer.metadata["napari_llm4seg"]["provenance"]
    assert provenance["slices_written"] == list(range(12))
    assert list(provenance["frames"]) == ["0", "1", "2", "3"]
    assert [int(volume.data.max()) for volume in bench.models.predictor.seen] == [200, 0, 0, 0]


def test_a_volume_model_takes_one_time_point_or_all(fakes):
    bench = Bench(fakes, cards=(fakes.HEAD,))
    movie(bench)
    bench.start()
    assert bench.state.segment_slice.text == "Segment this volume"
    assert bench.state.segment_all.text == "Segment all 4 time points"
    assert bench.state.segment_all.visible
    bench.viewer.dims.set_current_step(0, 2)
    bench.controller.segment_slice()
    assert len(bench.models.predictor.ran) == 1
    assert bench.results[0].data[2, 1].any()


@pytest.mark.parametrize(("label", "words"), [("c", "channels"), ("t", "time points")])
def test_planes_that_are_no_slices_of_a_volume(fakes, label, words):
    bench = Bench(fakes, cards=(fakes.HEAD, fakes.ULTRASOUND))
    bench.viewer.add_image(square((3, 40, 50)), name="planes", axis_labels=(label, "y", "x"))
    bench.start()
    bench.controller.choose_model("volume-head")
    assert f"The slices of this scan are {words}" in bench.state.segment_slice.tooltip
    assert not bench.state.segment_slice.enabled
    bench.controller.choose_model("breast-ultrasound")
    bench.controller.set_option("axis", "coronal")
    assert words in bench.state.options.axis_reason
    bench.controller.segment_all()
    assert sorted(bench.models.predictor.ran[-1]) == [0, 1, 2]
    assert np.count_nonzero(bench.results[0].data) == 3 * 150


@pytest.mark.parametrize(
    ("shape", "labels", "told"),
    [((3, 40, 50), None, True), ((40, 50), None, False), ((3, 40, 50), ("t", "y", "x"), False),
     ((4, 3, 40, 50), ("t", "z", "y", "x"), False)],
)  # fmt: skip
def test_a_whole_volume_that_was_written_is_told_of(bench, shape, labels, told):
    heard = []
    bench.session.stack_written.connect(heard.append)
    bench.viewer.add_image(square(shape), name="scan", axis_labels=labels)
    bench.start()
    bench.controller.choose_model("breast-ultrasound")
    bench.controller.segment_slice()
    assert heard == [], "one slice has no pieces"
    bench.controller.segment_all()
    assert heard == ([bench.session.result_id] if told else [])


def test_a_run_that_was_stopped_is_not_told_of(fakes):
    bench = Bench(fakes, hooks={2: lambda: bench.controller.cancel()})
    heard = []
    bench.session.stack_written.connect(heard.append)
    bench.viewer.add_image(square((3, 40, 50)), name="scan")
    bench.start()
    bench.controller.segment_all()
    assert "kept" in bench.state.message.text
    assert heard == []


def test_slices_along_another_axis(bench):
    data = square((3, 40, 50))
    bench.viewer.add_image(data, name="ct")
    bench.start()
    bench.controller.set_option("axis", "coronal")
    assert bench.state.options.axis == "coronal"
    bench.viewer.dims.set_current_step(1, 12)
    bench.controller.segment_slice()
    layer = bench.results[0]
    assert layer.name == "ct · seg · abdomen · coronal"
    assert np.count_nonzero(layer.data) == np.count_nonzero(layer.data[:, 12]) == 45
    bench.controller.segment_all()
    np.testing.assert_array_equal(layer.data, data > 100)
    assert bench.models.predictor.ran[-1][0] == 12
    assert len(bench.models.predictor.ran[-1]) == 40
    bench.controller.undo()
    assert np.count_nonzero(layer.data) == 45
    bench.controller.set_option("axis", "stored")
    bench.controller.segment_slice()
    assert [item.name for item in bench.results] == [
        "ct · seg · abdomen · coronal",
        "ct · seg · abdomen",
    ]


def test_a_large_result_lies_on_disk(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path))
    monkeypatch.setattr(scratch, "LARGE", 1000)
    monkeypatch.setattr(running, "LARGE", 1000)
    bench.viewer.add_image(square((3, 40, 50)), name="ct")
    bench.start()
    bench.controller.set_option("probability", True)
    bench.controller.segment_all()
    layer = bench.results[0]
    assert isinstance(layer.data, np.memmap)
    assert isinstance(bench.viewer.layers["ct · prob · lesion"].data, np.memmap)
    assert np.count_nonzero(layer.data) == 3 * 150
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    layer.undo()
    assert not layer.data[0, 0, 0]
    bench.controller.undo()
    assert not bench.results


def test_probability_layers(bench):
    bench.viewer.add_image(square((3, 40, 50)), name="ct")
    bench.start()
    bench.controller.set_option("probability", True)
    bench.viewer.dims.set_current_step(0, 1)
    bench.controller.segment_slice()
    layer = bench.viewer.layers["ct · prob · lesion"]
    assert tuple(layer.contrast_limits) == (0, 1)
    assert layer.blending == "additive"
    assert layer.data[1].max() == pytest.approx(200 / 255, abs=1e-6)
    assert not layer.data[0].any()
    assert len(bench.state.scans) == 1  # it is no scan
    bench.viewer.dims.set_current_step(0, 2)
    bench.controller.segment_slice()
    assert sum("· prob ·" in item.name for item in bench.viewer.layers) == 1
    bench.controller.undo()
    assert not layer.data[2].any()
    bench.controller.undo()
    assert [item.name for item in bench.viewer.layers] == ["ct"]


def test_options_are_kept_and_reset(fakes, bench):
    bench.start()
    bench.controller.set_option("threshold", 0.25)
    bench.controller.set_option("flips", True)
    bench.controller.set_option("probability", True)
    bench.controller.choose_device("cpu")
    again = Bench(fakes, settings=Settings.load()).start()
    assert again.state.options.threshold == 0.25
    assert again.state.options.flips
    assert again.state.options.probability
    assert again.state.device == "cpu"
    again.controller.set_option("flips", False)  # as the model suggests: nothing to remember
    assert Settings.load().options == {"threshold": 0.25}
    again.controller.reset_options()
    assert not again.state.options.changed


def test_nonsense_in_the_settings_is_ignored(fakes):
    settings = Settings(device="tpu", model="gone", options={"threshold": 7, "colour": "red"})
    bench = Bench(fakes, settings=settings)
    bench.viewer.add_image(square((40, 50)), name="us")
    bench.start()
    assert bench.state.device == "auto"
    assert bench.state.options.threshold == 0.5
    assert bench.state.segment_slice.enabled


def test_a_corrupted_settings_file_gives_the_defaults():
    Path(os.environ["LLM4SEG_SETTINGS"]).write_text("{broken")
    assert Settings.load() == Settings()
    Path(os.environ["LLM4SEG_SETTINGS"]).write_text(json.dumps({"device": 7, "model": "m", "options": []}))
    assert Settings.load() == Settings(model="m")


def test_work_of_another_dock_blocks_with_a_reason(bench):
    bench.viewer.add_image(square((40, 50)), name="us")
    bench.start()
    bench.session.busy = "Training on 5 slices."
    assert not bench.state.segment_slice.enabled
    assert "Training" in bench.state.segment_slice.tooltip
    bench.session.busy = ""
    assert bench.state.segment_slice.enabled


def test_a_second_dock_takes_over_the_loaded_model(fakes, bench):
    bench.viewer.add_image(square((40, 50)), name="us")
    bench.start()
    bench.controller.choose_model("abdomen")
    bench.controller.close()
    again = Bench(fakes, session=bench.session, viewer=bench.viewer).start()
    assert again.state.model == "abdomen"
    assert again.models.loaded == []
    assert again.state.segment_slice.enabled


def test_no_model_at_all(fakes):
    bench = Bench(fakes, cards=())
    bench.viewer.add_image(square((40, 50)), name="us")
    bench.start()
    assert not bench.state.segment_slice.enabled
    assert "+" in bench.state.segment_slice.tooltip


def test_opening_a_scan_and_a_sample(bench):
    bench.start()
    bench.controller.open_sample("phantom")
    assert [choice.label for choice in bench.state.scans] == ["phantom"]
    bench.controller.open_scan(Path("/somewhere/mine.png"))
    assert "mine" in [choice.label for choice in bench.state.scans]
    assert bench.state.message is None


def test_several_series_are_asked_for_and_read(bench):
    from napari_llm4seg.io import SeriesInfo

    bench.models.listed = [SeriesInfo(n, "1.2", text, "CT", "", 9, (4, 5)) for n, text in ((1, "scout"), (2, "liver"))]
    bench.start()
    bench.controller.open_scan(Path("/somewhere/export"))
    assert bench.view.asked == [
        ("export", ["1: CT, scout, 9 slices of 5 × 4", "2: CT, liver, 9 slices of 5 × 4"]),
    ]
    assert bench.state.scans == ()
    assert bench.state.message is None
    bench.view.ticks = [1, 0]
    bench.controller.open_scan(Path("/somewhere/export"))
    assert {choice.label for choice in bench.state.scans} == {"export 2", "export 1"}


def test_reading_shows_how_far_it_is_and_can_be_stopped(bench, monkeypatch):
    shown = []

    def slow(path, numbers, progress):
        shown.append(bench.state)
        for done in (1, 2, 3):
            progress(done, 3, f"slice {done}/3")
            shown.append(bench.state)
            if done == 2:
                bench.controller.cancel()
        raise AssertionError("not reached")

    monkeypatch.setattr(bench.models, "read_scan", slow)
    bench.start()
    bench.controller.open_scan(Path("/somewhere/ct"))
    assert shown[0].progress is not None
    assert shown[0].cancel.enabled
    assert shown[0].cancel.tooltip == "Stop reading"
    assert (shown[1].progress.done, shown[1].progress.total) == (1, 3)
    assert len(shown) == 3
    assert bench.state.message.text == "Opening ct was stopped."
    assert bench.state.progress is None
    assert not bench.state.cancel.enabled
    assert bench.state.scans == ()


def test_what_reading_had_to_say_is_shown_once(bench):
    bench.models.notes = ("1 slice is probably missing.", "The gantry was tilted by 9°.")
    bench.start()
    bench.controller.open_scan(Path("/somewhere/ct"))
    assert bench.state.message.text == "1 slice is probably missing. The gantry was tilted by 9°."
    assert bench.state.message.kind == "warning"
    bench.controller.dismiss_message()
    bench.models.notes = ()
    bench.controller.open_scan(Path("/somewhere/other"))
    assert bench.state.message is None
    first = next(choice.key for choice in bench.state.scans if choice.label == "ct")
    bench.controller.choose_scan(first)
    assert bench.state.message is None


def test_a_scan_that_cannot_be_opened(bench, monkeypatch):
    from napari_llm4seg.errors import InputError

    def refuse(path, numbers=(None,), progress=None):
        raise InputError(f"'{path.name}' is cut short.")

    monkeypatch.setattr(bench.models, "read_scan", refuse)
    bench.start()
    bench.controller.open_scan(Path("bad.nii"))
    assert bench.state.message.text == "'bad.nii' is cut short."
    assert bench.state.message.kind == "error"
