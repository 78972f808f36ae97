"""The study's report: what was measured, in tables made from the rows, beside the reading that a person wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from napari_llm4seg.files import write_text
from training.annotation_effort import compare
from training.annotation_effort.compare import chosen
from training.annotation_effort.figures import curves
from training.annotation_effort.plan import Plan
from training.annotation_effort.rows import Log, Row, Where, mean_dice

_Lines = tuple[list[str], list[list[str]]]

PROTOCOL = """\
An oracle puts the true masks of k slices into a project of corrections (`SampleStore`), a model learns from that
project as the window and `llm4seg finetune` let it, and then segments the whole case. Every k is a training of its
own from the same start. **Dice** is that of everything not corrected: of a stack, all those slices' pixels pooled (mean
over the classes), the slices without the organ too; of a set of images, the mean over images. **In the extent** looks
at the slices between the organ's first and last only; **largest piece** at everything, after the largest connected
piece of each class was kept, which is one click in the window. **Seconds** are of processor time, one thread of a CPU,
of learning alone: the machine was shared, so that the wall clock says little.

- *suggested*: the first slice is the middle one of those that hold the organ (a starter suggests the first, too); then
  what `Suggester` says by the last model's probabilities, to the next k.
- *uniform*, *random*: the same first slice, the others evenly or at random over the whole stack.
- *organ*: evenly over the slices that hold the organ, which takes having looked through the scan.

Networks are trained for a fixed number of epochs instead of seconds, so that busy machines do not change the figures.
"from scratch" is `engine.scratch.from_scratch`, "fine-tuned" `engine.finetune` with its defaults and a starter, "no
block" the same without the frozen language-model layer and its adapters (for a starter that means taken out of a
network that was trained with them; its decoder has to adapt). The random forest has 100 trees on
`skimage.feature.multiscale_basic_features` (intensity, edges, texture, 1 to 16 pixels), of the same slices, with the
same intensity window on CT.
"""


def make_report(
    plan: Plan, folder: Path, path: Path, *, timed: Path | None = None, reading: Path | None = None
) -> None:
    """Write the report of the rows in ``folder`` that were made by this plan; its figure goes beside it.

    Seconds are those of rows made on a CPU, of that folder or of the folder ``timed``. ``reading`` is what a person
    wrote of these very rows.
    """
    log = Log(folder)
    wanted = [(session, k) for session in plan.sessions() for k in session.steps]
    known = {(s.case, s.method): plan.digest(s) for s, _ in wanted}

    def of_plan(rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if known.get((row["case"], row["method"])) == row["digest"]]

    rows = of_plan(log.rows)
    clocked = of_plan([*log.rows, *(Log(timed).rows if timed is not None else ())])
    clocked = [row for row in clocked if row.get("device") == "cpu" and "same_as" not in row]
    done = sum(log.find(session, k, plan.digest(session)) is not None for session, k in wanted)
    lines = [f"# {plan.title}", ""]
    lines += ["Made by `python -m training.annotation_effort`; the tables and the figure are computed from its rows."]
    lines += [f"{done} of {len(wanted)} planned trainings are there.", ""]
    if reading is not None:
        lines += ["## Reading", "", "By hand.", "", reading.read_text(encoding="utf-8").strip(), ""]
    if rows:
        figure = curves(plan, rows, path.with_suffix("") / "curves.svg")
        lines += [f"![Dice over corrected slices]({figure.relative_to(path.parent).as_posix()})", ""]
    lines += ["## Protocol", "", PROTOCOL, *_circumstances(rows)]
    for case in plan.cases:
        here = chosen(rows, case=case)
        if here:
            lines += [f"## {case}", "", *_case(plan, here, chosen(clocked, case=case))]
    lines += ["## Suggested against other slices", "", *_duels(plan, rows), "## The gate", "", *_gate(rows)]
    lines += ["## Reproduce", "", "```", "pip install -e '.[study]'", "export LLM4SEG_DATA=FOLDER OMP_NUM_THREADS=1"]
    lines += ["python -m training.annotation_effort -o RUNS", "```"]
    write_text(path, "\n".join(lines).rstrip() + "\n")


def _circumstances(rows: Sequence[Row]) -> list[str]:
    machines = sorted({row["machine"]["machine"]["processor"] for row in rows if "machine" in row})
    loads = [row["load"] for row in rows if row.get("load") is not None]
    said = f"Machine: {', '.join(machines)}." if machines else ""
    if loads:
        said += f" Load average while it ran: {min(loads)} to {max(loads)}."
    return [said, ""] if said else []


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(line) + " |" for line in body), ""]


def _case(plan: Plan, rows: Sequence[Row], clocked: Sequence[Row]) -> list[str]:
    """Return the case's tables: Dice, Dice in the extent and of the largest piece where these differ, and seconds."""
    rest = _by_method(plan, rows, _dice("rest"))
    tables = {"Dice on everything not corrected": rest}
    if all(row["stack"] for row in rows):
        others: list[tuple[str, Where]] = [("in the extent", "extent"), ("after *Keep largest piece*", "largest")]
        for what, where in others:
            here = _by_method(plan, rows, _dice(where))
            if here != rest:
                tables[f"Dice on what is not corrected {what}"] = here
    if clocked:
        tables["Seconds of processor time to learn"] = _by_method(plan, clocked, _seconds)
    lines = []
    for what, (head, body) in tables.items():
        lines += [f"{what}, by k:", "", *_table(head, body)]
    return lines


