from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from napari_llm4seg.errors import ConfigError
from tests.annotation_effort.made import PLAN
from training.annotation_effort.__main__ import SHIPPED
from training.annotation_effort.plan import Plan, read_plan


def test_sessions_come_once_in_the_blocks_order_with_every_step_asked_of_them() -> None:
    raw = copy.deepcopy(PLAN)
    raw["blocks"].append(
        {"cases": ["ball"], "methods": ["forest"], "choices": ["uniform"], "steps": [2], "seeds": [0, 1]}
    )
    sessions = Plan.model_validate(raw).sessions()
    assert [session.name for session in sessions] == [
        "ball/forest/suggested/seed0",
        "ball/forest/uniform/seed0",
        "ball/forest/organ/seed0",
        "ball/again/suggested/seed0",
        "ball/forest/uniform/seed1",
    ]
    assert sessions[1].steps == (1, 2, 3)


def test_a_row_is_known_by_the_settings_of_its_case_and_method_alone() -> None:
    plan = Plan.model_validate(PLAN)
    other = copy.deepcopy(PLAN) | {"title": "Other"}
    other["methods"]["scratch"]["passes"] = 2
    changed = Plan.model_validate(other)
    forest, scratch = plan.sessions()[0], next(s for s in _all(plan) if s.method == "scratch")
    assert plan.digest(forest) == changed.digest(forest)
    assert plan.digest(scratch) != changed.digest(scratch)


def _all(plan: Plan) -> list[Any]:
    blocks = ({"cases": ["ball"], "methods": list(plan.methods), "choices": ["uniform"], "steps": [1]},)
    return Plan.model_validate(plan.model_dump() | {"blocks": blocks}).sessions()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw["blocks"][0].update(cases=["bal"]), "'bal' is no case of the plan"),
        (lambda raw: raw["blocks"][0].update(steps=[3, 1]), "rising"),
        (lambda raw: raw["methods"]["scratch"].update(model="x"), "model: fine-tuning needs"),
        (lambda raw: raw["methods"]["again"].update(follows="none"), "is no method of the plan"),
        (lambda raw: raw["cases"].update(ball={"recipe": "a.yaml", "part": "test", "number": 0}), "'val'"),
        (lambda raw: raw["cases"].update(ball={"recipe": "a.yaml"}), "the number of a volume or the stratum"),
        (lambda raw: raw["cases"].update(ball={"image": "a.nii"}), "needs a mask"),
    ],
)
def test_what_cannot_be_run_is_one_line(change: Any, said: str, tmp_path: Path) -> None:
    raw = copy.deepcopy(PLAN)
    change(raw)
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=said) as caught:
        read_plan(path)
    assert "\n" not in str(caught.value)


def test_the_shipped_plan_can_be_read_and_names_recipes_that_exist() -> None:
    plan = read_plan(SHIPPED)
    assert all((SHIPPED.parent / case.recipe).is_file() for case in plan.cases.values() if case.recipe)
    assert set(plan.held_out) <= set(plan.cases)
    assert plan.sessions()


def test_a_later_field_at_its_default_leaves_digests_as_they_were() -> None:
    plan = Plan.model_validate(PLAN)
    session = plan.sessions()[0]
    raw = copy.deepcopy(PLAN)
    raw["methods"]["forest"]["check"] = False
    assert Plan.model_validate(raw).digest(session) == plan.digest(session)
    raw["methods"]["forest"]["check"] = True
    assert Plan.model_validate(raw).digest(session) != plan.digest(session)
