"""The report's figure: Dice over the number of corrected slices, as SVG that comes out the same for the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.annotation_effort.compare import chosen
from training.annotation_effort.plan import Plan
from training.annotation_effort.rows import Row, mean_dice
from training.study.figures import plots, save

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#999999")
_DASHES = {"suggested": "-", "uniform": "--", "random": ":", "organ": "-."}


def curves(plan: Plan, rows: Sequence[Row], path: Path) -> Path:
    """Draw one panel for each case: a colour for each method, a dash for each way of choosing."""
    pyplot = plots()
    cases = [case for case in plan.cases if chosen(rows, case=case)]
    columns = min(3, len(cases))
    high = -(-len(cases) // columns)
    figure, panels = pyplot.subplots(high, columns, figsize=(3.4 * columns, 2.7 * high), squeeze=False)
    for panel in panels.ravel()[len(cases) :]:
        panel.set_visible(False)
    for case, panel in zip(cases, panels.ravel(), strict=False):
        for i, method in enumerate(plan.methods):
            for choice, dash in _DASHES.items():
                here = chosen(rows, case=case, method=method, choice=choice)
                steps = sorted({row["k"] for row in here})
                values = [mean_dice(chosen(here, k=k)) for k in steps]
                if steps:
                    label = f"{plan.methods[method].label}, {choice}"
                    panel.plot(steps, values, dash, color=_COLOURS[i % 8], marker=".", ms=5, lw=1.2, label=label)
        panel.set_title(case, fontsize=9)
        panel.set_ylim(0, 1)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=5)
    figure.supxlabel("corrected slices", fontsize=9)
    figure.supylabel("Dice on everything not corrected", fontsize=9)
    figure.tight_layout()
    return save(pyplot, figure, path)
