"""Single images of one folder, corrected one after another: real layers and files, no window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.corrections import SampleStore
from napari_llm4seg.corrections.suggest import Evidence
from napari_llm4seg.gui.controllers.ports import ResultSpec, SlicePart
from napari_llm4seg.gui.controllers.projects import projects_folder
from napari_llm4seg.gui.layer_tuples import layers_of
from napari_llm4seg.gui.layers import classes_of, layer_id, own_metadata, set_classes
from napari_llm4seg.gui.state.session import ModelEntry
from napari_llm4seg.io import read, write
from napari_llm4seg.volume import Volume

NAMES = ("a (2).png", "a (10).png", "b.png", "c.png")


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "busi" / "images"
    found.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        data = np.random.default_rng(seed).integers(0, 255, (1, 1, 12 + seed, 14), np.uint8)
        write(found / name, Volume(data))
    return found


@pytest.fixture
def bench(fakes, correct_bench, folder):
    made = opened(fakes, correct_bench, folder)
    yield made
    made.controller.close()


def opened(fakes, correct_bench, folder, name="a (10).png"):
    """Return a bench whose first image was opened from its file; what the Segment dock does is done by hand."""
    from napari.layers import Layer

    class Images(correct_bench.Bench):
        def __init__(self):
            viewer = ViewerModel()
            (item,) = layers_of([read(folder / name)])
            viewer.add_layer(Layer.create(*item))
            viewer.layers[-1].name = "ct"
            super().__init__(fakes, viewer)
            self.asked = []
            self.session.segment_wanted.connect(lambda: self.asked.append(self.session.scan_id))

        def segment(self, unsure=0.5):
            scan = next(each for each in self.viewer.layers if layer_id(each) == self.session.scan_id)
            result = fakes.begun(self.viewer, scan, ResultSpec("lesion-v1", "a" * 64, ((1, "lesion", "#E69F00"),)))
            labels = np.zeros(scan.data.shape[:2], np.uint8)
            labels[3:8, 4:9] = 1
            result.write(SlicePart(0, labels, None, Evidence(unsure, 0.2, (0.15,))))
            result.finish({})
            self.session.result_id = self.session.mask_id = result.id
            made = next(layer for layer in self.viewer.layers if layer_id(layer) == result.id)
            return made

        def shown(self):
            return [layer.name for layer in self.viewer.layers if layer.visible]

    return Images()


def test_the_strip_shows_the_images_of_the_folder(bench, folder):
    state = bench.state
    assert state.strip.title == "Images"
    assert state.strip.names == ("a (2)", "a (10)", "b", "c"), "by number, the mask's own name aside"
    assert state.strip.marks == ("untouched",) * 4
    assert state.strip.here == 1
    assert state.project.line == "images of busi/images"
    assert str(folder) in state.project.tooltip
    assert not state.drawn
    assert "no mask" in state.confirm.tooltip
    layer = bench.segment()
    assert bench.state.counts == "0 edited · 0 confirmed of 4"
    layer.brush_size = 1
    bench.paint(layer, 3, 4, label=1)
    assert bench.state.strip.marks == ("untouched",) * 4, "that pixel was the lesion's already"
    bench.paint(layer, 0, 0, label=1)
    assert bench.state.strip.marks[1] == "edited"
    bench.controller.confirm()
    assert bench.state.counts == "0 edited · 1 confirmed of 4"
    assert bench.state.confirm.text == "Unconfirm"
    assert bench.state.confirm.tooltip.startswith("This image")


def test_corrections_of_one_folder_come_together_in_one_project(bench):
    first = bench.segment()
    bench.paint(first, 0, 0, label=1)
    project = bench.controller.project
    assert bench.controller.count() == 1
    bench.controller.go_to_next()
    assert bench.controller.project is project, "it stays open, and so does what hangs on it"
    assert bench.state.strip.here == 2
    assert bench.asked == [bench.session.scan_id], "the next image is segmented"
    bench.segment()
    bench.controller.confirm()
    assert bench.controller.count() == 2
    assert bench.controller.scans() is None, "all of the project's images train"
    assert bench.written() == {0: "confirmed"}
    assert bench.state.strip.marks == ("untouched", "edited", "confirmed", "untouched")
    (folder,) = projects_folder().iterdir()
    with SampleStore.open(folder, read_only=True) as store:
        assert store.name == "images of busi/images"
        assert [(scan.name, len(store.records(scan))) for scan in store.scans()] == [("b", 1), ("ct", 1)]


def test_next_goes_round_and_skips_what_was_corrected(bench):
    bench.segment()
    bench.controller.confirm()
    seen = []
    for _ in range(3):
        bench.controller.go_to_next()
        seen.append(bench.state.strip.here)
        bench.segment()
        if bench.state.strip.here == 0:
            assert bench.state.next_words == "no other image is left"
        bench.controller.confirm()
    assert seen == [2, 3, 0]
    assert bench.state.next_words == "every image is edited or confirmed"
    assert not bench.state.go.enabled


def test_an_image_known_to_be_unsure_comes_before_those_not_looked_at(bench):
    bench.segment(unsure=0.2)
    bench.controller.show_slice(3)
    bench.segment(unsure=0.9)
    bench.controller.show_slice(0)
    bench.segment(unsure=0.1)
    assert bench.state.strip.suggested == 3
    assert bench.state.next_words == "c: unsure edge (90%)"
    assert bench.state.go.tooltip == "Open c and segment it (N)"
    bench.controller.go_to_next()
    bench.controller.confirm()
    assert bench.state.strip.suggested != 3


def test_going_back_shows_the_open_layers_again(bench):
    first = bench.segment()
    first.mode, first.brush_size = "paint", 3
    bench.viewer.layers.selection.active = first
    bench.paint(first, 0, 0, label=1)
    bench.controller.show_slice(2)
    assert bench.shown() == ["b"]
    middle = bench.viewer.camera.center[-2:]
    assert middle == ((14 - 1) / 2, (14 - 1) / 2), "the view fits this image, 14 by 14 pixels, not those hidden"
    second = bench.segment()
    assert (second.mode, second.brush_size) == ("paint", 3), "the tool goes along"
    assert bench.viewer.layers.selection == {second}
    layers = len(bench.viewer.layers)
    bench.controller.show_slice(1)
    assert len(bench.viewer.layers) == layers
    assert bench.session.mask_id == layer_id(first)
    assert bench.shown() == ["ct", "ct · seg · lesion-v1"]
    assert bench.state.strip.here == 1
    assert len(bench.asked) == 1
    bench.paint(first, 0, 1, label=1)
    assert bench.written() == {0: "edited"}


def test_an_image_that_was_closed_comes_back_with_its_mask(bench):
    first = bench.segment()
    bench.paint(first, 0, 0, label=1)
    bench.written()
    corrected = first.data.copy()
    bench.controller.show_slice(2)
    for layer in list(bench.viewer.layers)[:2]:
        bench.viewer.layers.remove(layer)
    bench.controller.show_slice(1)
    assert bench.state.offer.text == "", "who goes there by the strip need not be asked"
    mask = next(layer for layer in bench.viewer.layers if own_metadata(layer).get("scan") == bench.session.scan_id)
    assert np.array_equal(mask.data, corrected)
    assert bench.state.strip.marks[1] == "edited"
    assert len(bench.asked) == 1, "a mask was there, so nothing is segmented"


def test_a_mask_chosen_by_hand_brings_its_image(bench):
    first = bench.segment()
    bench.controller.show_slice(2)
    assert bench.state.hint.startswith("This scan has no mask yet")
    assert not bench.state.drawn
    bench.session.mask_id = None
    bench.session.mask_id = layer_id(first)
    assert bench.state.strip.here == 1
    bench.controller.show_slice(2)
    bench.paint(first, 0, 0, label=1)  # the layer is selected in napari's own list
    assert bench.state.strip.here == 1
    assert bench.written() == {0: "edited"}, "no edit is lost"


def test_an_image_waits_for_the_run_before_it(bench):
    bench.segment()
    bench.session.busy = "'a' is being segmented."
    bench.controller.show_slice(2)
    assert bench.asked == []
    bench.session.busy = ""
    assert bench.asked == [bench.session.scan_id]
    bench.session.busy = "again"
    bench.session.busy = ""
    assert len(bench.asked) == 1


def test_a_file_that_is_gone_is_said(bench, folder):
    (folder / "b.png").unlink()
    bench.segment()
    bench.controller.show_slice(2)
    assert "b.png" in bench.state.message.text
    assert bench.state.strip.here == 1


def test_a_chosen_project_shows_its_images_of_other_folders_too(bench, fakes, correct_bench, folder, tmp_path):
    bench.segment()
    bench.controller.confirm()
    bench.controller.new_project(tmp_path / "study")
    assert bench.written() == {0: "confirmed"}
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    write(elsewhere / "z.png", Volume(np.full((1, 1, 12, 14), 9, np.uint8)))
    other = opened(fakes, correct_bench, elsewhere, "z.png")
    assert other.state.project.line == "study"
    assert other.state.strip.names == ("z", "a (10)")
    assert other.state.strip.marks == ("untouched", "confirmed")
    assert other.controller.count() == 1
    other.controller.close()


def test_one_for_each_scan_has_no_row_of_others_corrections(bench):
    bench.segment()
    bench.controller.confirm()
    bench.controller.own_project()
    assert bench.state.project.line == "this scan's own"
    assert bench.state.strip.title == "Images", "the folder's other images are one click away all the same"
    assert bench.controller.count() == 1


def test_masks_drawn_by_hand_go_on_empty_with_their_classes(bench, folder):
    for seed, path in enumerate(folder.iterdir()):  # all of one size, as many folders hold them
        write(path, Volume(np.random.default_rng(9 + seed).integers(0, 255, (1, 1, 13, 14), np.uint8)))
    mine = bench.viewer.add_labels(np.zeros((13, 14), np.uint8), name="mine")
    set_classes(mine, ((1, "cyst", "#E69F00"),))
    bench.session.mask_id = layer_id(mine)
    bench.paint(mine, 3, 4, label=1)
    assert bench.state.strip.marks[1] == "edited"
    bench.controller.go_to_next()
    assert bench.asked == [], "whatever model is chosen, none drew the one before"
    made = bench.viewer.layers["b · mask"]
    assert classes_of(made) == ((1, "cyst", "#E69F00"),)
    assert not made.data.any()
    assert bench.session.mask_id == layer_id(made)
    assert bench.state.strip.here == 2
    bench.paint(made, 3, 4, label=1)
    assert bench.state.counts.startswith("2 edited")
    bench.session.model, bench.session.predictor = ModelEntry("/v1", "cyst v1", Path("/v1")), object()
    bench.controller.go_to_next()
    assert bench.asked == [bench.session.scan_id], "a model of one's own segments the rest"


def test_masks_drawn_by_hand_need_no_names_to_go_on(bench):
    mine = bench.viewer.add_labels(np.zeros((13, 14), np.uint8), name="mine")
    bench.session.mask_id = layer_id(mine)
    bench.paint(mine, 3, 4, label=1)
    bench.controller.go_to_next()
    assert bench.asked == []
    assert classes_of(bench.viewer.layers["b · mask"]) == ()


def test_what_is_saved_counts_all_images_of_the_project(bench):
    bench.segment()
    bench.controller.confirm()
    bench.written()
    bench.controller._render()
    assert bench.state.project.saved == "1 saved"
    bench.controller.go_to_next()
    assert bench.state.project.saved == "1 saved", "of all images of the project"
    bench.segment()
    bench.controller.confirm()
    bench.written()
    bench.controller._render()
    assert bench.state.project.saved == "2 saved"


def test_the_next_image_is_segmented_with_the_model_of_the_one_before(bench):
    ours, other = (ModelEntry(name, name, Path(name), starter=True) for name in ("skin-lesion", "polyp"))
    bench.session.model, bench.session.predictor = ours, "the loaded one"
    wanted = []

    show_alone = bench.port.show_alone

    def looks_like_another(scan_id):  # the image is there, and the Segment dock proposes a model by its look
        show_alone(scan_id)
        bench.session.model, bench.session.predictor = other, None

    bench.port.show_alone = looks_like_another
    bench.session.model_wanted.connect(lambda entry, predictor: wanted.append((entry, predictor, list(bench.asked))))
    bench.segment()
    bench.controller.go_to_next()
    assert wanted == [(ours, "the loaded one", [])], "chosen before it is run"
    assert len(bench.asked) == 1


def test_what_is_on_its_way_to_the_disk_counts_when_the_next_image_is_looked_up(tmp_path):
    from napari_llm4seg.gui.controllers.finding import Opened, with_handed
    from napari_llm4seg.gui.controllers.homes import Home

    a, b, c = (tmp_path / f"{name}.png" for name in "abc")
    opened = Opened("digest", Home(tmp_path, "scans"), marks={a: "edited", b: "edited"}, others=2)
    marks, others = with_handed(opened, {a: None, b: "confirmed", c: "confirmed"}, image=None)
    assert (marks, others) == ({b: "confirmed", c: "confirmed"}, 2)
    assert with_handed(opened, {c: "confirmed"}, image=c) == ({a: "edited", b: "edited", c: "confirmed"}, 2)
    assert with_handed(opened, {c: "confirmed"}, image=b)[1] == 3


def test_an_image_that_is_left_before_its_project_is_there_is_not_suggested_again(folder):
    from types import SimpleNamespace

    from napari_llm4seg.gui.controllers.finding import Put
    from napari_llm4seg.gui.controllers.saving import Saver

    jobs, late = [], []
    runner = SimpleNamespace(current=None, start=lambda job, on_result, on_error: jobs.append((job, on_result)))
    saver = Saver(runner, lambda call: call(), lambda: None, lambda held: None, aside=late.append)
    first, second = (read(folder / name) for name in ("b.png", "c.png"))

    def answer():
        job, on_result = jobs.pop()
        on_result(job(SimpleNamespace(cancelled=lambda: False)))

    saver.follow(first)
    answer()  # there is no project yet
    saver.put(0, Put(lambda: first.slice_at(0), np.zeros(first.grid[1:], np.uint8), "confirmed"))
    assert jobs, "one is being made"
    saver.follow(second)
    assert late, "what waited is written aside"
    answer()
    assert saver.marks == {folder / "b.png": "confirmed"}
    assert saver.others == 1
    saver.close()
