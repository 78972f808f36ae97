"""The window's figures, taken in the real window: ``python -m napari_llm4seg.gui.bench --json``.

Two are taken with a warm model. Click to mask: from the click on **Segment** until the mask of a 560 x 470 image is in
its layer, the dock is at rest and the canvas is drawn again. Longest gap: a timer of 5 ms beats in the window's event
loop while a stack of 100 slices is segmented; the longest time between two beats is how long the window held still.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPE = (470, 560)
BEAT_MS = 5


class Heartbeat:
    """Beats in the event loop and keeps the times between its beats."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.gaps: list[float] = []
        self._last = 0.0
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)

    def start(self) -> None:
        self._last = time.perf_counter()
        self._timer.start(BEAT_MS)

    def stop(self) -> None:
        """Stop; the time since the last beat counts too."""
        self._timer.stop()
        self._beat()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now


_LOOK_MILLISECONDS = 5


def wait_for(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Run the event loop, as napari does, until ``condition`` holds; asked every few milliseconds.

    ``processEvents`` in a loop would spin and keep Python from the thread that is measured.

    Raises
    ------
    TimeoutError
        After ``timeout`` seconds.
    """
    from qtpy.QtCore import QEventLoop, QTimer

    end = time.monotonic() + timeout
    loop, timer = QEventLoop(), QTimer()

    def look() -> None:
        if condition() or time.monotonic() > end:
            loop.quit()

    timer.timeout.connect(look)
    timer.start(_LOOK_MILLISECONDS)
    if not condition():
        loop.exec_()
    timer.stop()
    if not condition():
        raise TimeoutError(f"{what} took longer than {timeout:.0f} s")


def click(button: Any) -> None:
    """Press and release the left mouse button on ``button``."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def measure(model: str | None, slices: int, repeats: int, shape: tuple[int, int] = SHAPE) -> dict[str, Any]:
    """Open the window and take both figures.

    Returns
    -------
    dict
        ``click_s`` (median, seconds), ``gap_ms`` (milliseconds) and how they came about.
    """
    import numpy as np

    from napari_llm4seg.gui.app import build_window
    from napari_llm4seg.io.samples import ultrasound_phantom
    from napari_llm4seg.volume import Volume

    image, _ = ultrasound_phantom(shape=shape)
    viewer, dock = build_window([image])
    try:
        _load(dock, model)
        heartbeat = Heartbeat()
        heartbeat.start()
        _click_once(viewer, dock)  # warms up
        heartbeat.stop()
        clicks = [_click_once(viewer, dock) for _ in range(repeats)]
        shifted = [np.roll(image.data[0, 0], 3 * z, axis=1) for z in range(slices)]
        viewer.layers.clear()
        stack = Volume(np.stack(shifted)[None], image.affine, name="stack", unit=image.unit, metadata=image.metadata)
        gaps, seconds = _run_stack(viewer, dock, stack)
        return {
            "click_s": statistics.median(clicks),
            "gap_ms": 1000 * max(gaps),
            "click_runs_s": clicks,
            "first_click_gap_ms": 1000 * max(heartbeat.gaps),
            "gaps_over_50_ms": sum(gap > 0.05 for gap in gaps),
            "gap_99_percentile_ms": 1000 * float(np.percentile(gaps, 99)),
            "beats": len(gaps),
            "stack_slices": slices,
            "stack_seconds": seconds,
            "model": dock.controller.session.predictor.checkpoint.name,
            "device": str(dock.controller.session.predictor.device),
        }
    finally:
        viewer.close()


def _load(dock: Any, model: str | None) -> None:
    """Wait for the model: the proposed one, or ``model`` (a starter's name or a path)."""
    from napari_llm4seg.checkpoint import resolve

    session = dock.controller.session
    if model is not None:
        wait_for(lambda: dock.model_box.isEnabled(), 60, "listing the models")
        dock.controller.add_model(resolve(model))
    wait_for(lambda: session.predictor is not None, 60, "loading the model")
    wait_for(dock.slice_button.isEnabled, 10, "getting ready")


def _click_once(viewer: Any, dock: Any) -> float:
    """Return seconds from the click until mask and dock are at rest; the result is taken back afterwards."""
    from qtpy.QtWidgets import QApplication

    session, before = dock.controller.session, len(viewer.layers)
    started = time.perf_counter()
    click(dock.slice_button)
    wait_for(lambda: not session.busy and len(viewer.layers) > before, 60, "segmenting the image")
    QApplication.processEvents()
    seconds = time.perf_counter() - started
    click(dock.undo_button)
    wait_for(lambda: len(viewer.layers) == before, 10, "taking the result back")
    return seconds


def _run_stack(viewer: Any, dock: Any, stack: Any) -> tuple[list[float], float]:
    """Return the gaps between heartbeats in seconds while ``stack`` is segmented, and how long that took."""
    from napari.layers import Layer

    from napari_llm4seg.gui.layer_tuples import layers_of

    for item in layers_of([stack]):
        viewer.add_layer(Layer.create(*item))
    session, before = dock.controller.session, len(viewer.layers)
    wait_for(dock.all_button.isEnabled, 30, "showing the stack")
    end = time.monotonic() + 2.0
    wait_for(lambda: time.monotonic() > end, 10, "drawing the stack")  # opening it is no part of the run
    heartbeat, started = Heartbeat(), time.perf_counter()
    heartbeat.start()
    click(dock.all_button)
    wait_for(lambda: not session.busy and len(viewer.layers) > before, 1800, "segmenting the stack")
    heartbeat.stop()
    return heartbeat.gaps, time.perf_counter() - started


def main(arguments: list[str] | None = None) -> int:
    """Measure and print one JSON object; {"skipped": reason} where there is no model."""
    parser = argparse.ArgumentParser(prog="python -m napari_llm4seg.gui.bench", description=main.__doc__)
    parser.add_argument("--json", action="store_true", help="accepted for symmetry; the answer is always JSON")
    parser.add_argument("--model", help="starter's name or checkpoint path; the dock's proposal if not given")
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="llm4seg-bench-") as folder:
        # neither the person's settings nor their open docks may change what is measured
        os.environ["LLM4SEG_SETTINGS"] = str(Path(folder) / "settings.json")
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        from napari_llm4seg.checkpoint import starters

        if options.model is None and not starters():
            print(json.dumps({"skipped": "no starter checkpoint is installed"}))
            return 0
        print(json.dumps(measure(options.model, options.slices, options.repeats)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
