"""The Measure section on a ``ViewerModel``."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.gui.controllers.masks import MaskController
from napari_llm4seg.gui.controllers.measure import MeasureController
from napari_llm4seg.gui.layers import KEY, classes_of, layer_id
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.jobs import InlineRunner

CLASSES = ((1, "liver", "#E69F00"), (2, "cyst", "#56B4E9"))
PLACE = {"scale": (3, 0.5, 0.7), "units": "mm"}


class Bench:
    def __init__(self, fakes):
        self.viewer, self.session, self.view = ViewerModel(), Session(), fakes.RecordingView()
        self.copied = []
        self.view.put_on_clipboard = self.copied.append
        self.masks = MaskController(self.session, NapariMasks(self.viewer), fakes.RecordingView())
        port = NapariMasks(self.viewer)
        self.controller = MeasureController(self.session, port, self.view, InlineRunner(), self.known)
        self.masks.start()
        self.controller.start()

    def labels(self, data=None, name="mask", classes=CLASSES, **how):
        return self.viewer.add_labels(
            box() if data is None else data, name=name, metadata={KEY: {"classes": classes}}, **(PLACE | how)
        )

    def known(self):
        wanted = self.session.mask_id
        return next((classes_of(layer) for layer in self.viewer.layers if layer_id(layer) == wanted), ())

    @property
    def state(self):
        return self.view.state


@pytest.fixture
def bench(fakes):
    return Bench(fakes)


def box(shift=0):
    data = np.zeros((6, 30, 40), np.uint8)
    data[1:4, 5 + shift : 15 + shift, 10:30] = 1
    return data


def test_measured_on_demand(bench):
    assert not bench.state.shown
    bench.labels()
    assert bench.state.shown
    assert bench.state.measures is None
    assert bench.state.copy.tooltip == "Measure first."
    bench.controller.measure()
    table = bench.state.measures
    assert table.heading == ("Class", "mL", "n", "Mean ± sd", "Ø mm")
    assert table.rows == (("liver", "0.63", "1", "–", "16.7"),)
    assert table.colours == ("#E69F00",)
    assert "Not in the mask: cyst." in bench.state.note
    assert bench.state.summary == "liver 0.63 mL"
    assert "No scan" in bench.state.note
    assert bench.state.progress is None


def test_intensities_come_from_the_masks_scan_or_one_of_the_same_grid(bench):
    scan = bench.viewer.add_image(np.full((6, 30, 40), 40.0), name="ct", **PLACE)
    other = bench.viewer.add_image(np.full((6, 30, 40), 70.0), name="other", **PLACE)
    bench.session.scan_id = layer_id(other)
    layer = bench.labels()
    bench.controller.measure()
    assert bench.state.measures.rows[0][3] == "70 ± 0"
    layer.metadata[KEY]["scan"] = layer_id(scan)
    bench.controller.measure()
    assert bench.state.measures.rows[0][3] == "40 ± 0"
    bench.viewer.layers.remove(scan)
    bench.session.scan_id = layer_id(bench.viewer.add_image(np.zeros((6, 30, 39)), **PLACE))
    bench.controller.measure()
    assert bench.state.measures.rows[0][3] == "–"


def test_of_several_time_points_the_one_on_the_screen(bench):
    place = {"scale": (1, 3, 0.5, 0.7), "units": ("pixel", "mm", "mm", "mm"), "axis_labels": tuple("tzyx")}
    grey = np.stack([np.full((6, 30, 40), value, np.uint8) for value in (40, 70)])
    bench.session.scan_id = layer_id(bench.viewer.add_image(grey, name="ct", **place))
    data = np.stack([box(), box()])
    data[1, 5, 0, 0] = 1
    bench.labels(data, **place)
    bench.controller.measure()
    assert bench.state.measures.rows[0][:4] == ("liver", "0.63", "1", "40 ± 0")
    assert bench.state.note.startswith("Of time point 1 of 2.")
    bench.viewer.dims.set_point(0, 1)
    bench.controller.measure()
    assert bench.state.measures.rows[0][2:4] == ("2", "70 ± 0")
    assert bench.state.note.startswith("Of time point 2 of 2.")


def test_an_edit_makes_it_out_of_date(bench):
    layer = bench.labels()
    bench.controller.measure()
    assert not bench.state.out_of_date
    layer.paint((2, 20, 20), 2)
    assert bench.state.out_of_date
    assert "edited since" in bench.state.note
    assert bench.state.summary.endswith(", edited since")
    bench.controller.measure()
    assert not bench.state.out_of_date
    assert bench.state.measures.rows[1][2] == "1"


def test_every_mask_keeps_its_own(bench):
    bench.labels()
    bench.controller.measure()
    second = bench.labels(box(3), name="second")
    assert bench.state.measures is None
    bench.controller.measure()
    bench.masks.choose_mask(layer_id(bench.viewer.layers["mask"]))
    assert bench.state.summary == "liver 0.63 mL"
    second.paint((2, 20, 20), 2)
    assert not bench.state.out_of_date, "the other one was edited"


def test_a_result_is_measured_without_being_asked(bench):
    layer, other = bench.labels(), bench.labels(box(3), name="other")
    bench.session.busy = "'ct' is being segmented."
    bench.session.busy = ""
    assert bench.state.measures is None, "the chosen mask is no result"
    bench.session.result_id = layer_id(layer)
    bench.session.busy = "'ct' is being segmented."
    bench.session.busy = ""
    assert bench.state.summary == "liver 0.63 mL"
    # the next run writes into the same layer, slice by slice and without an event
    layer.data[5] = 1
    bench.session.busy = "'ct' is being segmented."
    bench.session.busy = ""
    assert bench.state.summary != "liver 0.63 mL"
    assert other in bench.viewer.layers


def test_classes_named_anew_are_named_anew_here(bench):
    layer = bench.labels()
    bench.controller.measure()
    layer.metadata[KEY]["classes"] = ((1, "lobe", "#000000"), CLASSES[1])
    bench.session.classes_changed.emit(layer_id(layer))
    assert bench.state.measures.rows[0][0] == "lobe"
    assert bench.state.measures.colours[0] == "#000000"


@pytest.mark.slow
def test_against_another_mask(bench, tmp_path):
    other = bench.labels(box(2), name="other")
    layer = bench.labels()
    bench.controller.choose_other(layer_id(other))
    assert [choice.label for choice in bench.state.others] == ["no other mask", "other"]
    table = bench.state.agreement
    assert table.heading == ("Class", "Dice", "IoU", "HD95 mm", "NSD")
    assert table.rows == (("liver", "0.800", "0.667", "1.00", "1.000"),)
    bench.controller.set_tolerance(0.5)
    assert "within 0.5 mm" in bench.state.agreement.tooltips[-1]
    assert float(bench.state.agreement.rows[0][-1]) < 1
    assert "Compared with 'other'" in bench.state.note
    bench.controller.save_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert (row["name"], row["dice"], row["hd95_mm"], row["tolerance_mm"]) == ("liver", "0.8", "1.0", "0.5")
    other.paint((0, 0, 0), 2)
    assert bench.state.out_of_date
    bench.controller.choose_other("")
    assert bench.state.agreement is None
    bench.viewer.layers.remove(other)
    assert bench.state.others == ()
    assert layer in bench.viewer.layers


def test_copied_and_saved(bench, tmp_path):
    bench.labels()
    bench.controller.copy()
    assert bench.copied == []
    bench.controller.measure()
    bench.controller.copy()
    (text,) = bench.copied
    assert text.splitlines()[1].split("\t")[:4] == ["1", "liver", "600", "0.63"]
    bench.controller.save_csv(tmp_path)
    assert bench.state.message.kind == "error"
    bench.controller.save_csv(tmp_path / "m.csv")
    assert bench.state.message.text == "Saved m.csv."
    assert (tmp_path / "m.csv").read_text().startswith("value,name,pixels,volume_ml")


def test_masks_that_cannot_be_compared_are_said(bench):
    other = bench.labels(box(), name="other", translate=(0, 500, 0))
    bench.labels()
    bench.controller.choose_other(layer_id(other))
    assert "elsewhere in space" in bench.state.message.text
    assert bench.state.progress is None
    assert bench.state.measure.enabled


def test_a_mask_without_labels_says_so(bench):
    bench.labels(np.zeros((6, 30, 40), np.uint8), classes=())
    bench.controller.measure()
    assert "no label" in bench.state.note
    assert bench.state.measures is None
    assert bench.state.summary == "nothing"
