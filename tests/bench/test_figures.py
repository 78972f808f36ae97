"""Figures against their targets, and children that fail."""

from __future__ import annotations

import pytest

from napari_llm4seg.bench.figures import BenchError, Figure, heavy_among, machine, run_child, run_json_child


@pytest.mark.parametrize(
    ("value", "bound", "met"),
    [(1.0, "at most", True), (1.1, "at most", False), (1.0, "at least", True), (0.9, "at least", False)],
)
def test_a_figure_knows_whether_it_is_met(value, bound, met) -> None:
    figure = Figure(value, "s", 1.0, bound)
    assert figure.as_dict() == {"value": value, "unit": "s", "target": 1.0, "bound": bound, "met": met}


def test_heavy_packages_are_found_by_their_top_name() -> None:
    assert heavy_among(["torch.nn", "torchvision", "numpy", "monai"]) == ["torch", "monai"]


def test_a_child_sees_this_package() -> None:
    import napari_llm4seg

    found = run_json_child(
        ["-c", "import json, napari_llm4seg as n; print('noise'); print(json.dumps({'f': n.__file__}))"]
    )
    assert found == {"f": napari_llm4seg.__file__}


def test_a_failing_child_says_why() -> None:
    with pytest.raises(BenchError, match="status 3: out of paper"):
        run_child(["-c", "import sys; print('out of paper', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(BenchError, match="no result"):
        run_json_child(["-c", "print('words')"])
    with pytest.raises(BenchError, match="longer than 1 s"):
        run_child(["-c", "import time; time.sleep(30)"], timeout=1)


def test_the_machine_is_described() -> None:
    facts = machine()
    assert facts["cores"] >= 1
    assert facts["cpu"]
    assert "torch" in facts["versions"]
