"""Which labels layer is meant, on a ``ViewerModel``."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.controllers.masks import MaskController
from napari_llm4seg.gui.layers import layer_id
from napari_llm4seg.gui.mask_port import NapariMasks
from napari_llm4seg.gui.state.session import Session


@pytest.fixture
def bench(fakes):
    viewer, session, view = ViewerModel(), Session(), fakes.RecordingView()
    controller = MaskController(session, NapariMasks(viewer), view)
    controller.start()
    return viewer, session, view, controller


def labels(viewer, name, shape=(4, 5, 6), **how):
    return viewer.add_labels(np.zeros(shape, np.uint8), name=name, **how)


def test_the_mask_selected_last_is_meant(bench):
    viewer, session, view, controller = bench
    assert view.state.masks == ()
    first, second = labels(viewer, "one"), labels(viewer, "two")
    assert session.mask_id == layer_id(second)
    viewer.layers.selection.active = first
    assert session.mask_id == layer_id(first)
    scan = viewer.add_image(np.zeros((4, 5, 6)))
    viewer.layers.selection.active = scan
    assert session.mask_id == layer_id(first), "an image that is looked at changes nothing"
    viewer.layers.remove(first)
    assert session.mask_id == layer_id(second)
    controller.choose_mask(layer_id(second))
    assert view.state.mask == layer_id(second)
    viewer.layers.remove(second)
    assert session.mask_id is None
    assert view.state.masks == ()


def test_a_new_result_is_meant_from_then_on(bench):
    viewer, session, view, _ = bench
    scan = viewer.add_image(np.zeros((4, 5, 6)))
    result, other = labels(viewer, "result"), labels(viewer, "other")
    result.metadata["napari_llm4seg"] = {"scan": layer_id(scan), "classes": ((3, "liver", "#112233"),)}
    session.result_id = layer_id(result)
    assert session.mask_id == layer_id(result)
    assert [choice.label for choice in view.state.masks] == ["result", "other"]
    port = NapariMasks(viewer)
    info = port.masks()[0]
    assert info.scan_id == layer_id(scan)
    assert info.classes == ((3, "liver", "#112233"),)
    assert port.volume(info.id).metadata["classes"] == info.classes
    viewer.layers.remove(scan)
    assert port.masks()[0].scan_id is None
    assert other in viewer.layers


def test_edits_are_passed_on_whoever_makes_them(bench):
    viewer, session, _, controller = bench
    layer = labels(viewer, "mask")
    heard = []
    session.mask_edited.connect(heard.append)
    layer.paint((1, 2, 3), 1)
    assert heard
    assert set(heard) == {layer_id(layer)}
    heard.clear()
    layer.data = np.ones((4, 5, 6), np.uint8)
    assert heard
    layer.paint((1, 2, 3), 2)
    for step in (layer.undo, layer.redo):
        heard.clear()
        step()
        assert heard
    heard.clear()
    layer.refresh()
    viewer.dims.set_point(0, 2)
    assert not heard, "drawing another slice is no edit"
    controller.close()
    heard.clear()
    layer.paint((1, 2, 4), 1)
    assert not heard


def test_labels_are_replaced_in_one_step_that_can_be_undone(bench):
    viewer, _, _, _ = bench
    layer = labels(viewer, "mask")
    layer.data[1, 1, 1] = 2
    wanted = layer.data.copy()
    wanted[2:, 3] = 1
    port = NapariMasks(viewer)
    before = layer.data.copy()
    assert port.replace_labels(layer_id(layer), wanted) == int((wanted != before).sum())
    assert np.array_equal(layer.data, wanted)
    layer.undo()
    assert np.array_equal(layer.data, before)
    flat = labels(viewer, "flat", (5, 6))
    assert port.replace_labels(layer_id(flat), np.ones((1, 5, 6), np.uint8)) == 30
    with pytest.raises(InputError, match="has the shape"):
        port.replace_labels(layer_id(layer), wanted[:2])
    viewer.layers.remove(layer)
    with pytest.raises(InputError, match="is gone"):
        port.replace_labels(layer_id(layer), wanted)
