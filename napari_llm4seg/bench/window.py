"""The window's figures; the window itself is opened by a child process."""

from __future__ import annotations

import os
import shutil
import sys

from napari_llm4seg.bench.figures import Figure, Measurement, Say, Skipped, run_json_child

_XVFB = ("xvfb-run", "-a", "-s", "-screen 0 1400x900x24 +extension GLX")


def measure_window(say: Say, model: str | None = None) -> Measurement:
    """Time click to mask, and how long the window ever holds still while a stack runs.

    Raises
    ------
    Skipped
        Where there is neither a screen nor Xvfb.
    """
    arguments = ["-m", "napari_llm4seg.gui.bench", "--json", *(["--model", model] if model else [])]
    say("window: opening napari, one image, then a stack of 100 slices")
    found = run_json_child(arguments, prefix=screen_prefix(), timeout=900)
    if "skipped" in found:
        raise Skipped(str(found["skipped"]))
    say(f"window: click to mask {found['click_s']:.2f} s, longest stillness {found['gap_ms']:.0f} ms")
    figures = {
        "gui_click_to_mask_seconds": Figure(float(found.pop("click_s")), "s", 1.0),
        "gui_longest_gap_ms": Figure(float(found.pop("gap_ms")), "ms", 100.0),
    }
    return Measurement(figures, {"gui": found})


def screen_prefix() -> tuple[str, ...]:
    """Return what to put before a command that needs a screen: nothing, or Xvfb where there is none."""
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return ()
    if shutil.which("xvfb-run") is None:
        raise Skipped("no screen")
    return _XVFB
