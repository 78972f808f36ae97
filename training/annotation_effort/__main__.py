"""The study's command line: run what is missing, write the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_llm4seg.errors import LLM4SegError, one_line

SHIPPED, READING = (Path(__file__).with_name(name) for name in ("plan.yaml", "reading.md"))
REPORT = Path(__file__).parents[1] / "reports" / "annotation_effort.md"


def say(text: str) -> None:
    """Print ``text`` on standard error."""
    print(text, file=sys.stderr, flush=True)


def study(
    plan: Annotated[Path, typer.Option("--plan", metavar="PLAN.yaml", help="Cases, methods and steps.")] = SHIPPED,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="RUNS", help="Gets rows.jsonl; goes on where it stopped.")
    ] = Path("runs/annotation_effort"),
    report: Annotated[Path, typer.Option("--report", metavar="FILE.md", help="Its figures go beside it.")] = REPORT,
    only: Annotated[list[str] | None, typer.Option("--only", help="Sessions whose name holds this.")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", min=0, help="Begin no training later.")] = None,
    device: Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|mps")] = "cpu",
    timed: Annotated[
        Path | None, typer.Option("--timed", metavar="RUNS", help="Rows made on a CPU, for the seconds in the report.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Sessions at a time, each in its own process.")] = 1,
) -> None:
    """Run the cells that are missing, then write the report of whatever there is; --minutes 0 writes it alone."""
    from training.annotation_effort.plan import read_plan
    from training.annotation_effort.run import run_plan

    read = read_plan(plan)
    missing = run_plan(read, plan, out, only=tuple(only or ()), minutes=minutes, device=device, jobs=jobs, say=say)
    if missing:
        say(f"{missing} cells are missing; run the command again")
    from training.annotation_effort.report import make_report

    make_report(read, out, report, timed=timed, reading=READING if plan == SHIPPED else None)


def main() -> None:
    """Run; what a person can mend is one line."""
    app = typer.Typer(name="training.annotation_effort", add_completion=False, pretty_exceptions_enable=False)
    app.command()(study)
    try:
        app()
    except LLM4SegError as error:
        say(f"training.annotation_effort: {one_line(error, 600)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
