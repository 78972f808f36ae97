"""The window as it opens, and the figures taken in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_llm4seg.bench.figures import run_json_child
from tests.cli.helpers import save_model

pytestmark = [pytest.mark.gui, pytest.mark.slow]


def test_the_window_opens_one_click_from_a_mask(qtbot) -> None:
    from napari_llm4seg.gui.app import build_window
    from napari_llm4seg.gui.dock import open_dock
    from napari_llm4seg.io.samples import ultrasound_phantom

    viewer, dock = build_window(ultrasound_phantom(shape=(94, 112)), show=False)
    try:
        image, mask = viewer.layers
        assert viewer.layers.selection.active is image
        assert (image.visible, mask.visible) == (True, False)
        qtbot.waitUntil(lambda: dock.scan_box.currentText().startswith(image.name), timeout=20000)
        assert viewer.window.dock_widgets["Segment (LLM4Seg)"] is dock, "as the menus call it"
        assert open_dock(viewer, "Segment") is dock
        opened = open_dock(viewer, "Inspect", tabify=True)
        assert list(viewer.window.dock_widgets) == ["Segment (LLM4Seg)", "Inspect (LLM4Seg)"]
        assert viewer.window.dock_widgets["Inspect (LLM4Seg)"] is opened
    finally:
        viewer.close()


def test_figures_come_out_of_the_real_window(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", "Everywhere", 2.0)
    arguments = ["-m", "napari_llm4seg.gui.bench", "--json", "--model", str(model), "--slices", "4", "--repeats", "2"]
    found = run_json_child(arguments, timeout=240)
    assert found["model"] == "Everywhere"
    assert len(found["click_runs_s"]) == 2
    assert min(found["click_runs_s"]) <= found["click_s"] <= max(found["click_runs_s"])
    assert found["stack_slices"] == 4
    assert found["beats"] >= 2
    assert found["first_click_gap_ms"] > 0
    assert found["gap_ms"] >= found["gap_99_percentile_ms"] > 0
