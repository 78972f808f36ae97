"""Correct & Retrain down to its training, on a ``ViewerModel``: real layers and files, no window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.gui.controllers.ports import ResultSpec, SlicePart
from napari_llm4seg.gui.controllers.projects import projects_folder
from napari_llm4seg.gui.layers import layer_id
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.jobs import InlineRunner


@pytest.fixture
def Bench(correct_bench):
    return correct_bench.Bench


@pytest.fixture
def CLASSES(correct_bench):
    return correct_bench.CLASSES


@pytest.fixture
def bench(fakes, correct_bench):
    made = correct_bench.Bench(fakes)
    yield made
    made.controller.close()


def test_slices_are_untouched_edited_and_confirmed_as_a_person_works(bench):
    assert "press Segment" in bench.state.hint
    layer = bench.segment()
    assert bench.state.strip.marks == ("untouched",) * 6
    assert not projects_folder().exists(), "nothing was corrected, so nothing is kept"
    bench.paint(layer, 2, 3, 4)
    assert bench.state.strip.marks[2] == "edited"
    layer.undo()
    bench.soon.come()
    assert bench.state.strip.marks == ("untouched",) * 6
    layer.redo()
    bench.soon.come()
    assert bench.state.counts == "1 edited · 0 confirmed · 6 slices"
    bench.viewer.dims.set_current_step(0, 4)
    assert bench.state.strip.here == 4
    bench.controller.confirm()
    assert bench.state.strip.marks[4] == "confirmed"
    assert bench.state.confirm.text == "Unconfirm"
    assert bench.written() == {2: "edited", 4: "confirmed"}
    bench.controller.confirm()
    assert bench.state.strip.marks[4] == "untouched"
    assert bench.written() == {2: "edited"}


def test_what_is_kept_is_what_the_person_sees(bench):
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    bench.controller.show_slice(2)
    bench.controller.confirm()
    assert bench.written() == {2: "confirmed"}
    saver = bench.controller.saver
    (record,) = saver.records()
    image, labels, counts = saver.project.store.arrays(record)
    assert np.array_equal(image[0], bench.scan.data[2])
    assert np.array_equal(labels, layer.data[2])
    assert counts is None
    assert record.model == "a" * 64
    assert [spec.name for spec in saver.project.store.classes] == ["liver", "spleen"]
    assert saver.folder.parent == projects_folder()
    assert bench.state.project.saved == "1 saved"


def test_a_whole_volume_changed_at_once_is_looked_at_in_a_job(bench):
    layer = bench.segment()
    grown = layer.data.copy()
    grown[:, 9:11] = 1
    bench.controller._stack.put(dict(enumerate(grown)))
    bench.soon.come()
    assert bench.state.strip.marks == ("edited",) * 6
    layer.undo()
    bench.soon.come()
    assert bench.state.strip.marks == ("untouched",) * 6
    assert bench.written() == {}


def test_a_clean_up_of_the_whole_mask_is_no_edit_of_its_slices(bench, fakes, Bench):
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    port, grown = NapariMasks(bench.viewer), layer.data.copy()
    grown[1:4, 9:11] = 1
    port.replace_labels(layer_id(layer), grown)
    port.note_step(layer_id(layer), "grown")
    bench.soon.come()
    assert bench.state.counts.startswith("1 edited"), "nobody has looked at the others"
    assert bench.written() == {2: "edited"}
    bench.paint(layer, 3, 0, 0)
    assert bench.state.strip.marks[3] == "edited"
    for step in (layer.undo, layer.undo, layer.redo):
        step()
        bench.soon.come()
        assert bench.state.counts.startswith("1 edited")
    bench.controller.close()
    again = Bench(fakes, bench.viewer)
    again.session.mask_id = layer_id(layer)
    assert again.state.counts.startswith("1 edited"), "another look at the mask finds the same"
    again.controller.close()


def test_a_clean_up_is_no_edit_either_where_its_end_is_heard_before_its_strokes(bench):
    layer = bench.segment()
    bench.session.busy = "'mask' is being cleaned up."
    port, grown = NapariMasks(bench.viewer), layer.data.copy()
    grown[1:4, 9:11] = 1
    port.replace_labels(layer_id(layer), grown)
    port.note_step(layer_id(layer), "grown")
    bench.session.busy = ""
    assert bench.state.counts.startswith("0 edited"), bench.state.counts
    bench.soon.come()
    assert bench.state.counts.startswith("0 edited")
    assert bench.written() == {}


class Held(InlineRunner):
    """Holds its job back until the test lets it go."""

    def start(self, fn, **callbacks):
        self.let_go = lambda: InlineRunner.start(self, fn, **callbacks)


def test_a_slice_confirmed_while_the_mask_is_looked_at_is_confirmed_after_it(fakes, Bench):
    runners = []

    def make_runner():
        runners.append(InlineRunner(interval=0) if runners else Held(interval=0))
        return runners[-1]

    bench, looker = Bench(fakes, make_runner=make_runner), runners[0]
    bench.segment()
    bench.viewer.dims.set_current_step(0, 4)
    bench.controller.confirm()
    assert bench.state.strip.marks == (), "nothing is known of the mask yet"
    looker.let_go()
    assert bench.state.strip.marks[4] == "confirmed"
    bench.session.busy = "running"
    bench.session.busy = ""
    bench.viewer.dims.set_current_step(0, 2)
    bench.controller.confirm()
    assert bench.state.strip.marks[2] == "untouched"
    looker.let_go()
    assert bench.state.strip.marks[2] == "confirmed"
    assert bench.written() == {2: "confirmed", 4: "confirmed"}
    bench.controller.close()


def test_a_run_writes_no_corrections(bench, CLASSES, fakes):
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    result = fakes.begun(bench.viewer, bench.scan, ResultSpec("liver-v1", "a" * 64, CLASSES, slices=(4,)))
    assert result.id == layer_id(layer)
    bench.session.busy = "running"
    labels = np.ones((12, 14), np.uint8)
    result.write(SlicePart(4, labels))
    bench.soon.come()
    result.finish({})
    bench.session.busy = ""
    assert bench.state.strip.marks == ("untouched", "untouched", "edited", "untouched", "untouched", "untouched")
    layer.undo()
    bench.soon.come()
    assert bench.state.strip.marks[4] == "untouched", "what was there before came from the model too"
    assert bench.written() == {2: "edited"}


def test_partial_annotation_keeps_what_was_drawn_alone(bench):
    layer = bench.segment()
    bench.controller.set_partial(True)
    before = layer.data[2].copy()
    bench.paint(layer, 2, 3, 4)
    saver = bench.controller.saver
    bench.written()
    _, _, counts = saver.project.store.arrays(saver.records()[0])
    assert np.array_equal(counts, layer.data[2] != before)
    bench.controller.set_partial(False)
    bench.written()
    _, _, counts = saver.project.store.arrays(saver.records()[0])
    assert counts is None


def test_the_suggested_slice_is_gone_to(bench):
    bench.segment()
    z = bench.state.strip.suggested
    assert z >= 0
    assert f"slice {z}:" in bench.state.next_words
    bench.controller.go_to_next()
    assert bench.state.strip.here == z
    assert not bench.state.go.enabled
    bench.controller.confirm()
    assert bench.state.strip.suggested != z


def test_an_earlier_session_is_offered_and_restored(bench, fakes, Bench):
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    bench.controller.show_slice(4)
    bench.controller.confirm()
    bench.written()
    corrected = layer.data.copy()
    bench.viewer.layers.remove(layer)
    bench.controller.close()

    again = Bench(fakes, bench.viewer)
    assert "2 corrected slices from today" in again.state.offer.text
    fresh = again.segment()
    assert "1 corrected slice from today" in again.state.offer.text, "the confirmed one is as the model wrote it"
    assert again.state.strip.marks[4] == "confirmed"
    again.controller.restore()
    assert np.array_equal(fresh.data, corrected)
    assert again.state.offer.text == ""
    assert again.state.strip.marks[2] == "edited"
    assert again.written() == {2: "edited", 4: "confirmed"}
    fresh.undo()
    assert not np.array_equal(fresh.data, corrected), "it was one step that can be undone"
    again.controller.close()


def test_an_earlier_session_is_restored_into_a_new_mask(bench, fakes, Bench):
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    bench.written()
    bench.viewer.layers.remove(layer)
    bench.controller.close()
    again = Bench(fakes, bench.viewer)
    again.controller.restore()
    made = again.viewer.layers["ct · mask"]
    assert np.array_equal(made.data[2], layer.data[2])
    assert again.state.strip.marks[2] == "edited"
    assert again.state.masks[0].label == "ct · mask"
    again.controller.close()


def test_an_earlier_session_that_is_left_out_goes_to_the_history(bench, fakes, Bench):
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    bench.written()
    bench.viewer.layers.remove(layer)
    bench.controller.close()
    again = Bench(fakes, bench.viewer)
    again.segment()
    again.controller.start_anew()
    assert again.state.offer.text == ""
    assert again.written() == {}
    assert list(projects_folder().glob("*/scans/*/history/*.npz"))
    again.controller.close()


def test_an_edit_over_an_earlier_one_that_is_undone_leaves_the_earlier_one(bench, fakes, Bench):
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    bench.written()
    earlier = layer.data[2].copy()
    bench.viewer.layers.remove(layer)
    bench.controller.close()
    again = Bench(fakes, bench.viewer)
    fresh = again.segment()
    again.paint(fresh, 2, 9, 9)
    assert again.written() == {2: "edited"}
    fresh.undo()
    again.soon.come()
    assert again.written() == {2: "edited"}
    store = again.controller.saver.project.store
    assert np.array_equal(store.arrays(store.records()[0])[1], earlier)
    again.controller.close()


def test_a_layer_deleted_in_the_middle_loses_nothing(bench):
    layer = bench.segment()
    bench.controller.show_slice(1)
    bench.controller.confirm()
    layer.paint((2, 3, 4), 2)  # its moment has not come yet
    bench.viewer.layers.remove(layer)
    bench.session.mask_id = None  # as the Segment dock does
    assert bench.state.strip.marks == ()
    assert "was closed" in bench.state.message.text
    assert bench.written() == {1: "confirmed", 2: "edited"}


def test_a_layer_resized_in_the_middle_is_said_and_loses_nothing(bench):
    layer = bench.segment()
    bench.controller.show_slice(1)
    bench.controller.confirm()
    layer.data = np.zeros((6, 20, 14), np.uint8)
    assert "has the shape (6, 20, 14) now" in bench.state.message.text
    assert "No open scan has the size" in bench.state.hint
    (folder,) = projects_folder().iterdir()
    with SampleStore.open(folder) as store:  # which the dock has let go of
        assert [(record.index, record.state) for record in store.records()] == [(1, "confirmed")]
    layer.data = np.zeros((6, 12, 14), np.uint8)
    bench.controller.choose_mask(layer_id(layer))
    bench.soon.come()
    assert len(bench.state.strip.marks) == 6


def test_two_viewers_of_this_program_share_a_project(bench, fakes, Bench):
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    other = Bench(fakes)
    mask = other.segment()
    assert "1 corrected slice" in other.state.offer.text
    other.paint(mask, 3, 3, 4)
    assert other.state.project.trouble == ""
    assert set(other.written()) == {2, 3}
    bench.controller.close()
    other.paint(mask, 4, 3, 4)
    assert set(other.written()) == {2, 3, 4}, "the first to leave does not close it for the other"
    other.controller.close()


def test_a_project_that_another_program_has_is_said_and_tried_again(bench, monkeypatch):
    layer = bench.segment()
    folder = bench.controller.saver.folder
    with SampleStore.open(folder, create=True):
        bench.paint(layer, 2, 3, 4)
        assert "Another viewer or run" in bench.state.project.trouble
        assert bench.state.project.saved == "not saved"
        assert bench.state.strip.marks[2] == "edited", "the review goes on"
    monkeypatch.setattr("napari_llm4seg.gui.controllers.saving._AGAIN_SECONDS", 0.0)
    bench.paint(layer, 3, 3, 4)
    assert bench.state.project.trouble == ""
    assert bench.written() == {2: "edited", 3: "edited"}


def test_a_folder_that_cannot_be_written_is_said(bench, monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setenv("LLM4SEG_PROJECTS", str(file / "folder"))
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    assert "cannot be written" in bench.state.project.trouble
    assert bench.state.strip.marks[2] == "edited"


def test_a_full_disk_is_said_and_nothing_is_lost(bench, monkeypatch):
    from napari_llm4seg.corrections import shelf

    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    assert bench.written() == {2: "edited"}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shelf, "write_record", full)
        bench.paint(layer, 3, 3, 4)
        project = bench.controller.saver.project
        assert not project.writer.flush(10)
        assert "No space left on device" in bench.state.project.trouble
        assert bench.state.project.saved == "not saved"
    # a try that began while the disk was full may still be under way, and is refused
    assert project.writer.flush(10) or project.writer.flush(10)
    assert bench.state.project.trouble == ""
    assert bench.written() == {2: "edited", 3: "edited"}


def test_a_scan_is_recognised_once_however_often_layers_come_and_go(bench, monkeypatch):
    from napari_llm4seg import digests

    asked = []
    monkeypatch.setattr(digests, "scan_digest", lambda volume: asked.append(volume) or "0" * 64)
    for _ in range(3):
        bench.viewer.add_image(np.zeros((4, 5)))
    assert not asked
    bench.segment()
    assert not asked


def test_colour_and_single_images_are_corrected_too(fakes, Bench):
    viewer = ViewerModel()
    viewer.add_image(np.random.default_rng(0).integers(0, 255, (12, 14, 3), np.uint8), name="ct", rgb=True)
    bench = Bench(fakes, viewer)
    mask = viewer.add_labels(np.zeros((12, 14), np.uint8), name="mine")
    bench.session.mask_id = layer_id(mask)
    assert bench.state.strip.marks == ("untouched",)
    assert bench.state.counts == "not corrected"
    bench.paint(mask, 3, 4, label=1)
    assert bench.state.counts == "edited"
    assert bench.written() == {0: "edited"}
    saver = bench.controller.saver
    image, _, _ = saver.project.store.arrays(saver.records()[0])
    assert np.array_equal(image, bench.scan.data.transpose(2, 0, 1))
    bench.controller.close()


def test_slices_along_another_axis_are_reviewed_along_it(bench, CLASSES, fakes):
    result = fakes.begun(bench.viewer, bench.scan, ResultSpec("side", "b" * 64, CLASSES, axis=2))
    for z in range(14):
        result.write(SlicePart(z, np.ones((6, 12), np.uint8)))
    result.finish({})
    bench.session.mask_id = result.id
    assert len(bench.state.strip.marks) == 14
    assert bench.state.strip.here == -1, "the screen shows slices along z"
    assert not bench.state.confirm.enabled
    bench.controller.show_slice(5)
    assert bench.state.strip.here == 5
    bench.controller.confirm()
    assert bench.written() == {5: "confirmed"}
    image, _, _ = bench.controller.saver.project.store.arrays(bench.controller.saver.records()[0])
    assert np.array_equal(image[0], bench.scan.data[:, :, 5])


def test_a_mask_from_a_file_is_untouched_until_somebody_edits_it(bench):
    data = np.zeros((6, 12, 14), np.uint8)
    data[1:4, 3:8, 4:9] = 1
    mask = bench.viewer.add_labels(data, name="from a file")
    bench.session.mask_id = layer_id(mask)
    assert bench.state.strip.marks == ("untouched",) * 6
    bench.paint(mask, 2, 3, 4)
    assert bench.state.strip.marks[2] == "edited"


def test_a_project_for_many_scans_goes_out_and_in(bench, fakes, tmp_path):
    layer = bench.segment()
    bench.paint(layer, 2, 3, 4)
    bench.controller.new_project(tmp_path / "study")
    assert bench.written() == {2: "edited"}, "what was corrected goes along"
    assert bench.state.project.line == "study"
    bench.controller.export_project(tmp_path / "out")
    assert (tmp_path / "out.zip").is_file()
    assert "out.zip" in bench.state.message.text
    bench.controller.new_project(tmp_path / "other")
    layer.undo()
    bench.soon.come()
    assert bench.written() == {}
    bench.controller.import_project(tmp_path / "out.zip")
    assert "1 corrected slice brought in" in bench.state.message.text
    assert "1 corrected slice from today" in bench.state.offer.text
    bench.controller.own_project()
    assert bench.state.project.kind == "own"
    assert bench.state.project.line == "this scan's own"
    bench.controller.shared_project()
    assert bench.state.project.kind == "shared"
    assert bench.state.project.line == "this scan's own", "a volume shares with nobody"


def test_keys_shadow_nothing_of_naparis(bench):
    from app_model.types import KeyBinding
    from napari import layers as kinds
    from napari.utils.key_bindings import coerce_keybinding
    from napari.utils.shortcuts import default_shortcuts

    known = {str(KeyBinding.validate(key)) for keys in default_shortcuts.values() for key in keys}
    for owner in (ViewerModel, *(getattr(kinds, name) for name in ("Labels", "Image", "Points", "Shapes", "Vectors"))):
        known |= {str(key) for key in owner.class_keymap if key is not Ellipsis}
    ours = [key for key, _ in bench.state.keys]
    assert ours == ["K", "N", "H", "Shift+R"]
    assert not known & {str(coerce_keybinding(key)) for key in ours}
    bound = {str(key) for key in bench.viewer.keymap}
    assert {"K", "N", "H"} <= bound
    layer = bench.segment()
    bench.viewer.keymap[coerce_keybinding("H")](bench.viewer)
    assert not layer.visible
    bench.controller.close()
    assert not {"K", "N", "H"} & {str(key) for key in bench.viewer.keymap}
