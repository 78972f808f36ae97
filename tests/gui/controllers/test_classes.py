"""The legend of the chosen mask, on a ``ViewerModel``."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.gui.class_port import NapariClasses
from napari_llm4seg.gui.controllers.classes import ClassController
from napari_llm4seg.gui.controllers.masks import MaskController
from napari_llm4seg.gui.layers import KEY, class_style, layer_id
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.jobs import InlineRunner

CLASSES = ((1, "liver", "#E69F00"), (3, "spleen", "#56B4E9"))


class Bench:
    def __init__(self, fakes):
        self.viewer, self.session, self.view = ViewerModel(), Session(), fakes.RecordingView()
        self.masks = MaskController(self.session, NapariMasks(self.viewer), fakes.RecordingView())
        self.controller = ClassController(
            self.session, NapariMasks(self.viewer), NapariClasses(self.viewer), self.view, InlineRunner()
        )
        self.masks.start()
        self.controller.start()

    def labels(self, classes=CLASSES, metadata=None):
        data = np.zeros((4, 5, 6), np.uint8)
        data[1, 1, 1], data[2, 2, 2], data[3, 3, 3] = 1, 3, 7
        style = class_style(classes) if classes else {}
        return self.viewer.add_labels(data, name="mask", metadata=metadata or {KEY: {"classes": classes}}, **style)

    @property
    def rows(self):
        return [(row.value, row.name, row.colour) for row in self.view.state.classes]


@pytest.fixture
def bench(fakes):
    return Bench(fakes)


def test_nothing_is_shown_without_a_mask(bench):
    assert not bench.view.state.shown
    layer = bench.labels()
    assert bench.view.state.shown
    bench.viewer.layers.remove(layer)
    assert not bench.view.state.shown


def test_named_classes_and_what_else_occurs_are_listed(bench):
    bench.labels()
    assert bench.rows[:2] == list(CLASSES)
    assert bench.rows[2][:2] == (7, "label 7")


def test_classes_of_a_file_are_shown_and_kept_in_step(bench):
    layer = bench.labels((), {"classes": CLASSES})
    assert bench.rows[:2] == list(CLASSES)
    bench.controller.rename_class(3, "left kidney")
    assert layer.metadata["classes"][1] == (3, "left kidney", "#56B4E9")
    assert bench.rows[1][1] == "left kidney"


def test_a_mask_without_names_shows_the_colours_it_is_drawn_in(bench):
    layer = bench.labels(classes=())
    assert [row[:2] for row in bench.rows] == [(1, "label 1"), (3, "label 3"), (7, "label 7")]
    drawn = "#{:02X}{:02X}{:02X}".format(*(round(255 * float(part)) for part in layer.get_color(3)[:3]))
    assert bench.rows[1][2] == drawn
    bench.controller.rename_class(1, "liver")
    assert bench.rows[1] == (3, "label 3", drawn), "naming one class changes no other's colour"


def test_of_thousands_of_labels_the_first_are_listed(bench):
    cells = np.arange(3000, dtype=np.uint16).reshape(50, 60)
    layer = bench.viewer.add_labels(cells)
    layer.selected_label = 2500
    assert [row[0] for row in bench.rows] == [*range(1, 201), 2500]


def test_a_click_paints_with_that_class(bench):
    layer = bench.labels()
    other = bench.viewer.add_image(np.zeros((4, 5, 6)))
    assert bench.viewer.layers.selection.active is other
    bench.controller.select_class(3)
    assert layer.selected_label == 3
    assert bench.viewer.layers.selection.active is layer
    assert bench.view.state.selected == 3
    heard = []
    bench.session.painted_changed.connect(lambda: heard.append(1))
    layer.selected_label = 1
    assert bench.view.state.selected == 1
    assert heard


def test_a_label_that_is_painted_is_in_the_list_at_once(bench):
    layer = bench.labels()
    layer.selected_label = 9
    assert (9, "label 9") in [row[:2] for row in bench.rows]
    layer.paint((0, 0, 0), 9)
    layer.selected_label = 1
    assert (9, "label 9") in [row[:2] for row in bench.rows]
    layer.selected_label = 11  # chosen, not painted
    layer.selected_label = 1
    assert 11 not in [row[0] for row in bench.rows]


def test_renaming_and_recolouring_reach_the_layer(bench):
    layer = bench.labels()
    heard = []
    bench.session.classes_changed.connect(heard.append)
    bench.controller.rename_class(1, "left lobe")
    bench.controller.recolour_class(1, "#0072B2")
    assert heard == [layer_id(layer)] * 2
    assert layer.metadata[KEY]["classes"][0] == (1, "left lobe", "#0072B2")
    assert list(layer.features["class"])[:2] == ["background", "left lobe"]
    np.testing.assert_allclose(layer.get_color(1)[:3], np.array([0, 0x72, 0xB2]) / 255, atol=1e-6)
    assert layer._get_properties((1, 1, 1)) == ["class: left lobe"]


def test_what_is_refused_is_said_and_changes_nothing(bench):
    bench.labels()
    bench.controller.rename_class(1, "Spleen")
    assert "already" in bench.view.state.message.text
    assert bench.rows[:2] == list(CLASSES)
    bench.controller.dismiss_message()
    assert bench.view.state.message is None


def test_a_new_class_is_painted_with(bench):
    layer = bench.labels()
    bench.controller.add_class()
    assert layer.selected_label == 2
    assert bench.view.state.selected == 2
    assert (2, "class 2") in [row[:2] for row in bench.rows]
    assert len({row[2] for row in bench.rows}) == len(bench.rows)


def test_after_closing_nothing_is_drawn(bench):
    layer = bench.labels()
    bench.controller.close()
    shown = len(bench.view.states)
    layer.selected_label = 3
    bench.viewer.layers.remove(layer)
    assert len(bench.view.states) == shown
