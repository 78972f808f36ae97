"""The study's command line: run, analyse, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_llm4seg.errors import LLM4SegError, one_line

app = typer.Typer(name="training.study", help=__doc__, add_completion=False, pretty_exceptions_enable=False)

Runs = Annotated[Path, typer.Argument(metavar="RUNS", help="Folder of runs.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|mps")]
SHIPPED = Path(__file__).with_name("plan.yaml")


def say(text: str) -> None:
    """Print ``text`` on standard error."""
    print(text, file=sys.stderr, flush=True)


@app.command("run")
def run_command(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="The arms, data sets and seeds.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUNS", help="Gets a folder for each run.")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Trainings at a time.")] = 1,
    device: Device = "auto",
    only: Annotated[list[str] | None, typer.Option("--only", metavar="ARM", help="Restrict to these arms.")] = None,
) -> None:
    """Train what is missing; called again it goes on where it was stopped."""
    from training.study.plan import read_plan
    from training.study.run import run_plan

    failed = run_plan(read_plan(plan), plan, out, jobs=jobs, device=device, only=tuple(only or ()), say=say)
    if failed:
        say(f"{len(failed)} run(s) failed: {', '.join(str(run.path) for run in failed)}")
        raise typer.Exit(1)


@app.command("analyse")
def analyse_command(
    runs: Runs,
    device: Device = "cpu",
    again: Annotated[bool, typer.Option("--again", help="Also those that were analysed before.")] = False,
) -> None:
    """Measure the networks' inside on the test images; writes analysis.json into each run."""
    from training.study.analyse import analyse_all

    analyse_all(runs, device, again, say)


@app.command("report")
def report_command(
    runs: Runs,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.md", help="Figures go into a folder of its name.")],
    plan: Annotated[Path, typer.Option("--plan", metavar="PLAN.yaml", help="Where RUNS holds none.")] = SHIPPED,
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="Of every bootstrap and permutation.")
    ] = 10_000,
) -> None:
    """Write the report of whatever has been logged; says what is missing."""
    from training.study.logged import Study
    from training.study.report import make_report

    for answer in make_report(Study.read(runs, plan), out, resamples):
        say(answer)


def main() -> None:
    """Run a command; what a person can mend is one line."""
    try:
        app()
    except LLM4SegError as error:
        say(f"training.study: {one_line(error, 600)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
