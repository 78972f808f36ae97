"""Running a plan: real learning on a made scan, resumed."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from napari_llm4seg.checkpoint import Checkpoint, resolve
from napari_llm4seg.config import FinetuneConfig
from napari_llm4seg.engine.scratch import SCRATCH
from tests.annotation_effort.made import PLAN, SLICES, case, write
from training.annotation_effort import forest
from training.annotation_effort.cases import load_case
from training.annotation_effort.forest import Forest
from training.annotation_effort.methods import learn, settings, without_block
from training.annotation_effort.plan import CaseConfig, MethodConfig, Plan, read_plan
from training.annotation_effort.rows import Log, counts, dice, key
from training.annotation_effort.run import run_plan

pytest.importorskip("sklearn")


def test_a_forest_learns_the_ball_and_names_the_probability_of_each_class() -> None:
    made = case()
    learner = Forest([1, 4])  # no slice shows class 4
    learner.fit([made.image(z) for z in (5, 8)], [made.truths[z] for z in (5, 8)])
    said = learner.probabilities(made.image(7))
    assert said.shape == (3, *made.truths[7].shape)
    np.testing.assert_allclose(said.sum(axis=0), 1, atol=1e-5)
    assert not said[2].any()
    hit = 2 * ((said[1] > 0.5) & (made.truths[7] > 0)).sum() / ((said[1] > 0.5).sum() + made.truths[7].sum())
    assert hit > 0.9


def test_a_run_leaves_a_row_for_every_cell_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    monkeypatch.setenv("LLM4SEG_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(forest, "TREES", 12)
    out, told = tmp_path / "runs", []
    plan = read_plan(path)
    assert run_plan(plan, path, out, minutes=0, say=told.append) == 7
    assert run_plan(plan, path, out, only=("forest",), say=told.append) == 0
    rows = Log(out).rows
    assert [(row["choice"], row["k"]) for row in rows] == [
        (choice, k) for choice in ("suggested", "uniform", "organ") for k in (1, 3)
    ]
    assert all(len(set(row["slices"])) == row["k"] for row in rows)
    assert all(len(row["true"]) == SLICES for row in rows)
    assert rows[2]["same_as"] == "suggested"  # both begin with the middle of the ball: one training
    assert rows[1]["slices"][0] == rows[0]["slices"][0]
    assert dice(rows[-1], "extent") > 0.9
    before = len(told)
    assert run_plan(plan, path, out, say=told.append) == 0
    assert len(told) == before + 1  # what follows the forest alone was missing
    assert Log(out).rows[-1]["slices"] == rows[1]["slices"]
    assert not list(tmp_path.glob("llm4seg-study-*"))


def test_several_sessions_at_a_time_leave_the_rows_that_one_by_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    monkeypatch.setenv("LLM4SEG_DATA", str(tmp_path / "data"))
    plan, told = read_plan(path), []
    assert run_plan(plan, path, tmp_path / "two", only=("forest", "again"), jobs=2, say=told.append) == 0
    assert run_plan(plan, path, tmp_path / "one", only=("forest", "again"), say=told.append) == 0
    rows = [{key(row): row["hits"] for row in Log(tmp_path / name).rows} for name in ("two", "one")]
    assert len(rows[0]) == 7
    assert rows[0] == rows[1]


def test_more_slices_than_the_case_has_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = copy.deepcopy(PLAN)
    raw["blocks"] = [{"cases": ["ball"], "methods": ["forest"], "choices": ["organ", "uniform"], "steps": [SLICES]}]
    path = write(tmp_path, raw)
    monkeypatch.setenv("LLM4SEG_DATA", str(tmp_path / "data"))
    assert run_plan(read_plan(path), path, tmp_path / "runs") == 0
    assert Log(tmp_path / "runs").rows == []


def test_the_network_learns_through_a_project_of_corrections() -> None:
    made = case()
    method = Plan.model_validate(PLAN).methods["scratch"]
    outcome = learn(method, made, [5, 8], seed=1)
    assert len(outcome.said.labels) == len(made)
    assert set(outcome.said.evidence) == set(range(len(made)))
    assert outcome.facts["trained_on"] == 2
    assert outcome.facts["epochs"] == 20
    assert outcome.learning.cpu > 0
    assert outcome.learning.wall > 0
    assert counts(made, outcome.said)["true"] == [[int(truth.sum())] for truth in made.truths]


def test_epochs_follow_from_passes_and_no_clock_ends_a_training() -> None:
    method = MethodConfig(kind="scratch", label="x", passes=400, fit={"lr": 0.5}, more={"hold_back": 0.3})
    few, many = settings(method, SCRATCH, 5, 7), settings(method, SCRATCH, 100, 7)
    assert (few.fit.epochs, many.fit.epochs) == (80, 20)
    assert (few.seconds, few.fit.lr, few.fit.seed, few.hold_back) == (None, 0.5, 7, 0.3)
    plain = settings(MethodConfig(kind="finetune", label="x", model="m"), FinetuneConfig(), 5, 0)
    assert plain == FinetuneConfig(seconds=None)


def test_the_scan_is_read_with_the_asked_for_value_as_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setenv("LLM4SEG_DATA", str(tmp_path / "data"))
    config = CaseConfig(image="scan.nii.gz", mask="labels.nii.gz", values={"box": 2, "ball": 7})
    read = load_case("both", config, tmp_path)
    assert [spec.name for spec in read.classes] == ["box", "ball"]
    assert set(np.unique(np.stack(read.truths))) == {0, 1, 2}
    assert (np.stack(read.truths) == 2).sum() == sum(int((truth == 1).sum()) for truth in case().truths)


def test_a_starter_without_its_block_still_predicts() -> None:
    whole = Checkpoint.load(resolve("hippocampus-mri"))
    plain = without_block(whole)
    assert plain.config.model.block is None
    assert plain.digest != whole.digest
    assert set(plain.tensors) < set(whole.tensors)
    plain.build()
