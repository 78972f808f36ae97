from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_llm4seg.gui.controllers.ports import ResultSpec, SlicePart
from napari_llm4seg.gui.layers import KEY
from napari_llm4seg.gui.results import begin, edited

CLASSES = ((1, "lesion", "#E69F00"), (3, "cyst", "#56B4E9"))


@pytest.fixture
def viewer():
    return ViewerModel()


def spec(slices=None, digest="a", channels=(), classes=CLASSES):
    return ResultSpec("model", digest, classes, slices, channels)


def ones(shape=(20, 30)):
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 3:9] = 1
    return labels


def test_the_result_lies_exactly_on_the_scan(viewer, fakes):
    scan = viewer.add_image(
        np.zeros((4, 20, 30)),
        name="ct",
        scale=(3, 0.8, 0.7),
        translate=(5, -3, 2),
        rotate=(10, 20, 30),
        shear=(0.1, 0, 0.2),
        affine=np.diag([1, 2, 1, 1]),
        units=("mm",) * 3,
        axis_labels=("z", "y", "x"),
    )
    result = fakes.begun(viewer, scan, spec())
    layer = viewer.layers[result.name]
    for index in np.ndindex(2, 2, 2):
        np.testing.assert_allclose(layer.data_to_world(index), scan.data_to_world(index))
    assert layer.units == scan.units
    assert layer.axis_labels == scan.axis_labels
    assert layer.name == "ct · seg · model"
    assert list(layer.features["class"]) == ["background", "lesion", "cyst"]
    assert layer.selected_label == 1
    assert layer.data.dtype == np.uint8


def test_large_label_values_get_room(viewer, fakes):
    scan = viewer.add_image(np.zeros((20, 30)))
    result = fakes.begun(viewer, scan, spec(classes=((700, "a", "#E69F00"),)))
    assert viewer.layers[result.name].data.dtype == np.uint16


def test_a_colour_scan_gets_a_mask_without_colour(viewer, fakes):
    scan = viewer.add_image(np.zeros((20, 30, 3), np.uint8), rgb=True, name="photo")
    result = fakes.begun(viewer, scan, spec())
    result.write(SlicePart(0, ones()))
    assert np.array_equal(viewer.layers[result.name].data, ones())


def test_another_model_or_scan_gets_a_layer_of_its_own(viewer, fakes):
    scan = viewer.add_image(np.zeros((20, 30)), name="a")
    other = viewer.add_image(np.zeros((20, 30)), name="b")
    ids = {fakes.begun(viewer, s, spec(digest=d)).id for s in (scan, other) for d in "xy"}
    assert len(ids) == 4
    names = [layer.name for layer in viewer.layers]
    assert len(set(names)) == len(names)


def test_provenance_is_kept_in_the_layer(viewer, fakes):
    scan = viewer.add_image(np.zeros((4, 20, 30)))
    result = fakes.begun(viewer, scan, spec((2,)))
    result.write(SlicePart(2, ones()))
    result.finish({"checkpoint": "abc"})
    about = viewer.layers[result.name].metadata[KEY]
    assert about["provenance"] == {"checkpoint": "abc", "slices_written": [2]}
    assert about["model"] == "model"


def test_edits_are_seen_whoever_made_them(viewer, fakes):
    scan = viewer.add_image(np.zeros((4, 20, 30)))
    result = fakes.begun(viewer, scan, spec())
    for z in range(4):
        result.write(SlicePart(z, ones()))
    layer = viewer.layers[result.name]
    assert not edited(layer)
    layer.data[2, 10, 10] = 3  # another plugin, without any event
    assert edited(layer)
    assert edited(layer, [2])
    assert not edited(layer, [0, 1, 3])
    layer.data[2, 10, 10] = 0
    assert not edited(layer)
    layer.data = np.ones_like(layer.data)
    assert edited(layer)


