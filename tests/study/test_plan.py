"""Plans: what is read, in which order it is trained, and how the best arm is chosen."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from napari_llm4seg.engine.recipe import load_recipe
from napari_llm4seg.errors import ConfigError
from tests.study.made import PLAN, write_plan, write_runs
from training.study.plan import best_llm, planned_runs, read_plan, validation_scores

SHIPPED = Path(__file__).resolve().parents[2] / "training" / "study" / "plan.yaml"


def test_complete_seeds_come_first_then_variants(tmp_path: Path) -> None:
    plan = read_plan(write_plan(tmp_path))
    arms = ["cnn", "adapters", "small", "large"]
    first = [(run.arm, run.seed) for run in planned_runs(plan, None)]
    assert first == [(arm, seed) for seed in (0, 1) for arm in arms] + [("none", 0)]
    late = [(run.arm, run.seed) for run in planned_runs(plan, "large")][8:]
    assert late == [("full", 0), ("none", 0), ("full", 1)]


def test_overrides_reach_the_recipe(tmp_path: Path) -> None:
    plan = read_plan(write_plan(tmp_path))
    runs = {(run.arm, run.seed): run for run in planned_runs(plan, "large")}
    assert str(runs["full", 1].path) == "discs/full/seed1"
    recipe = load_recipe(plan.recipes["discs"], runs["full", 1].settings())
    assert recipe.fit.seed == 1
    assert recipe.model.block is not None
    assert (recipe.model.block.mask, recipe.model.block.hidden) == ("full", 48)
    assert load_recipe(plan.recipes["discs"], runs["cnn", 0].settings()).model.block is None


def test_overrides_of_one_seed(tmp_path: Path) -> None:
    raw = copy.deepcopy(PLAN)
    raw["arms"]["small"]["by_seed"] = {1: {"model.block.mask": "full"}}
    plan = read_plan(write_plan(tmp_path, raw))
    masks = {}
    for run in planned_runs(plan, None):
        block = load_recipe(plan.recipes["discs"], run.settings()).model.block
        masks[run.arm, run.seed] = block and block.mask
    assert (masks["small", 0], masks["small", 1], masks["large", 1]) == ("causal", "full", "causal")


def test_the_best_layer_is_chosen_by_validation_alone(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={"small": 0.2}, val={"small": 0.61, "large": 0.60})
    plan = read_plan(runs / "plan.yaml")
    assert best_llm(plan, runs) == "small"
    assert validation_scores(plan, runs, ["small", "large"]) == pytest.approx({"small": 0.6105, "large": 0.6005})
    (runs / "discs" / "large" / "seed1" / "report.json").unlink()
    assert best_llm(plan, runs) is None
    assert best_llm(plan, runs, complete=False) == "small"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": {"a": {"label": "A"}}}, "role 'reference'"),
        ({"variants": {"v": {"label": "V", "of": "nobody"}}}, "is no arm"),
        ({"variants": {"cnn": {"label": "V", "of": "small"}}}, "both an arm and a variant"),
        ({"recipes": {"../discs": "discs.yaml"}}, "names a folder"),
        ({"recipes": {"discs": "none.yaml"}}, "does not exist"),
        ({"speed": 3}, "speed"),
    ],
)
def test_wrong_plans_are_one_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        read_plan(write_plan(tmp_path, copy.deepcopy(PLAN) | change))
    assert "\n" not in str(error.value)


def test_an_unreadable_plan(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plan(tmp_path / "plan.yaml")


def test_the_shipped_plan_gives_valid_recipes_that_differ_in_the_block_alone() -> None:
    plan = read_plan(SHIPPED)
    seen = set()
    for run in planned_runs(plan, plan.with_role("llm")[0]):
        recipe = load_recipe(plan.recipes[run.dataset], run.settings())
        rest = recipe.model_copy(
            update={
                "model": recipe.model.model_copy(update={"block": None}),
                "fit": recipe.fit.model_copy(update={"seed": 0}),
            }
        )
        seen.add((run.dataset, rest.model_dump_json()))
        assert recipe.fit.seed == run.seed
    assert len(seen) == len(plan.recipes)
    assert {"reference", "control", "random", "llm"} <= {arm.role for arm in plan.arms.values()}
