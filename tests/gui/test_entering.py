from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_llm4seg.gui.entering import add_unselected, leave_tools_for_later


def labels(**options):
    return Labels(np.zeros((20, 30), np.uint8), **options)


def test_a_layer_comes_without_being_selected():
    viewer = ViewerModel()
    scan = viewer.add_image(np.zeros((20, 30)))
    heard = []
    viewer.layers.selection.events.active.connect(heard.append)
    top, below = labels(), labels()
    add_unselected(viewer, top)
    add_unselected(viewer, below, 0)
    assert list(viewer.layers) == [below, scan, top]
    assert viewer.layers.selection.active is scan
    assert not heard
    assert viewer.add_layer(labels()) is viewer.layers.selection.active, "what others add is selected as ever"


def test_a_refused_layer_changes_nothing():
    viewer = ViewerModel()
    with pytest.raises(TypeError):
        add_unselected(viewer, "no layer")
    assert viewer.add_layer(labels()) is viewer.layers.selection.active


def test_a_tool_is_made_when_it_is_taken_up():
    layer, usual = labels(), labels()
    leave_tools_for_later(layer)
    shown = {name for name, tool in usual._overlays.items() if tool.visible}
    assert not {name for name, tool in layer._overlays.items() if tool.visible}
    layer.mode = "fill"
    assert not any(tool.visible for tool in layer._overlays.values())
    layer.mode = "polygon"
    layer.mode = "paint"
    layer.mode = "pan_zoom"
    assert {name for name, tool in layer._overlays.items() if tool.visible} == shown


@pytest.mark.gui
@pytest.mark.parametrize(("mode", "tool"), [("polygon", "labels_polygon"), ("paint", "labels_brush_stroke")])
def test_a_tool_taken_up_hears_the_mouse_as_in_any_layer(make_napari_viewer, mode, tool):
    viewer = make_napari_viewer(show=False)
    layer, usual = labels(), labels()
    leave_tools_for_later(layer)
    for each in (layer, usual):
        viewer.add_layer(each)

    def heard(each):
        calls = (*each.mouse_drag_callbacks, *each.mouse_move_callbacks, *each.mouse_double_click_callbacks)
        return sorted(call.__qualname__ for call in calls if call.__module__.endswith(tool))

    assert heard(layer) == []
    layer.mode = usual.mode = mode
    assert heard(layer) == heard(usual) != []