def _by_method(plan: Plan, rows: Sequence[Row], said: Callable[[Sequence[Row]], str]) -> _Lines:
    """Return a head, and a line for each method and way of choosing: what ``said`` makes of each k's rows."""
    steps = sorted({row["k"] for row in rows})
    body = []
    for method in plan.methods:
        for choice in ("suggested", "uniform", "random", "organ"):
            mine = chosen(rows, method=method, choice=choice)
            if mine:
                seeds = len({row["seed"] for row in mine})
                name = f"{choice} ({seeds} seeds)" if seeds > 1 else choice
                cells = [chosen(mine, k=k) for k in steps]
                body.append([plan.methods[method].label, name, *(said(cell) if cell else "" for cell in cells)])
    return ["method", "slices", *map(str, steps)], body


def _dice(where: Where) -> Callable[[Sequence[Row]], str]:
    return lambda cell: f"{mean_dice(cell, where):.3f}"


def _seconds(cell: Sequence[Row]) -> str:
    return f"{np.mean([row['seconds']['learning_cpu'] for row in cell]):.0f}"


def _duels(plan: Plan, rows: Sequence[Row]) -> list[str]:
    lines = [
        "Difference in Dice on everything not corrected, suggested less other, from k = 2 on. The suggestion's weights",
        "were chosen on other cases and seeds than those named held out.",
        "",
    ]
    body, sums = [], []
    for other in ("uniform", "random", "organ"):
        found = compare.duels(rows, other)
        for duel in found:
            steps = ", ".join(f"{k}: {value:+.3f}" for k, value in duel.differences.items())
            wins = f"{duel.wins} of {len(duel.differences)}"
            body.append([duel.case, plan.methods[duel.method].label, other, f"{duel.mean:+.3f}", wins, steps])
        for what, cases in (("held out", plan.held_out), ("others", set(plan.cases) - set(plan.held_out))):
            mean, wins_, every = compare.together(found, cases)
            if every:
                sums.append([what, other, f"{mean:+.3f}", f"{wins_} of {every}"])
    lines += _table(["cases", "suggested less", "mean", "better in"], sums)
    return lines + _table(["case", "method", "suggested less", "mean", "better in", "by k"], body)


def _gate(rows: Sequence[Row]) -> list[str]:
    # a training that was made again to be cross-checked counts once
    found = compare.gates([row for row in rows if "cross_check" not in row["facts"]])
    if not found.n:
        return ["No fine-tuning held slices back.", ""]
    lines = [
        f"{found.n} fine-tunings held corrected slices back (one in five, from four on).",
        *_verdicts(found, "the held-back slices"),
    ]
    if found.by_slice is not None:
        lines.append(
            "A mean over the held-back slices' own Dice, 1 where mask and truth lack a class, would have warned of "
            f"{found.by_slice[0]}, and in {found.by_slice[1]} of these the rest did not fall."
        )
    return [*lines, "", *_cross_check(rows)]


def _verdicts(found: compare.Gates, where: str) -> list[str]:
    return [
        f"Dice on {where} fell by more than 0.01 without a warning in {found.unwarned}; "
        f"{found.warned} were warned of, in {found.clear} as worse by more than the noise.",
        f"On everything that was not corrected, Dice rose by more than 0.01 in {found.rose} and fell by more than 0.01 "
        f"in {found.fell}, of which {found.missed} without a warning; in {found.false} of the {found.warned} warned of "
        "it did not.",
    ]


def _cross_check(rows: Sequence[Row]) -> list[str]:
    """Return the verdicts of the cross-checks, and of the gate in the very same fine-tunings."""
    both = [row for row in rows if "cross_check" in row["facts"] or not row["k"]]
    found, held = compare.gates(both, "cross_check"), compare.gates(both)
    if not found.n:
        return []
    return [
        f"{found.n} of them, made again, were cross-checked: each corrected slice judged by a training without it.",
        *_verdicts(found, "these slices"),
        f"The slices held back had warned of {held.warned} of the same {held.n} fine-tunings, {held.false} of them "
        f"falsely, and missed {held.missed}.",
        "",
    ]
