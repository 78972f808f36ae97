from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.gui.watch import LayerWatch


class Heard:
    """A watch of two images; what was there, and selected, whenever it was heard."""

    def __init__(self):
        self.viewer = ViewerModel()
        for name in "ab":
            self.viewer.add_image(np.zeros((4, 4)), name=name)
        self.told, self.joined = [], []
        self.watch = LayerWatch(self.viewer, lambda layer, there: self.joined.append((layer.name, there)))
        self.watch.connect(self.tell)

    def tell(self):
        selected = self.viewer.layers.selection.active
        self.told.append(("".join(layer.name for layer in self.viewer.layers), selected.name if selected else ""))


@pytest.fixture
def heard():
    return Heard()


def test_every_change_is_told_as_it_is_and_once(heard):
    layers = heard.viewer.layers
    heard.viewer.add_image(np.zeros((4, 4)), name="c")
    assert heard.told[0] == ("abc", "b")
    assert heard.told[-1] == ("abc", "c")
    heard.told.clear()
    layers["c"].name = "d"
    layers.move(0, 3)
    assert heard.told == [("abd", "d"), ("bda", "d")]
    heard.told.clear()
    layers.selection.active = layers["a"]
    assert heard.told == [("bda", ""), ("bda", "a")]
    heard.told.clear()
    layers.remove("d")
    assert heard.told == [("ba", "a")]


def test_nothing_is_told_where_nothing_changed(heard):
    heard.viewer.layers["a"].events.name()
    heard.viewer.layers.selection.events.active(value=heard.viewer.layers["b"])
    assert heard.told == []


def test_layers_are_followed_from_the_start_until_they_go(heard):
    assert heard.joined == [("a", True), ("b", True)]
    heard.viewer.layers.remove("a")
    assert heard.joined[-1] == ("a", False)
    heard.viewer.add_image(np.zeros((4, 4)), name="c")
    assert heard.joined[-1] == ("c", True)


def test_nothing_is_told_after_the_end(heard):
    heard.watch.disconnect()
    heard.viewer.layers.remove("a")
    heard.viewer.layers["b"].name = "c"
    assert heard.told == []
    assert heard.joined[-2:] == [("a", False), ("b", False)]
