"""Reads what the runs of a plan have left: scores of every test image, curves, weights, circumstances."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.files import read_json
from training.study.analyse import ANALYSIS
from training.study.plan import (
    PLAN,
    REPORT,
    Arm,
    Plan,
    PlannedRun,
    best_llm,
    is_of_plan,
    planned_runs,
    read_plan,
    validation_score,
)
from training.study.run import NOTE

_LIMIT = 1 << 24


@dataclass(frozen=True)
class LoggedRun:
    """One finished run.

    Attributes
    ----------
    planned : PlannedRun
    folder : Path
    report : dict
        ``report.json`` of ``llm4seg train``.
    """

    planned: PlannedRun
    folder: Path
    report: dict[str, Any]

    @property
    def val_iou(self) -> float:
        return validation_score(self.report)

    @cached_property
    def scored(self) -> dict[str, dict[str, Any]]:
        """Rows of the test images that hold a structure and were scored, by case."""
        return {row["case"]: row for row in self.report["test_cases"] if not row.get("error") and not row["empty"]}

    @cached_property
    def empties(self) -> list[dict[str, Any]]:
        """Rows of the test images whose mask is empty."""
        return [row for row in self.report["test_cases"] if not row.get("error") and row["empty"]]

    @cached_property
    def failures(self) -> list[str]:
        """Test images that gave no score."""
        return [row["case"] for row in self.report["test_cases"] if row.get("error")]

    def mean(self, score: str) -> float:
        """Return the mean of "iou", "dice" or "hd95" over the scored images."""
        return statistics.fmean(row[score] for row in self.scored.values())

    @cached_property
    def split(self) -> dict[str, list[str]]:
        split: dict[str, list[str]] = read_json(self.folder / "split.json", "split", limit=_LIMIT)
        return split

    @cached_property
    def note(self) -> dict[str, Any]:
        """Commit, dates and machine, {} for a run that was not started by the study's command."""
        return self._optional(NOTE)

    @cached_property
    def analysis(self) -> dict[str, Any]:
        """``analysis.json``, {} before the run was analysed, or trained again after it was."""
        found = self._optional(ANALYSIS)
        return found if found.get("digest") == self.report["digest"] else {}

    def _optional(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return read_json(path, name, limit=_LIMIT) if path.is_file() else {}

    @cached_property
    def curve(self) -> list[dict[str, float]]:
        """The log's rows over all stages; empty cells are left out."""
        rows: list[dict[str, float]] = []
        for path in sorted(self.folder.glob("stage*/log.csv"), key=lambda p: int(p.parent.name[5:])):
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    rows.append({key: float(value) for key, value in row.items() if key and _is_number(value)})
        return rows

    @property
    def seconds_per_epoch(self) -> float | None:
        """Median wall time of an epoch with its validation; the log's clock restarts with every resume."""
        clock = [row["seconds"] for row in self.curve if "seconds" in row]
        steps = [now - before if now > before else now for before, now in zip([0.0, *clock], clock, strict=False)]
        return statistics.median(steps) if steps else None


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


class Study:
    """A plan with those of its runs that are finished.

    Parameters
    ----------
    folder : Path
        Of runs, as ``training.study.run`` lays it.
    plan : Plan

    Attributes
    ----------
    runs : finished runs by (data set, arm, seed)
    missing : planned runs that are not finished
    unplanned : folders of finished runs that the plan does not name
    foreign : planned runs whose folder holds one of another recipe than the plan's; they are left out
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.best = best_llm(plan, folder, complete=False)
        self.runs: dict[tuple[str, str, int], LoggedRun] = {}
        self.missing: list[PlannedRun] = []
        self.foreign: list[PlannedRun] = []
        for planned in planned_runs(plan, self.best):
            path = folder / planned.path
            if not (path / REPORT).is_file():
                self.missing.append(planned)
                continue
            report = read_json(path / REPORT, "training report", limit=_LIMIT)
            if is_of_plan(plan, planned, report):
                self.runs[planned.dataset, planned.arm, planned.seed] = LoggedRun(planned, path, report)
            else:
                self.foreign.append(planned)
        named = {planned.path for planned in planned_runs(plan, self.best)}
        there = (path.parent.relative_to(folder) for path in sorted(folder.glob(f"*/*/seed*/{REPORT}")))
        self.unplanned = [path for path in there if path not in named]
        for dataset in plan.recipes:
            self._same_splits(dataset)

    @classmethod
    def read(cls, folder: Path, plan_file: Path) -> Study:
        """Read the runs below ``folder`` by the plan in it, or else by ``plan_file``."""
        own = folder / PLAN
        study = cls(folder, read_plan(own if _is_readable(own) else plan_file))
        if not study.runs:
            other = f" ({len(study.foreign)} of another recipe than the plan's)" if study.foreign else ""
            example = next(planned_runs(study.plan, study.best)).path
            raise InputError(f"'{folder}' holds no finished run of the plan{other}; they belong at e.g. '{example}'.")
        return study

    def _same_splits(self, dataset: str) -> None:
        """Raise InputError where two runs that will be compared were split differently."""
        first: dict[int, LoggedRun] = {}
        for (name, _, seed), run in self.runs.items():
            if name != dataset:
                continue
            other = first.setdefault(seed, run)
            if run.split != other.split:
                raise InputError(
                    f"'{run.folder}' and '{other.folder}' split the data differently and cannot be compared; "
                    "train one of them again."
                )

    def arm(self, name: str) -> Arm:
        return (self.plan.arms | self.plan.variants)[name]

    def base(self, name: str) -> str | None:
        """Return the arm that a variant changes."""
        of = self.arm(name).of
        return self.best if of == "best" else of

    def of(self, dataset: str, arm: str) -> list[LoggedRun]:
        """Return an arm's finished runs on a data set, by seed."""
        return [run for (d, a, _), run in sorted(self.runs.items()) if (d, a) == (dataset, arm)]

    def logged(self, dataset: str, names: Iterable[str]) -> list[str]:
        """Return those of ``names`` that have a finished run on the data set."""
        return [name for name in names if self.of(dataset, name)]

    def groups(self, dataset: str) -> dict[str, str]:
        """Return the near-duplicate group of each test image, {} while no run was analysed."""
        found: dict[str, str] = {}
        for (name, _, _), run in self.runs.items():
            if name == dataset:
                found |= run.analysis.get("groups", {})
        return found

    def differences(
        self, dataset: str, arm: str, reference: str, score: str
    ) -> tuple[npt.NDArray[np.float64], list[str]]:
        """Return arm minus reference for every seed that both have and every image, and the images' names.

        Returns
        -------
        array (seeds, images), NaN where an image was not scored in both; list of case names
        """
        ours = {run.planned.seed: run.scored for run in self.of(dataset, arm)}
        theirs = {run.planned.seed: run.scored for run in self.of(dataset, reference)}
        seeds = sorted(set(ours) & set(theirs))
        cases = sorted({case for seed in seeds for case in set(ours[seed]) & set(theirs[seed])})
        table = np.full((len(seeds), len(cases)), np.nan)
        for i, seed in enumerate(seeds):
            for j, case in enumerate(cases):
                if case in ours[seed] and case in theirs[seed]:
                    table[i, j] = ours[seed][case][score] - theirs[seed][case][score]
        return table, cases


def _is_readable(plan_file: Path) -> bool:
    """Return whether there is a plan whose recipes can be found from where it lies."""
    from napari_llm4seg.errors import ConfigError

    try:
        read_plan(plan_file)
    except ConfigError:
        return False
    return True
