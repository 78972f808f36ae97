"""``llm4seg bench``: measure what the program promises on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_llm4seg.cli.console import FAILED, Json, WrongUse, guarded, line, print_json, table
from napari_llm4seg.cli.predictor import Model


@guarded
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="import, help, segment, layer, folded, training, volume, readers, inspect, retrain, gui; repeatable.",
        ),
    ] = None,
    model: Model = None,
    as_json: Json = False,
) -> int:
    """Measure start-up, memory, speed and the window's smoothness against their targets."""
    from napari_llm4seg.bench.run import PARTS, run

    unknown = [name for name in only or () if name not in PARTS]
    if unknown:
        raise WrongUse(f"--only {unknown[0]}: choose from {', '.join(PARTS)}.")
    report = run(line, only or (), model)
    if as_json:
        print_json(report)
    else:
        rows = [["figure", "value", "target", ""]]
        for name, figure in report["figures"].items():
            target = f"{figure['bound']} {figure['target']:g} {figure['unit']}"
            rows.append([name, f"{figure['value']:g} {figure['unit']}", target, "met" if figure["met"] else "missed"])
        rows += [[name, "skipped", reason, ""] for name, reason in report["skipped"].items()]
        print("\n".join(table(rows)))
    return FAILED if report["failed"] else 0
