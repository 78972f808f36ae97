"""The real Correct & Retrain dock beside the real Segment dock in the real window; the fake model is a threshold."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.gui


def until(qtbot, condition):
    """Wait long enough for a machine that does other things as well."""
    qtbot.waitUntil(condition, timeout=20_000)


def click(qtbot, button):
    from qtpy.QtCore import Qt

    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


class NoTrainer:
    """Takes every command and does nothing: these tests train nothing."""

    busy = ""

    def __init__(self, on_event):
        pass

    def __getattr__(self, name):
        return lambda *arguments, **named: None


def both_docks(viewer, fakes):
    """Return the Segment dock, with made models, and the Correct dock of ``viewer``."""
    from napari_llm4seg.gui.plugin import CorrectDock, SegmentDock

    segment = SegmentDock(viewer, fakes.FakeModels())
    viewer.window.add_dock_widget(segment, name="Segment")
    correct = CorrectDock(viewer, make_trainer=NoTrainer)
    viewer.window.add_dock_widget(correct, name="Correct")
    return segment, correct


def test_a_person_segments_paints_confirms_and_finds_it_again(make_napari_viewer, qtbot, fakes):
    from qtpy.QtCore import Qt

    from napari_llm4seg.corrections import SampleStore
    from napari_llm4seg.gui.controllers.projects import projects_folder
    from napari_llm4seg.gui.plugin import CorrectDock

    viewer = make_napari_viewer(show=False)
    segment, correct = both_docks(viewer, fakes)
    until(qtbot, lambda: segment.controller.session.predictor is not None)
    data = np.zeros((5, 40, 50), np.uint8)
    data[:, 10:20, 15:30] = 200
    viewer.add_image(data, name="ct")
    assert correct.hint.isVisibleTo(correct)
    click(qtbot, segment.all_button)
    until(qtbot, lambda: correct.counts_line.text() == "0 edited · 0 confirmed · 5 slices")
    until(qtbot, lambda: not segment.controller.session.busy)
    layer = next(layer for layer in viewer.layers if "· seg ·" in layer.name)
    viewer.dims.set_current_step(0, 3)
    layer.paint((3, 35, 40), 1)
    until(qtbot, lambda: correct.counts_line.text().startswith("1 edited"))
    qtbot.keyClick(correct.strip, Qt.Key.Key_Right)
    assert viewer.dims.current_step[0] == 4
    click(qtbot, correct.confirm_button)
    until(qtbot, lambda: correct.saved_line.text() == "2 saved")
    (folder,) = projects_folder().iterdir()
    assert folder.name.startswith("ct-")
    viewer.window.remove_dock_widget(correct)
    with SampleStore.open(folder, read_only=True) as store:
        assert {record.index: record.state for record in store.records()} == {3: "edited", 4: "confirmed"}
    viewer.layers.remove(layer)
    again = CorrectDock(viewer, make_trainer=NoTrainer)
    viewer.window.add_dock_widget(again, name="Correct")
    until(qtbot, lambda: "2 corrected slices" in again.offer_text.text())
    click(qtbot, again.restore_button)
    until(qtbot, lambda: again.counts_line.text().startswith("1 edited · 1 confirmed"))
    assert viewer.layers["ct · mask"].data[3, 35, 40] == 1


def test_the_images_of_a_folder_are_corrected_one_after_another(make_napari_viewer, qtbot, fakes, tmp_path):
    from napari_llm4seg.corrections import SampleStore
    from napari_llm4seg.gui.controllers.projects import projects_folder
    from napari_llm4seg.io import write
    from napari_llm4seg.volume import Volume

    for seed, name in enumerate(("a", "b", "c")):
        data = np.zeros((1, 1, 40, 50), np.uint8)
        data[..., 10:20, 15 + seed : 30] = 200
        write(tmp_path / "scans" / f"{name}.png", Volume(data))
    viewer = make_napari_viewer(show=False)
    segment, correct = both_docks(viewer, fakes)
    until(qtbot, lambda: segment.controller.session.predictor is not None)
    viewer.open(tmp_path / "scans" / "a.png", plugin="napari")  # which says in the layer alone where it was read from
    until(qtbot, lambda: correct.strip_title.text() == "Images")
    click(qtbot, segment.all_button)
    until(qtbot, lambda: correct.confirm_button.isVisibleTo(correct))
    click(qtbot, correct.confirm_button)
    until(qtbot, lambda: correct.counts_line.text() == "0 edited · 1 confirmed of 3")
    for name in ("b", "c"):
        assert correct.next_line.text() == name
        click(qtbot, correct.go_button)
        until(qtbot, lambda name=name: any(layer.name.startswith(f"{name} · seg ·") for layer in viewer.layers))
        until(qtbot, lambda: correct.confirm_button.isVisibleTo(correct) and not segment.controller.session.busy)
        mask = next(layer for layer in viewer.layers if layer.name.startswith(f"{name} · seg ·"))
        assert [layer.name for layer in viewer.layers if layer.visible] == [name, mask.name]
        assert mask.data[15, 25] == 1
        click(qtbot, correct.confirm_button)
        until(qtbot, lambda: correct.confirm_button.text() == "Unconfirm")
    until(qtbot, lambda: correct.saved_line.text() == "3 saved")
    assert correct.next_line.text() == "every image is edited or confirmed"
    (folder,) = projects_folder().iterdir()
    viewer.window.remove_dock_widget(correct)
    with SampleStore.open(folder, read_only=True) as store:
        assert [scan.name for scan in store.scans()] == ["a", "b", "c"]
        assert {record.state for record in store.records()} == {"confirmed"}


def test_the_segment_dock_is_opened_beside_it(make_napari_viewer, qtbot, monkeypatch):
    from napari_llm4seg.gui import plugin

    asked = []
    monkeypatch.setattr(plugin, "open_beside", lambda viewer, dock: asked.append(dock))
    viewer = make_napari_viewer(show=False)
    dock = plugin.CorrectDock(viewer)
    viewer.window.add_dock_widget(dock, name="Correct")
    until(qtbot, lambda: asked == ["Segment"])
