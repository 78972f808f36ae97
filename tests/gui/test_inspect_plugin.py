"""The real Inspect dock in the real window, clicked on the canvas; the network is the planted one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.activations.planted import marked, middle, planted

pytestmark = pytest.mark.gui

BRIGHT, DARK = (slice(4, 8), slice(24, 28)), (slice(20, 24), slice(8, 12))


def until(qtbot, condition):
    """Wait long enough for a machine that does other things as well."""
    qtbot.waitUntil(condition, timeout=20_000)


def canvas_click(viewer, layer, place):
    """Press and release at a place of ``layer``, through vispy's events, as the mouse does."""
    canvas = viewer.window._qt_viewer.canvas
    world = np.asarray(layer.data_to_world(place))[-2:][::-1]
    view = canvas.view
    pos = view.camera.transform.map(np.asarray([*world, 0, 1.0]))
    pos = pos[:2] / pos[3] if len(pos) > 3 else pos[:2]
    native = canvas._scene_canvas
    for kind in ("mouse_press", "mouse_release"):
        getattr(native.events, kind)(pos=pos, button=1, buttons=[1], modifiers=(), type=kind)


def planted_dock(viewer):
    """Return the session, the scan's layer and the Inspect dock of a network that looks from one spot at another."""
    from napari_llm4seg.gui.plugin import InspectDock
    from napari_llm4seg.gui.state.session import ModelEntry, session_for

    session = session_for(viewer)
    session.docks.add("Segment")
    layer = viewer.add_image(marked((32, 32), BRIGHT, DARK), name="scan")
    session.model, session.predictor = ModelEntry("planted", "planted", None), planted(size=(32, 32))
    session.scan_id = str(layer.unique_id)
    dock = InspectDock(viewer)
    viewer.window.add_dock_widget(dock, name="Inspect")
    return session, layer, dock


def test_a_click_on_the_canvas_shows_a_map(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=False)
    session, layer, dock = planted_dock(viewer)
    until(qtbot, lambda: dock.controller.recording is not None)
    assert "same forward" in dock.proof_line.text()
    canvas_click(viewer, layer, middle(BRIGHT))
    until(qtbot, lambda: "scan · attention" in viewer.layers)
    assert dock.controller.token == dock.controller.recording.seen.token_at(*middle(BRIGHT))
    dock.controller.choose("head", "0")
    drawn = viewer.layers["scan · attention"]
    strongest = np.unravel_index(int(drawn.data.argmax()), drawn.data.shape)
    np.testing.assert_allclose(drawn.data_to_world(strongest), layer.data_to_world(middle(DARK)))
    net = session.predictor.net
    viewer.window.remove_dock_widget(dock)
    assert "Inspect" not in session.docks
    assert len(viewer.mouse_drag_callbacks) == 1  # napari's own
    from tests.activations.test_recorder import traces

    assert all(not (hooks or pre or replaced) for _, hooks, pre, replaced in traces(net))


def test_the_segment_dock_is_opened_beside_it(make_napari_viewer, qtbot, monkeypatch):
    from napari_llm4seg.gui import plugin

    asked = []
    monkeypatch.setattr(plugin, "open_beside", lambda viewer, dock: asked.append(dock))
    viewer = make_napari_viewer(show=False)
    dock = plugin.InspectDock(viewer)
    viewer.window.add_dock_widget(dock, name="Inspect")
    until(qtbot, lambda: asked == ["Segment"])
    assert "Open a scan" in dock.hint.text()


def test_a_dock_behind_another_one_does_not_listen(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    _, layer, dock = planted_dock(viewer)
    until(qtbot, lambda: dock.in_view() and dock.controller.recording is not None)
    from qtpy.QtWidgets import QLabel

    viewer.window.add_dock_widget(QLabel("another"), name="Other", tabify=True)
    until(qtbot, lambda: not dock.in_view())
    canvas_click(viewer, layer, middle(BRIGHT))
    assert dock.controller.token is None
    dock.come_forward()
    until(qtbot, dock.in_view)
    canvas_click(viewer, layer, middle(BRIGHT))
    assert dock.controller.token is not None
