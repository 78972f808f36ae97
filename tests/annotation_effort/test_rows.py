from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_llm4seg.corrections.suggest import Evidence
from napari_llm4seg.errors import InputError
from tests.annotation_effort.made import PLAN, case
from training.annotation_effort.cases import Case
from training.annotation_effort.methods import Said
from training.annotation_effort.plan import Plan
from training.annotation_effort.rows import STEM, Log, counts, dice, packed, unpacked


def row(**more: object) -> dict[str, object]:
    about = {"case": "ball", "method": "forest", "choice": "uniform", "seed": 0, "k": 1, "digest": "d"}
    return about | {"slices": [1], "stack": True} | more


def test_dice_counts_what_was_not_corrected_and_pools_a_stack() -> None:
    numbers = {"hits": [[0], [9], [4], [3]], "said": [[2], [9], [6], [3]], "true": [[0], [9], [4], [5]]}
    assert dice(row(**numbers)) == pytest.approx(2 * 7 / (2 + 10 + 8))
    assert dice(row(**numbers), "extent") == pytest.approx(2 * 7 / (10 + 8))
    assert dice(row(**numbers, stack=False)) == pytest.approx(np.mean([0, 8 / 10, 6 / 8]))


def test_dice_is_the_mean_over_the_classes_and_one_where_nothing_is_and_nothing_was_said() -> None:
    two = {"hits": [[0, 0], [1, 1], [2, 0]], "said": [[0, 0], [1, 1], [2, 3]], "true": [[0, 0], [1, 1], [2, 1]]}
    assert dice(row(**two)) == pytest.approx((1 + 0) / 2)
    empty = {name: [[0], [0], [0]] for name in ("hits", "said", "true")}
    assert dice(row(**empty)) == 1


def test_counts_of_a_perfect_and_of_an_empty_mask() -> None:
    made = case()
    perfect = counts(made, Said(list(made.truths), {}))
    assert perfect["hits"] == perfect["said"] == perfect["true"]
    assert sum(each[0] for each in perfect["true"]) == sum(int(truth.sum()) for truth in made.truths) > 0
    nothing = counts(made, Said([np.zeros_like(truth) for truth in made.truths], {}))
    assert not np.any(nothing["hits"])
    assert not np.any(nothing["said"])


def test_the_largest_piece_is_counted_too_where_slices_hang_together() -> None:
    made = case()
    stray = [truth.copy() for truth in made.truths]
    stray[0][-3:, -3:] = 1  # far from the ball
    counted = counts(made, Said(stray, {}))
    assert dice(row(**counted)) < 1
    assert dice(row(**counted), "largest") == 1
    assert counted["largest"]["said"] == counted["true"]
    images = Case("set", made.scans * len(made), made.truths, made.classes)
    assert "largest" not in counts(images, Said(stray, {}))


def test_evidence_survives_the_file() -> None:
    evidence = {3: Evidence(0.25, 0.125, (0.5, 0.0)), 11: Evidence(1.0, 0.0, (0.0, 0.0))}
    assert unpacked(packed(evidence)) == evidence


def test_rows_are_found_again_and_one_of_the_same_cell_gives_way(tmp_path: Path) -> None:
    session = Plan.model_validate(PLAN).sessions()[1]
    log = Log(tmp_path)
    log.add(row(note="old"))
    log.add(row(k=2, slices=[1, 5]))
    log.add(row(note="new"))
    read = Log(tmp_path)
    assert len(read.rows) == 2
    found = read.find(session, 1, "d")
    assert found is not None
    assert found["note"] == "new"
    assert read.find(session, 1, "other settings") is None
    assert read.find(session, 3, "d") is None
    same = read.same(session, [5, 1], "d")
    assert same is not None
    assert same["k"] == 2
    assert read.same(session, [5], "d") is None


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    (tmp_path / f"{STEM}.jsonl").write_text('{"case": "a"}\n')
    with pytest.raises(InputError, match=r"Line 1 of .*rows\.jsonl"):
        Log(tmp_path)
