"""What a person waits for before anything happens: import, help, the first mask. All in fresh processes."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from napari_llm4seg.bench.figures import (
    Figure,
    Measurement,
    Say,
    Skipped,
    heavy_among,
    median,
    run_child,
    run_json_child,
)

IMAGE_SHAPE = (470, 560)

_IMPORT = """
import json, sys, time
started = time.perf_counter()
import napari_llm4seg
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules)}))
"""

_MODULES_OF_SEGMENT = """
import json, sys
from napari_llm4seg.cli import main
try:
    main(sys.argv[2:])
except SystemExit as end:
    if end.code:
        raise
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(sorted(sys.modules), file)
"""


def measure_import(say: Say, repeats: int = 9) -> Measurement:
    """Time ``import napari_llm4seg`` and look at what it loaded."""
    runs = [run_json_child(["-c", _IMPORT]) for _ in range(repeats)]
    seconds = [float(run["seconds"]) for run in runs]
    loaded = heavy_among(runs[-1]["modules"])
    say(f"import: {median(seconds):.3f} s")
    return Measurement(
        {
            "import_seconds": Figure(median(seconds), "s", 0.15),
            "import_heavy_modules": Figure(len(loaded), "modules", 0),
        },
        {"import_runs_s": seconds, "import_heavy": loaded},
    )


def measure_help(say: Say, repeats: int = 5) -> Measurement:
    """Time ``llm4seg --help`` and every command's help, whole process; the slowest one counts."""
    commands = [
        [],
        ["segment"],
        ["evaluate"],
        ["models"],
        *(["models", name] for name in ("list", "info", "fetch", "import")),
        ["train"],
        ["inspect"],
        ["bench"],
    ]
    each = {}
    for command in commands:
        arguments = ["-m", "napari_llm4seg.cli", *command, "--help"]
        each[" ".join(["llm4seg", *command])] = median([run_child(arguments)[0] for _ in range(repeats)])
    slowest = max(each, key=lambda name: each[name])
    say(f"help: {each['llm4seg']:.3f} s, slowest {slowest} {each[slowest]:.3f} s")
    figures = {
        "help_seconds": Figure(each["llm4seg"], "s", 0.5),
        "help_slowest_seconds": Figure(each[slowest], "s", 0.5),
    }
    return Measurement(figures, {"help_medians_s": each})


def measure_segment(say: Say, model: str | None = None, repeats: int = 5) -> Measurement:
    """Time ``llm4seg segment`` of one image in a fresh process on the CPU, and look at what it loaded."""
    from napari_llm4seg.checkpoint import starters

    if model is None and not starters():
        raise Skipped("no starter checkpoint is installed")
    with tempfile.TemporaryDirectory(prefix="llm4seg-bench-") as folder:
        image = write_image(Path(folder))
        arguments = ["segment", str(image), "-o", folder, "--device", "cpu", "--json"]
        arguments += ["--model", model] if model else []
        dump = Path(folder) / "modules.json"
        run_child(["-c", _MODULES_OF_SEGMENT, str(dump), *arguments])  # also warms the page cache
        loaded = [name for name in heavy_among(json.loads(dump.read_text(encoding="utf-8"))) if name != "torch"]
        seconds = []
        for _ in range(repeats):
            wall, done = run_child(["-m", "napari_llm4seg.cli", *arguments])
            answer = json.loads(done.stdout)
            seconds.append(wall)
    say(f"segment: {median(seconds):.2f} s from start to mask, fresh process")
    figures = {
        "segment_seconds": Figure(median(seconds), "s", 4.0),
        "segment_heavy_modules": Figure(len(loaded), "modules", 0),
    }
    return Measurement(figures, {"segment_runs_s": seconds, "segment_heavy": loaded, "segment_model": answer["model"]})


def write_image(folder: Path) -> Path:
    """Write the made ultrasound image of 560 x 470 pixels as PNG."""
    from napari_llm4seg.io import write
    from napari_llm4seg.io.samples import ultrasound_phantom

    image, _ = ultrasound_phantom(shape=IMAGE_SHAPE)
    return write(folder / "phantom.png", image)


def now() -> str:
    """Return the local time for the report, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