def test_a_resliced_or_lazy_layer_is_not_used_again(viewer, fakes):
    scan = viewer.add_image(np.zeros((4, 20, 30)))
    first = fakes.begun(viewer, scan, spec())
    viewer.layers[first.name].data = np.zeros((4, 10, 30), np.uint8)
    assert fakes.begun(viewer, scan, spec()).id != first.id


def test_undo_of_a_joined_slice_is_refused_after_an_edit_of_that_slice_only(viewer, fakes):
    scan = viewer.add_image(np.zeros((4, 20, 30)))
    fakes.begun(viewer, scan, spec((0,))).write(SlicePart(0, ones()))
    second = fakes.begun(viewer, scan, spec((1,)))
    second.write(SlicePart(1, ones()))
    layer = viewer.layers[second.name]
    layer.data[1, 15, 15] = 1
    assert not second.undo()
    assert layer.data[1].any()
    layer.data[1, 15, 15] = 0
    layer.data[0, 15, 15] = 1
    assert second.undo()
    assert not layer.data[1].any()
    assert layer.data[0, 15, 15] == 1


def test_a_removed_layer_is_written_to_no_more(viewer, fakes):
    scan = viewer.add_image(np.zeros((4, 20, 30)))
    result = fakes.begun(viewer, scan, spec())
    viewer.layers.remove(result.name)
    assert not result.alive()
    result.write(SlicePart(0, ones()))
    result.finish({})
    assert result.undo()


def test_only_the_slice_on_show_is_drawn_while_the_rest_streams_in(viewer, fakes):
    scan = viewer.add_image(np.zeros((6, 20, 30)))
    viewer.dims.set_current_step(0, 4)
    result = fakes.begun(viewer, scan, spec())
    layer = viewer.layers[result.name]
    drawn = []
    layer.events.set_data.connect(lambda event: drawn.append(1))
    for z in (0, 1, 2, 3, 5):
        result.write(SlicePart(z, ones()))
    assert not drawn
    result.write(SlicePart(4, ones()))
    assert len(drawn) == 1
    viewer.dims.order = (1, 0, 2)  # every slice is on show now: drawn, but not for each one
    drawn.clear()
    for z in range(6):
        result.write(SlicePart(z, ones()))
    assert len(drawn) == 1


def test_a_new_layer_comes_in_parts_each_a_turn_of_the_window(viewer):
    scan = viewer.add_image(np.zeros((20, 30)), name="ct")
    result = begin(viewer, scan, spec(channels=("lesion", "cyst")))
    assert result.alive(), "on its way"
    assert not result.ready
    seen = []
    viewer.layers.selection.events.active.connect(lambda event: seen.append(event.value))
    assert result.prepare()
    layer = viewer.layers[result.name]
    assert not result.ready
    assert result.prepare(), "one probability layer"
    assert result.prepare(), "and the other one"
    assert result.ready, "to be written to"
    assert viewer.layers.selection.active is scan
    assert not seen
    assert not result.prepare()
    assert seen[-1] is layer
    assert [each.name for each in viewer.layers] == [
        "ct",
        "ct · prob · lesion",
        "ct · prob · cyst",
        "ct · seg · model",
    ]


def test_a_run_stopped_before_its_layer_came_leaves_nothing(viewer):
    scan = viewer.add_image(np.zeros((20, 30)), name="ct")
    result = begin(viewer, scan, spec())
    assert result.undo()
    assert list(viewer.layers) == [scan]


def test_a_removed_probability_layer_does_no_harm(viewer):
    scan = viewer.add_image(np.zeros((3, 20, 30)))
    result = begin(viewer, scan, spec(channels=("lesion", "cyst")))
    probabilities = np.full((2, 20, 30), 0.25, np.float32)
    result.write(SlicePart(0, ones(), probabilities))
    while result.prepare():
        pass
    names = [layer.name for layer in viewer.layers]
    assert sum("· prob ·" in name for name in names) == 2
    viewer.layers.remove(next(name for name in names if name.endswith("cyst")))
    result.write(SlicePart(1, ones(), probabilities))
    result.finish({})
    assert result.undo()
    assert len(viewer.layers) == 1
