"""The plan of a study: which arms are trained on which data with which seeds, as data in one YAML file.

::

    title: Does a frozen language-model layer help?
    recipes: {busi: ../recipes/study_busi.yaml}     # data set: recipe, relative to the plan
    seeds: [0, 1]
    arms:                                           # first comes the reference
      cnn: {label: CNN, role: reference, set: {model.block: null}}
      smollm2: {label: frozen SmolLM2 layer 14, role: llm, set: {model.block: {...}}}
    variants:
      none: {label: no positions, axis: positions, of: smollm2, set: {model.block.positions: none}}

``set`` holds overrides of the recipe as ``llm4seg train --set`` takes them, ``by_seed`` further ones for one seed. A
variant's come on top of those of the arm it is ``of``; "best" is the arm of role "llm" with the best validation score,
known once the arms have run. ``axis`` is what a variant changes.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_llm4seg.config import explain
from napari_llm4seg.errors import ConfigError, one_line
from napari_llm4seg.files import read_json

REPORT, PLAN, BEST = "report.json", "plan.yaml", "best"
NAME = r"^[a-z0-9][a-z0-9_.-]{0,60}$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Arm(_Frozen):
    """One way to build the network.

    ``role``: "reference" is what every arm is compared with, "control" the adapters without a layer, with which the
    others are compared too; "random" a frozen layer that never saw language, with which those of role "llm" are; among
    the latter the best is chosen. ``datasets`` and ``seeds`` restrict it.
    """

    label: str = Field(min_length=1, max_length=80)
    role: Literal["reference", "control", "random", "llm", "other"] = "other"
    set: dict[str, Any] = Field(default_factory=dict)
    by_seed: dict[int, dict[str, Any]] = Field(default_factory=dict)
    of: str | None = None
    axis: str = ""
    datasets: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None


class Plan(_Frozen):
    """The whole study; see the module. ``seed_keys`` are the recipe's fields that a seed sets."""

    title: str
    note: str = ""
    recipes: dict[str, Path]
    seeds: tuple[int, ...] = Field(min_length=1)
    seed_keys: tuple[str, ...] = ("fit.seed",)
    arms: dict[str, Arm]
    variants: dict[str, Arm] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        import re

        names = [*self.recipes, *self.arms, *self.variants]
        bad = next((name for name in names if not re.match(NAME, name)), None)
        if bad is not None:
            raise ValueError(f"'{bad[:60]}' names a folder and needs small letters, digits, '-', '_' and '.' only")
        twice = set(self.arms) & set(self.variants)
        if twice:
            raise ValueError(f"'{min(twice)}' is both an arm and a variant; give the variant another name")
        for role in ("reference", "control"):
            if sum(arm.role == role for arm in self.arms.values()) != 1:
                raise ValueError(f"arms: needs exactly one of role '{role}'")
        for name, arm in (self.arms | self.variants).items():
            known = (*self.arms, BEST) if name in self.variants else (None,)
            if arm.of not in known:
                raise ValueError(f"'{name}': of: '{arm.of}' is no arm; a variant needs one (or 'best'), an arm none")
            unknown = set(arm.datasets or ()) - set(self.recipes)
            if unknown:
                raise ValueError(f"'{name}': datasets: '{min(unknown)}' is none of {', '.join(self.recipes)}")
        return self

    def with_role(self, role: str) -> list[str]:
        """Return the arms' names of that role, in the plan's order."""
        return [name for name, arm in self.arms.items() if arm.role == role]

    @property
    def reference(self) -> str:
        return self.with_role("reference")[0]

    @property
    def control(self) -> str:
        return self.with_role("control")[0]


@dataclass(frozen=True)
class PlannedRun:
    """One training: where it lies below the folder of runs, and what it changes in its data set's recipe."""

    dataset: str
    arm: str
    seed: int
    overrides: dict[str, Any]

    @property
    def path(self) -> Path:
        return Path(self.dataset, self.arm, f"seed{self.seed}")

    def settings(self) -> list[str]:
        """Return the overrides as ``--set`` takes them."""
        return [f"{key}={json.dumps(value)}" for key, value in self.overrides.items()]


