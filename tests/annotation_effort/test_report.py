from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from napari_llm4seg.engine.gate import compare
from napari_llm4seg.engine.scores import Score
from tests.annotation_effort.made import PLAN
from training.annotation_effort.compare import duels, gates, together
from training.annotation_effort.plan import Plan
from training.annotation_effort.report import make_report
from training.annotation_effort.rows import Log, dice

pytest.importorskip("matplotlib")


def row(k: int, hits: int, choice: str = "suggested", **more: Any) -> dict[str, Any]:
    """Return a row of three slices of 10 pixels each; the last one is right in ``hits`` of them."""
    plan = Plan.model_validate(PLAN)
    counted = {"hits": [[0], [10], [hits]], "said": [[0], [10], [10]], "true": [[0], [10], [10]]}
    about = {"case": "ball", "method": "forest", "choice": choice, "seed": 0, "k": k, "slices": [1] if k else []}
    times = dict.fromkeys(("learning", "learning_cpu", "saying", "saying_cpu"), 4.2)
    return (
        about
        | counted
        | {
            "digest": plan.digest(plan.sessions()[0]),
            "stack": True,
            "facts": {},
            "seconds": times,
            "load": 1.5,
            "device": "cpu",
            "largest": {"hits": counted["hits"], "said": counted["true"]},
            **more,
        }
    )


def test_a_duel_compares_what_both_have_from_two_slices_on() -> None:
    rows = [row(1, 9), row(1, 1, "uniform"), row(3, 8), row(3, 6, "uniform"), row(3, 4, "uniform", seed=1), row(5, 9)]
    (found,) = duels(rows, "uniform")
    assert found.differences == {3: pytest.approx(0.8 - 0.5)}
    assert (found.mean, found.wins) == (pytest.approx(0.3), 1)
    assert together([found], {"ball"}) == (pytest.approx(0.3), 1, 1)
    assert together([found], {"another"})[1:] == (0, 0)
    assert duels(rows, "random") == []


def gate(before: float, after: float, worse: bool) -> dict[str, Any]:
    verdict = "worse" if worse else "better"
    return {"gate": {"n": 1, "verdict": verdict, "worse": worse, "dice_before": before, "dice_after": after}}


def counted(*slices: tuple[int, tuple[int, int], tuple[int, int]]) -> dict[str, Any]:
    """Return a gate of slices of (true pixels, hits and marked ones before, the same after)."""
    sides = [
        [
            Score(str(z), (each[at][0],), (each[at][1],), (each[0],), (None,), pixels=100)
            for z, each in enumerate(slices)
        ]
        for at in (1, 2)
    ]
    kept = compare(*sides).as_dict()
    return {"gate": {**kept, "verdict": "worse", "worse": True}}  # as a rule of other times had it


def test_the_gate_s_warnings_are_counted_against_what_came_of_everything_else() -> None:
    rows = [
        row(0, 5),
        row(4, 8, facts=gate(0.5, 0.8, False)),  # better everywhere
        row(5, 2, facts=gate(0.5, 0.4, True)),  # worse and warned of
        row(6, 2, facts=gate(0.5, 0.6, False)),  # worse on the rest, which the held-back slice did not show
        row(7, 5, facts=gate(0.5, 0.4, False)),  # a warning that should have come
        row(8, 9, facts=gate(0.5, 0.4, True)),  # a false alarm
        row(9, 5, facts={"gate": {"n": 0}}),
    ]
    found = gates(rows)
    assert (found.n, found.warned, found.clear, found.false) == (5, 2, 2, 1)
    assert (found.unwarned, found.missed, found.rose, found.fell) == (1, 1, 2, 2)
    assert found.by_slice is None  # these rows hold no counts
    assert gates(rows[1:]).n == 0  # what the starter said before is not known


def test_cross_checks_are_counted_as_the_gate_is() -> None:
    rows = [row(0, 5), row(4, 8, facts=gate(0.5, 0.4, True) | {"cross_check": gate(0.5, 0.7, False)["gate"]})]
    found, held = gates(rows, "cross_check"), gates(rows)
    assert (found.n, found.warned, found.false, found.rose) == (1, 0, 0, 1)
    assert (held.n, held.warned, held.false) == (1, 1, 1)


def test_a_report_tells_cross_checks_from_the_gate_and_counts_a_training_once(tmp_path: Path) -> None:
    log = Log(tmp_path / "runs")
    checked = gate(0.5, 0.4, True) | {"cross_check": gate(0.5, 0.7, False)["gate"]}
    for each in (row(0, 5), row(3, 8, facts=gate(0.5, 0.6, False)), row(3, 8, "uniform", facts=checked)):
        log.add(each)
    make_report(Plan.model_validate(PLAN), tmp_path / "runs", tmp_path / "effort.md")
    text = (tmp_path / "effort.md").read_text()
    assert "1 fine-tunings held corrected slices back" in text
    assert "1 of them, made again, were cross-checked" in text
    assert "had warned of 1 of the same 1 fine-tunings, 1 of them falsely, and missed 0." in text


def test_rows_with_counts_are_judged_by_the_present_rule() -> None:
    stray = counted((500, (450, 500), (460, 500)), (0, (0, 0), (0, 1)))  # a pixel in the slice without the thing
    fall = counted((500, (450, 500), (400, 500)))
    found = gates([row(0, 5), row(4, 8, facts=stray), row(5, 2, facts=fall)])
    assert (found.n, found.warned, found.clear, found.false) == (2, 1, 0, 0)
    assert found.by_slice == (2, 1)


def test_the_report_holds_the_figures_and_says_what_is_missing(tmp_path: Path) -> None:
    plan = Plan.model_validate(copy.deepcopy(PLAN) | {"held_out": ["ball"]})
    log = Log(tmp_path / "runs")
    for each in (row(1, 3), row(3, 8), row(3, 6, "uniform"), row(3, 1, digest="other settings", choice="organ")):
        log.add(each)
    path = tmp_path / "effort.md"
    make_report(plan, tmp_path / "runs", path)
    text = path.read_text()
    assert "3 of 7 planned trainings are there" in text
    assert f"| random forest | suggested | {dice(row(1, 3)):.3f} | {dice(row(3, 8)):.3f} |" in text
    assert "| held out | uniform | +0.200 | 1 of 1 |" in text
    assert "organ |" not in text  # a row of other settings does not count
    assert "No fine-tuning held slices back." in text
    assert (tmp_path / "effort" / "curves.svg").read_bytes().startswith(b"<?xml")
    before = (path.read_bytes(), (tmp_path / "effort" / "curves.svg").read_bytes())
    make_report(plan, tmp_path / "runs", path)
    assert before == (path.read_bytes(), (tmp_path / "effort" / "curves.svg").read_bytes())


def test_without_rows_there_is_a_report_that_says_so(tmp_path: Path) -> None:
    make_report(Plan.model_validate(PLAN), tmp_path / "runs", tmp_path / "effort.md")
    assert "0 of 7 planned trainings are there" in (tmp_path / "effort.md").read_text()
