"""``python -m napari_llm4seg.demo [SCAN]``, opens a scan one click from its mask; without a screen, makes the mask."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from napari_llm4seg.cli.console import FAILED, STOPPED, ProgressLine, describe, line
from napari_llm4seg.volume import Volume

OUTPUT = Path("llm4seg_output")
_PROBE = "from qtpy.QtGui import QGuiApplication; QGuiApplication([])"


def main(arguments: Sequence[str] | None = None) -> int:
    """Open the window, or segment at once where there is no screen; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m napari_llm4seg.demo", description=__doc__)
    parser.add_argument("scan", nargs="?", type=Path, help="your own scan; a made ultrasound image if not given")
    parser.add_argument("-o", "--out", type=Path, default=OUTPUT, help=f"where results go without a screen ({OUTPUT})")
    options = parser.parse_args(arguments)
    try:
        volumes = load(options.scan)
        if has_screen():
            from napari_llm4seg.gui.app import open_window

            open_window(volumes)
        else:
            line("There is no screen, so no window opens; the same scan is segmented here.")
            segment(volumes[0], options.out)
    except KeyboardInterrupt:
        line("Stopped.")
        return STOPPED
    except Exception as error:
        line(f"llm4seg: {describe(error)}")
        return FAILED
    return 0


def load(scan: Path | None) -> list[Volume]:
    """Return the person's scan, or the made ultrasound image with its mask."""
    if scan is not None:
        from napari_llm4seg.io import read

        return [read(scan)]
    from napari_llm4seg.io.samples import ultrasound_phantom

    return list(ultrasound_phantom())


def has_screen() -> bool:
    """Return whether a window can be opened.

    A display that is named but not there would end the process inside Qt, so a child tries it first.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=60).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def segment(volume: Volume, out: Path) -> tuple[Path, Path]:
    """Segment ``volume`` with the starter and write mask and overlay picture into ``out``; say where they lie."""
    from napari_llm4seg.cli.predictor import open_model
    from napari_llm4seg.cli.segment import in_words
    from napari_llm4seg.io import write
    from napari_llm4seg.io.raster import write_overlay
    from napari_llm4seg.labels.measure import sizes

    predictor = open_model(None, "auto")
    with ProgressLine(volume.name) as progress:
        prediction = predictor.predict(volume, progress=progress, keep_probabilities=False)
    stem = "".join(character if character.isalnum() else "_" for character in volume.name).strip("_") or "scan"
    mask = write(out / f"{stem}_seg{'.nii.gz' if volume.n_slices > 1 or volume.unit == 'mm' else '.png'}", prediction)
    picture = write_overlay(out / f"{stem}_overlay.png", volume, prediction)
    for message in prediction.provenance.get("messages", ()):
        line(str(message))
    rows = sizes(prediction.labels, prediction.affine, prediction.unit, prediction.classes)
    print(f"{volume.name}: {in_words(rows, prediction.labels.size)}")
    print(f"Mask:            {mask.resolve()}")
    print(f"Overlay picture: {picture.resolve()}")
    return mask, picture


if __name__ == "__main__":
    sys.exit(main())
