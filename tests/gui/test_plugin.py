"""The real dock in the real window, clicked; the fake model computes a threshold, everything else is real."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytestmark = pytest.mark.gui


@pytest.fixture
def opened(make_napari_viewer, qtbot, fakes):
    """Open a viewer with the dock; call it with what the fake models shall do."""
    from napari_llm4seg.gui.plugin import SegmentDock

    def make(**how):
        viewer = make_napari_viewer(show=False)
        dock = SegmentDock(viewer, fakes.FakeModels(**how))
        viewer.window.add_dock_widget(dock, name="Segment")
        until(qtbot, lambda: dock.model_box.count() == 2 and dock.controller.session.predictor is not None)
        return viewer, dock

    return make


def until(qtbot, condition):
    """Wait long enough for a machine that does other things as well."""
    qtbot.waitUntil(condition, timeout=20_000)


def square(shape):
    data = np.zeros(shape, np.uint8)
    data[..., 10:20, 15:30] = 200
    return data


def click(qtbot, button):
    from qtpy.QtCore import Qt

    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def results(viewer):
    return [layer for layer in viewer.layers if "· seg ·" in layer.name]


def test_a_person_segments_slices_the_whole_and_takes_back(opened, qtbot):
    """One viewer for the whole walk: a viewer costs seconds."""
    viewer, dock = opened()
    session = dock.controller.session
    assert not dock.slice_button.isEnabled()
    dock.sample_button.menu().actions()[0].trigger()
    until(qtbot, lambda: len(viewer.layers) == 1)
    until(qtbot, lambda: session.predictor is not None)
    assert dock.model_box.currentText() == "breast-ultrasound"
    click(qtbot, dock.slice_button)
    until(qtbot, lambda: session.busy == "" and len(results(viewer)) == 1)
    assert results(viewer)[0].data.any()

    viewer.layers.clear()
    viewer.add_image(square((5, 40, 50)), name="ct")
    viewer.dims.set_current_step(0, 2)
    assert dock.scan_box.currentText() == "ct"
    click(qtbot, dock.slice_button)
    until(qtbot, lambda: session.busy == "" and len(results(viewer)) == 1)
    stack = results(viewer)[0]
    assert [bool(part.any()) for part in stack.data] == [False, False, True, False, False]
    click(qtbot, dock.all_button)
    until(qtbot, lambda: session.busy == "" and stack.data.any(axis=(1, 2)).all())
    stack.paint((2, 35, 40), 1)
    click(qtbot, dock.all_button)
    until(qtbot, lambda: session.busy == "" and len(results(viewer)) == 2)
    assert stack.data[2, 35, 40] == 1
    click(qtbot, dock.undo_button)
    assert results(viewer) == [stack]
    click(qtbot, dock.undo_button)
    assert results(viewer) == [stack]
    assert "edited" in dock.message.text.text()
    assert dock.message.isVisibleTo(dock)


def test_a_result_is_measured_and_cleaned_up(opened, qtbot):
    viewer, dock = opened()
    data = square((5, 40, 50))
    data[2, 30, 40] = 200  # an island
    viewer.add_image(data, name="ct", scale=(3, 1, 1), units="mm")
    assert not dock.measure.isVisibleTo(dock)
    click(qtbot, dock.all_button)
    until(qtbot, lambda: dock.measure.summary.text() == "lesion 2.25 mL")
    (layer,) = results(viewer)
    assert [dock.class_list.tree.topLevelItem(0).text(column) for column in (0, 1)] == ["lesion", "1"]
    dock.clean_up.button.setChecked(True)
    click(qtbot, dock.clean_up.largest_button)
    until(qtbot, lambda: layer.data[2, 30, 40] == 0)
    assert "removed 1 piece, 3 mm³" in dock.clean_up.message.text.text()
    assert layer.data[2, 10:20, 15:30].all()
    until(qtbot, lambda: dock.measure.measures.item(0, 2).text() == "1")
    layer.undo()
    assert layer.data[2, 30, 40] == 1
    assert "edited since" in dock.measure.summary.text()
    assert layer.metadata["napari_llm4seg"]["clean_up"] == []


def test_cancel_stops_a_run_and_a_closed_scan_does_too(opened, qtbot):
    viewer, dock = opened(hooks={z: lambda: time.sleep(0.05) for z in range(60)})
    session = dock.controller.session
    for name in ("first", "second"):
        viewer.add_image(square((60, 40, 50)), name=name)
        click(qtbot, dock.all_button)
        until(qtbot, lambda: dock.bar.value() >= 2)
        assert dock.cancel_button.isEnabled()
        if name == "first":
            click(qtbot, dock.cancel_button)
        else:
            viewer.layers.remove(name)
        until(qtbot, lambda: session.busy == "")
        assert not dock.cancel_button.isEnabled()
    assert "was closed" in dock.message.text.text()
    assert all(not layer.data.all(axis=(1, 2)).any() for layer in results(viewer))


def test_the_window_is_alive_during_a_run_and_the_slice_on_show_comes_first(opened, qtbot):
    gate = threading.Event()
    viewer, dock = opened(hooks={0: lambda: gate.wait(5)})
    viewer.add_image(square((4, 40, 50)), name="ct")
    viewer.dims.set_current_step(0, 3)
    click(qtbot, dock.all_button)
    # Slice 0, the second to be done, is held back: slice 3 must be on the screen by then, and the viewer usable.
    until(qtbot, lambda: len(results(viewer)) == 1 and results(viewer)[0].data[3].any())
    viewer.dims.set_current_step(0, 1)
    results(viewer)[0].paint((1, 35, 40), 1)
    gate.set()
    until(qtbot, lambda: dock.controller.session.busy == "")
    layer = results(viewer)[0]
    assert layer.data[1, 35, 40] == 1
    assert not layer.data[1, 10:20, 15:30].any()
    assert layer.data[2].any()
    assert "kept as painted" in dock.message.text.text()


def test_a_viewer_closed_during_a_run_is_no_accident(opened, qtbot):
    gate = threading.Event()
    viewer, dock = opened(hooks={2: lambda: gate.wait(5)})
    viewer.add_image(square((6, 40, 50)), name="ct")
    viewer.dims.set_current_step(0, 0)
    controller = dock.controller
    click(qtbot, dock.all_button)
    until(qtbot, lambda: len(results(viewer)) == 1 and results(viewer)[0].data[1].any())
    handle = controller._runners[1].current
    viewer.close()
    gate.set()
    until(qtbot, lambda: handle.state != "running")
    qtbot.wait(50)
    assert handle.state == "cancelled"


def test_a_dock_closed_during_a_run_stops_it_and_the_next_one_goes_on(opened, qtbot, fakes):
    from napari_llm4seg.gui.plugin import SegmentDock

    gate = threading.Event()
    viewer, dock = opened(hooks={2: lambda: gate.wait(5)})
    viewer.add_image(square((6, 40, 50)), name="ct")
    viewer.dims.set_current_step(0, 0)
    controller = dock.controller
    click(qtbot, dock.all_button)
    until(qtbot, lambda: len(results(viewer)) == 1 and results(viewer)[0].data[1].any())
    handle = controller._runners[1].current
    viewer.window.remove_dock_widget(dock)
    gate.set()
    until(qtbot, lambda: handle.state == "cancelled")
    assert controller.session.busy == ""
    assert not results(viewer)[0].data[2].any()
    again = SegmentDock(viewer, fakes.FakeModels())
    viewer.window.add_dock_widget(again, name="Segment")
    until(qtbot, lambda: again.model_box.count() == 2)
    assert again.controller.session is controller.session
    assert again.slice_button.isEnabled()


def test_the_samples_give_layers():
    from napari.layers import Layer

    from napari_llm4seg.gui import plugin

    for make in (plugin.sample_ultrasound_phantom, plugin.sample_ct_phantom, plugin.sample_real_ct):
        tuples = make()
        layers = [Layer.create(*item) for item in tuples]
        assert tuples[0][2] == "image"
        assert all(layer.visible == (kind == "image") for layer, (_, _, kind) in zip(layers, tuples, strict=True))
