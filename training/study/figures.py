"""The report's figures, as SVG that comes out the same for the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_llm4seg.errors import ConfigError
from napari_llm4seg.files import replacing
from training.study.logged import Study
from training.study.verdict import Result

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")


def plots() -> Any:
    """Return pyplot, set up for files.

    Raises
    ------
    ConfigError
        Where matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ConfigError("The report's figures need matplotlib: pip install 'napari-llm4seg[study]'.") from None
    matplotlib.use("Agg")
    # fixed, so that the same numbers give the same file; text stays text
    matplotlib.rcParams.update({"svg.hashsalt": "llm4seg", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    return pyplot


def save(pyplot: Any, figure: Any, path: Path) -> Path:
    """Write the figure as SVG, whole or not at all, and let go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return path


def forest(study: Study, results: Sequence[Result], path: Path) -> Path:
    """Draw the differences in IoU with both intervals, one line each."""
    pyplot = plots()
    figure, axes = pyplot.subplots(figsize=(7.2, 0.9 + 0.32 * len(results)))
    places = range(len(results))[::-1]
    for place, result in zip(places, results, strict=True):
        c = result.comparison
        axes.plot([c.both.low, c.both.high], [place, place], color="#999999", lw=1.2, zorder=1)
        axes.plot([c.images.low, c.images.high], [place, place], color=_COLOURS[0], lw=3.5, zorder=2)
        axes.plot(c.images.mean, place, "o", color="black", ms=4, zorder=3)
        axes.plot(c.seed_means, [place - 0.22] * c.n_seeds, "|", color=_COLOURS[4], ms=6, zorder=3)
    axes.axvline(0, color="black", lw=0.8)
    labels = [f"{study.arm(r.arm).label} − {study.arm(r.reference).label}" for r in results]
    axes.set_yticks(list(places), labels)
    axes.set_xlabel(
        "difference in mean per-image IoU\n(thick: 95 % over images, thin: over seeds and images, ticks: each seed)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    return save(pyplot, figure, path)


def seeds(study: Study, dataset: str, names: Sequence[str], path: Path) -> Path:
    """Draw each run's mean test IoU, one colour for each seed."""
    pyplot = plots()
    figure, axes = pyplot.subplots(figsize=(7.2, 3.2))
    for i, seed in enumerate(study.plan.seeds):
        points = [
            (place, run.mean("iou"))
            for place, name in enumerate(names)
            for run in study.of(dataset, name)
            if run.planned.seed == seed
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=_COLOURS[i % 7], ms=5, label=f"seed {seed}")
    axes.set_xticks(
        range(len(names)), [study.arm(name).label for name in names], rotation=20, ha="right", rotation_mode="anchor"
    )
    axes.set_ylabel("mean per-image test IoU")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return save(pyplot, figure, path)


def curves(study: Study, dataset: str, names: Sequence[str], path: Path) -> Path:
    """Draw validation IoU over the epochs, one colour for each arm, one line for each seed."""
    pyplot = plots()
    figure, axes = pyplot.subplots(figsize=(7.2, 3.4))
    for i, name in enumerate(names):
        for run in study.of(dataset, name):
            rows = [(place + 1, row["val_iou"]) for place, row in enumerate(run.curve) if "val_iou" in row]
            if rows:
                label = study.arm(name).label if run is study.of(dataset, name)[0] else None
                axes.plot(
                    *zip(*rows, strict=True),
                    color=_COLOURS[i % 7],
                    lw=0.9,
                    alpha=0.85,
                    ls=_DASHES[run.planned.seed % 4],
                    label=label,
                )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("epoch (dashes tell the seeds apart)")
    axes.set_ylabel("validation IoU")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return save(pyplot, figure, path)
