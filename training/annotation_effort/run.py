"""Runs the cells of a plan that are missing, one after another in this process."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from training.annotation_effort.cases import Case, load_case
from training.annotation_effort.choose import suggested, unsuggested
from training.annotation_effort.methods import learn
from training.annotation_effort.plan import Plan, Session
from training.annotation_effort.rows import Log, Row, counts, dice, packed, unpacked
from training.study.run import circumstances

Say = Callable[[str], None]


def run_plan(
    plan: Plan,
    plan_file: Path,
    out: Path,
    *,
    only: tuple[str, ...] = (),
    minutes: float | None = None,
    device: str = "cpu",
    say: Say = print,
) -> int:
    """Train what is missing, in the plan's order, and return how many cells are still missing.

    Called again it goes on where it stopped.

    Parameters
    ----------
    plan, plan_file
        The plan and its file; recipes are relative to it.
    out : Path
        Gets ``rows.jsonl``.
    only : tuple of str
        Sessions whose name holds one of these; all by default.
    minutes : float, optional
        No cell is begun later than that after the start.
    device : str
        As ``llm4seg train`` takes it.
    """
    log = Log(out)
    started = datetime.datetime.now(datetime.UTC)
    machine = circumstances()
    cases: dict[str, Case] = {}
    missing = 0
    for session in plan.sessions():
        if only and not any(part in session.name for part in only):
            continue
        before: Row | None = None
        for k in _steps(plan, session):
            row = log.find(session, k, plan.digest(session))
            late = minutes is not None and _minutes_since(started) > minutes
            if row is None and late:
                missing += 1
                continue
            if row is None:
                if session.case not in cases:
                    cases[session.case] = load_case(session.case, plan.cases[session.case], plan_file.parent)
                row = run_cell(plan, session, cases[session.case], k, before, log, device)
                if row is None:
                    continue
                log.add(row | {"machine": machine})
                say(_told(session, row))
            before = row
    return missing


def _steps(plan: Plan, session: Session) -> list[int]:
    """Return the numbers of slices; a starter is asked before any, too."""
    begins = [0] if plan.methods[session.method].kind == "finetune" else []
    return [*begins, *session.steps]


def run_cell(plan: Plan, session: Session, case: Case, k: int, before: Row | None, log: Log, device: str) -> Row | None:
    """Return the row of a cell, None where the case has too few slices for it.

    ``before`` is the session's last row, by whose evidence the next slices are suggested.
    """
    if k >= len(case) or (session.choice == "organ" and k > len(case.present())):
        return None
    method, digest = plan.methods[session.method], plan.digest(session)
    slices = choose(plan, session, case, k, before, log)
    if slices is None:
        return None
    row: Row = {"case": case.name, "method": session.method, "choice": session.choice, "seed": session.seed, "k": k}
    row |= {"digest": digest, "slices": slices, "stack": case.stack}
    same = log.same(session, slices, digest)
    if same is not None:
        return same | row | {"same_as": same["choice"]}
    outcome = learn(method, case, slices, session.seed, device)
    row |= counts(case, outcome.said)
    row |= {"evidence": packed(outcome.said.evidence), "facts": outcome.facts}
    row["seconds"] = {
        "learning": round(outcome.learning.wall, 2),
        "learning_cpu": round(outcome.learning.cpu, 2),
        "saying": round(outcome.saying.wall, 2),
        "saying_cpu": round(outcome.saying.cpu, 2),
    }
    row["load"] = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return row


def choose(plan: Plan, session: Session, case: Case, k: int, before: Row | None, log: Log) -> list[int] | None:
    """Return which ``k`` slices of the case are corrected; None while the method it follows has not come so far."""
    if k == 0:
        return []
    if session.choice == "suggested":
        leader = plan.methods[session.method].follows
        if leader is not None:
            other = replace(session, method=leader)
            row = log.find(other, k, plan.digest(other))
            return None if row is None else list(row["slices"])
        chosen, evidence = ([], {}) if before is None else (before["slices"], unpacked(before["evidence"]))
        return suggested(k, len(case), case.stack, chosen, evidence, case.present())
    return unsuggested(session.choice, k, len(case), case.present(), session.seed)


def _minutes_since(moment: datetime.datetime) -> float:
    return (datetime.datetime.now(datetime.UTC) - moment).total_seconds() / 60


def _told(session: Session, row: Row) -> str:
    seconds = row["seconds"]
    return (
        f"{session.name} k={row['k']}: Dice {dice(row):.3f}, in the extent {dice(row, 'extent'):.3f}; "
        f"{seconds['learning']:.0f} s, {seconds['learning_cpu']:.0f} s of processor; {row['slices']}"
        + (f"; as {row['same_as']}" if "same_as" in row else "")
    )
