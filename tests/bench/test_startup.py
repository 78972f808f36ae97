"""What is measured about starting up; never how long it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from napari_llm4seg.bench.startup import measure_help, measure_import, measure_segment, write_image
from tests.cli.helpers import save_model


def quiet(_: str) -> None:
    pass


def test_import() -> None:
    found = measure_import(quiet, repeats=2)
    assert found.figures["import_seconds"].value > 0
    assert found.figures["import_seconds"].target == 0.15
    assert found.details["import_heavy"] == []
    assert len(found.details["import_runs_s"]) == 2


def test_help_of_every_command() -> None:
    found = measure_help(quiet, repeats=1)
    each = found.details["help_medians_s"]
    assert {"llm4seg", "llm4seg segment", "llm4seg models import", "llm4seg bench"} <= set(each)
    assert found.figures["help_slowest_seconds"].value == max(each.values())
    assert found.figures["help_seconds"].value == each["llm4seg"]


@pytest.mark.slow
def test_segment_in_a_fresh_process(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", "Everywhere", 2.0)
    found = measure_segment(quiet, str(model), repeats=1)
    assert found.details["segment_model"] == "Everywhere"
    assert found.details["segment_heavy"] == []
    assert found.figures["segment_seconds"].value > 0.1


def test_the_image_has_the_promised_size(tmp_path: Path) -> None:
    assert Image.open(write_image(tmp_path)).size == (560, 470)