def read_plan(path: Path) -> Plan:
    """Read a plan; its recipes come back as paths that exist.

    Raises
    ------
    ConfigError
        One line naming the field.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"Plan '{path}' cannot be read: {one_line(error, 160)}") from error
    try:
        plan = Plan.model_validate(raw)
    except ValidationError as error:
        raise explain(error, f"plan '{path.name}'") from error
    recipes = {name: (path.parent / recipe).resolve() for name, recipe in plan.recipes.items()}
    missing = next((recipe for recipe in recipes.values() if not recipe.is_file()), None)
    if missing is not None:
        raise ConfigError(f"Plan '{path.name}' names the recipe '{missing}', which does not exist.")
    return plan.model_copy(update={"recipes": recipes})


def planned_runs(plan: Plan, best: str | None) -> Iterator[PlannedRun]:
    """Yield the runs: the first seed of all arms on all data sets, then the next; then the variants likewise.

    Variants of "best" are left out while ``best`` is None.
    """
    for group in (plan.arms, plan.variants):
        for seed in plan.seeds:
            for dataset in plan.recipes:
                for name, arm in group.items():
                    base = best if arm.of == BEST else arm.of
                    wanted = arm.datasets is None or dataset in arm.datasets
                    if not wanted or seed not in (arm.seeds or plan.seeds) or (arm.of and base is None):
                        continue
                    under = overrides_of(plan.arms[base], seed) if base else {}
                    own = overrides_of(arm, seed) | dict.fromkeys(plan.seed_keys, seed)
                    yield PlannedRun(dataset, name, seed, under | own)


def overrides_of(arm: Arm, seed: int) -> dict[str, Any]:
    """Return an arm's own overrides for one seed."""
    return arm.set | arm.by_seed.get(seed, {})


def is_of_plan(plan: Plan, run: PlannedRun, report: dict[str, Any]) -> bool:
    """Return whether a finished run was trained by the recipe that the plan gives it now; names and places aside."""
    from napari_llm4seg.engine.recipe import Recipe, load_recipe

    apart: Any = {"card": True, "data": {"root"}}
    wanted = load_recipe(plan.recipes[run.dataset], run.settings()).model_dump(mode="json", exclude=apart)
    try:
        return Recipe.model_validate(report["recipe"]).model_dump(mode="json", exclude=apart) == wanted
    except (KeyError, ValidationError):
        return False


def validation_score(report: dict[str, Any]) -> float:
    """Return the validation IoU of a run's last stage: what arms may be chosen by."""
    return float(report["training"]["stages"][-1]["val_iou"])


def validation_scores(plan: Plan, runs: Path, names: list[str]) -> dict[str, float]:
    """Return mean validation IoU of each arm over the (data set, seed) pairs that all of them have; {} without any."""
    logged: dict[str, dict[tuple[str, int], float]] = {}
    for name in names:
        found = {}
        for dataset in plan.recipes:
            for seed in plan.seeds:
                path = runs / dataset / name / f"seed{seed}" / REPORT
                if path.is_file():
                    found[dataset, seed] = validation_score(read_json(path, "training report", limit=1 << 24))
        logged[name] = found
    shared = set.intersection(*(set(found) for found in logged.values())) if logged else set()
    return {name: statistics.fmean(found[key] for key in shared) for name, found in logged.items()} if shared else {}


def best_llm(plan: Plan, runs: Path, complete: bool = True) -> str | None:
    """Return the arm of role "llm" with the best mean validation IoU, None while it cannot be said.

    Parameters
    ----------
    complete : bool
        Whether all seeds on all data sets must have run, so that a choice once acted on stays. Else it is among the
        arms that have a finished run.
    """
    names = plan.with_role("llm")
    if complete:
        needed = [run for run in planned_runs(plan, None) if run.arm in names]
        if not all((runs / run.path / REPORT).is_file() for run in needed):
            return None
    names = [name for name in names if any(runs.glob(f"*/{name}/seed*/{REPORT}"))]
    scores = validation_scores(plan, runs, names)
    return max(scores, key=lambda name: scores[name]) if scores else None
