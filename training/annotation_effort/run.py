"""Runs the cells of a plan that are missing, one after another or several at a time."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from napari_llm4seg.corrections.suggest import Weights
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
    jobs: int = 1,
    say: Say = print,
) -> int:
    """Train what is missing, in the plan's order, and return how many cells are still missing.

    Called again it goes on where it stopped.

    Parameters
    ----------
    plan, plan_file
        The plan and its file; recipes are relative to it.
    out : Path
        Gets ``rows.jsonl``; of several processes each writes one of its own beside it.
    only : tuple of str
        Sessions whose name holds one of these; all by default.
    minutes : float, optional
        No cell is begun later than that after the start.
    device : str
        As ``llm4seg train`` takes it.
    jobs : int
        Sessions at a time, each in a process of its own; one by default, in this process.
    """
    ends = None if minutes is None else _now() + datetime.timedelta(minutes=minutes)
    sessions = [each for each in plan.sessions() if not only or any(part in each.name for part in only)]
    shared = _Shared(plan, plan_file, out, ends, device, circumstances())
    if jobs == 1:
        cases: dict[str, Case] = {}
        log = Log(out)
        return sum(run_session(shared, session, log, cases, say) for session in sessions)
    missing = 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        # those that follow others need their rows
        for follow in (False, True):
            wave = [each for each in sessions if _follows(plan, each) == follow]
            for left, told in pool.map(_run_apart, [(shared, session) for session in wave]):
                missing += left
                for line in told:
                    say(line)
    return missing


@dataclass(frozen=True)
class _Shared:
    """What all sessions of a run have in common."""

    plan: Plan
    plan_file: Path
    out: Path
    ends: datetime.datetime | None
    device: str
    machine: dict[str, Any]


_LOADED: dict[str, Case] = {}


def _run_apart(work: tuple[_Shared, Session]) -> tuple[int, list[str]]:
    """Run a session in a process of a pool; return how many cells are missing and what there is to say."""
    shared, session = work
    told: list[str] = []
    log = Log(shared.out, part=f"-{os.getpid()}")
    return run_session(shared, session, log, _LOADED, told.append), told


def run_session(shared: _Shared, session: Session, log: Log, cases: dict[str, Case], say: Say) -> int:
    """Train what is missing of a session and return how many cells still are; ``cases`` are those read so far."""
    plan = shared.plan
    missing = 0
    before: Row | None = None
    for k in _steps(plan, session):
        row = log.find(session, k, plan.digest(session))
        if row is None and shared.ends is not None and _now() > shared.ends:
            missing += 1
            continue
        if row is None:
            if session.case not in cases:
                cases[session.case] = load_case(session.case, plan.cases[session.case], shared.plan_file.parent)
            row = run_cell(plan, session, cases[session.case], k, before, log, shared.device)
            if row is None:
                continue
            # a forest knows no other device
            device = "cpu" if plan.methods[session.method].kind == "forest" else shared.device
            log.add(row | {"machine": shared.machine, "device": device})
            say(_told(session, row))
        before = row
    return missing


def _follows(plan: Plan, session: Session) -> bool:
    return session.choice == "suggested" and plan.methods[session.method].follows is not None


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
        weights = Weights(**plan.methods[session.method].suggest)
        return suggested(k, len(case), case.stack, chosen, evidence, case.present(), weights)
    return unsuggested(session.choice, k, len(case), case.present(), session.seed)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _told(session: Session, row: Row) -> str:
    seconds = row["seconds"]
    return (
        f"{session.name} k={row['k']}: Dice {dice(row):.3f}, in the extent {dice(row, 'extent'):.3f}; "
        f"{seconds['learning']:.0f} s, {seconds['learning_cpu']:.0f} s of processor; {row['slices']}"
        + (f"; as {row['same_as']}" if "same_as" in row else "")
    )
