"""The report from made runs: figures, verdicts by rule, what is missing, and nothing that was not measured."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_llm4seg.errors import InputError
from tests.study.made import write_runs
from training.study import __main__ as command
from training.study.choice import choice, clearly_ahead
from training.study.logged import Study
from training.study.report import make_report
from training.study.stats import Comparison, Interval
from training.study.verdict import judge, main_pairs, results, variant_pairs


def study(folder: Path) -> Study:
    return Study.read(folder, folder / "plan.yaml")


def test_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write_runs(tmp_path / "runs", gain={"large": 0.05, "small": -0.05, "full": 0.05})
    out = tmp_path / "reports" / "made.md"
    monkeypatch.setattr("sys.argv", ["study", "report", str(runs), "-o", str(out), "--resamples", "1000"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    text = out.read_text()
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("discs: **large layer** helps against CNN")
    assert any(line.startswith("discs: **small layer** hurts against CNN") for line in said)
    assert any("**adapters alone** against CNN: no measurable difference" in line for line in said)
    assert all(f"- {line}" in text for line in said)
    assert "11 of 11 planned runs are logged." in text
    assert "Best language model: **large layer**" in text
    assert "Provisional" not in text
    assert "With 2 seeds it cannot fall below 0.5: nothing can be significant" in text
    assert "A reduced protocol: 32 x 32 pixels and 2 epochs" in text
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 4
    for picture in pictures:
        assert (out.parent / picture).read_text().lstrip().startswith("<?xml")
    row = next(line for line in text.splitlines() if line.startswith("| large layer | CNN |"))
    mean = np.mean([r.mean("iou") for r in study(runs).of("discs", "large")]) - np.mean(
        [r.mean("iou") for r in study(runs).of("discs", "cnn")]
    )
    assert f"| {mean:+.3f} |" in row
    again = tmp_path / "again" / "made.md"
    make_report(study(runs), again, resamples=1000)
    assert again.read_text() == text  # the same runs give the same report and the same figures
    for picture in pictures:
        assert (again.parent / picture).read_bytes() == (out.parent / picture).read_bytes()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={})
    for gone in ("large/seed0", "large/seed1", "small/seed1", "full/seed0", "full/seed1"):
        (runs / "discs" / gone / "report.json").unlink()
    answers = make_report(study(runs), tmp_path / "r.md", resamples=200)
    text = (tmp_path / "r.md").read_text()
    assert "6 of 11 planned runs are logged" in text
    assert "`discs/large` seed 0, 1; `discs/small` seed 1" in text
    assert "Best language model: **small layer**" in text
    assert "Provisional: not all of their runs are there." in text
    assert any("**small layer** against CNN: no verdict from one seed" in answer for answer in answers)


def test_a_single_run(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={})
    for report in runs.glob("discs/*/seed*/report.json"):
        if report.parts[-3:-1] != ("cnn", "seed1"):
            report.unlink()
    assert make_report(study(runs), tmp_path / "r.md", resamples=200) == []
    assert "Nothing can be compared yet." in (tmp_path / "r.md").read_text()


def test_no_runs_at_all(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={})
    for report in runs.glob("discs/*/seed*/report.json"):
        report.unlink()
    with pytest.raises(InputError, match="no finished run"):
        study(runs)


def test_other_splits_are_refused(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={})
    path = runs / "discs" / "small" / "seed1" / "split.json"
    split = json.loads(path.read_text())
    path.write_text(json.dumps(split | {"train": ["z"]}))
    with pytest.raises(InputError, match="split the data differently"):
        study(runs)


def test_every_pair_and_its_correction(tmp_path: Path) -> None:
    logged = study(write_runs(tmp_path, gain={"large": 0.05}))
    pairs = main_pairs(logged, "discs")
    assert pairs == [
        ("adapters", "cnn"),
        ("small", "cnn"),
        ("large", "cnn"),
        ("small", "adapters"),
        ("large", "adapters"),
    ]
    assert variant_pairs(logged, "discs") == [("full", "large"), ("none", "small"), ("full", "cnn"), ("none", "cnn")]
    found = results(logged, "discs", pairs, 2000)
    assert [result.p_holm >= result.comparison.p_images for result in found] == [True] * 5
    assert found[2].p_holm == pytest.approx(5 * found[2].comparison.p_images)


def test_language_layers_are_held_against_random_ones(tmp_path: Path) -> None:
    logged = study(write_runs(tmp_path, gain={}))
    arms = dict(logged.plan.arms)
    arms["small"] = arms["small"].model_copy(update={"role": "random"})
    logged.plan = logged.plan.model_copy(update={"arms": arms})
    assert main_pairs(logged, "discs")[-1] == ("large", "small")


def test_runs_of_another_recipe_are_left_out_and_named(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={})
    path = runs / "discs" / "small" / "seed1" / "report.json"
    report = json.loads(path.read_text())
    report["recipe"]["fit"]["epochs"] = 3
    path.write_text(json.dumps(report))
    logged = study(runs)
    assert [str(run.path) for run in logged.foreign] == ["discs/small/seed1"]
    assert [run.planned.seed for run in logged.of("discs", "small")] == [0]
    make_report(logged, tmp_path / "r.md", resamples=200)
    assert "another recipe than the plan's: `discs/small/seed1`" in (tmp_path / "r.md").read_text()


def test_the_analysis_is_shown_before_and_after(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={}, cases=2)
    names = ("activation_iou", "matched_iou", "activation_auc", "effective_rank", "entropy")
    names += ("log_inverse_top_share", "effective_rank_centred")
    for arm, sides in (("cnn", ("before",)), ("large", ("before", "after"))):
        for seed in (0, 1):
            cases = [
                {"case": f"t{i:03d}"} | {side: dict.fromkeys(names, 0.25 + i / 4 + j) for j, side in enumerate(sides)}
                for i in range(2)
            ]
            del cases[1]["before"]["activation_iou"]  # an image without a structure
            found = {"digest": "d" * 64, "weights": {"trainable": 1234, "total": 5678}, "groups": {}, "cases": cases}
            (runs / "discs" / arm / f"seed{seed}" / "analysis.json").write_text(json.dumps(found))
    make_report(study(runs), tmp_path / "r.md", resamples=200)
    text = (tmp_path / "r.md").read_text()
    assert "| CNN | 2 | 25.0 ± 0.0 | 37.5 ± 0.0 | 0.375 ± 0.000 | 0.38 ± 0.00 |" in text
    assert "| large layer | 2 | 25.0 ± 0.0 → 137.5 ± 0.0 | 37.5 ± 0.0 → 137.5 ± 0.0 |" in text
    assert "| 1,234 | 5,678 |" in text
    assert "## Formulas of the analysis" in text


def test_images_that_were_not_scored_or_hold_nothing_stay_out(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={}, cases=6)
    path = runs / "discs" / "small" / "seed0" / "report.json"
    report = json.loads(path.read_text())
    report["test_cases"][1]["empty"] = True
    report["test_cases"][2] |= {"iou": "", "dice": "", "hd95": "", "error": "no such file"}
    path.write_text(json.dumps(report))
    logged = study(runs)
    run = logged.of("discs", "small")[0]
    assert (len(run.scored), len(run.empties), run.failures) == (4, 1, ["t002"])
    table, cases = logged.differences("discs", "small", "cnn", "iou")
    assert cases == [f"t{i:03d}" for i in range(6)]
    assert np.argwhere(np.isnan(table)).tolist() == [[0, 1], [0, 2]]


def test_groups_of_an_analysis_are_used(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={}, cases=6)
    groups = {f"t{i:03d}": f"group {i // 2}" for i in range(6)}
    found = {"digest": "d" * 64, "weights": {"trainable": 10, "total": 30}, "groups": groups, "cases": []}
    path = runs / "discs" / "cnn" / "seed0" / "analysis.json"
    path.write_text(json.dumps(found | {"digest": "of what was here before"}))
    assert study(runs).groups("discs") == {}
    path.write_text(json.dumps(found))
    logged = study(runs)
    comparison = results(logged, "discs", [("small", "cnn")], 200)[0].comparison
    assert (comparison.n_images, comparison.n_groups) == (6, 3)


def test_pace_survives_a_resume(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={})
    run = study(runs).of("discs", "cnn")[0]
    log = ["epoch,loss,val_iou,seconds", "1,1,0.1,4.0", "2,1,,8.0", "3,1,0.2,5.0", "4,1,0.2,9.0"]
    (run.folder / "stage1" / "log.csv").write_text("\n".join(log))
    assert run.seconds_per_epoch == 4
    assert [("val_iou" in row) for row in run.curve] == [True, False, True, True]


def test_runs_that_the_plan_does_not_name_are_told(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, gain={})
    shutil.copytree(runs / "discs" / "cnn" / "seed1", runs / "discs" / "cnn" / "seed7")
    logged = study(runs)
    assert len(logged.of("discs", "cnn")) == 2
    make_report(logged, tmp_path / "r.md", resamples=200)
    assert "the plan does not name them: `discs/cnn/seed7`." in (tmp_path / "r.md").read_text()


@pytest.mark.parametrize(("val", "kept"), [({"full": 0.75, "none": 0.9}, False), ({"full": 0.69, "none": 0.9}, True)])
def test_the_default_follows_from_validation_alone(tmp_path: Path, val: dict[str, float], kept: bool) -> None:
    runs = write_runs(tmp_path, gain={"full": -0.05 if not kept else 0.05}, val=val)
    text = "\n".join(choice(study(runs)))
    assert ("Default block by validation: **kept**, large layer (positions" in text) == kept
    assert ("**full attention** (`full`). The `default` preset should follow." in text) == (not kept)
    assert "(`none`)" not in text  # a single seed is never clear


@pytest.mark.parametrize(
    ("variant", "base", "clear"),
    [
        ([0.60, 0.61], [0.50, 0.52], True),
        ([0.576, 0.534], [0.550, 0.549], False),  # ahead in one seed alone
        ([0.52, 0.60], [0.51, 0.59], False),  # a lead within the scatter over seeds
        ([0.9], [0.1], False),
    ],
)
def test_clearly_ahead(variant: list[float], base: list[float], clear: bool) -> None:
    def by_seed(values: list[float]) -> dict[tuple[str, int], float]:
        return {("discs", seed): value for seed, value in enumerate(values)}

    assert clearly_ahead(by_seed(variant), by_seed(base)) is clear


def comparison(low: float, high: float, seeds: int = 2) -> Comparison:
    found = Interval((low + high) / 2, low, high, (high - low) / 4)
    return Comparison(found, found, (0.0,) * seeds, 0.01, 0.5, 50, 50, seeds)


@pytest.mark.parametrize(
    ("low", "high", "p", "seeds", "verdict"),
    [
        (0.01, 0.03, 0.01, 2, "helps"),
        (-0.03, -0.01, 0.01, 2, "hurts"),
        (-0.01, 0.03, 0.01, 2, "no measurable difference"),
        (0.01, 0.03, 0.06, 2, "no measurable difference"),
        (0.01, 0.03, 0.01, 1, "one seed only"),
    ],
)
def test_the_rule(low: float, high: float, p: float, seeds: int, verdict: str) -> None:
    assert judge(comparison(low, high, seeds), p) == verdict
