"""The reading figure comes of both readers on the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_llm4seg.bench import readers
from napari_llm4seg.bench.figures import BenchError
from napari_llm4seg.io import read


def test_the_figure_is_measured_and_named() -> None:
    said: list[str] = []
    found = readers.measure_readers(said.append, slices=6, side=16, repeats=2)
    figure = found.figures["read_series_to_simpleitk"]
    assert figure.value > 0
    assert (figure.target, figure.bound) == (1.5, "at most")
    assert len(found.details["read_series_runs_s"]) == len(found.details["read_series_simpleitk_runs_s"]) == 2
    assert "6 DICOM slices" in said[0]


def test_unequal_readings_are_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers.make_series(tmp_path, 4, 8)
    volume = read(tmp_path)
    monkeypatch.setattr(readers, "_read", lambda folder: volume.with_data(volume.data + 1))
    with pytest.raises(BenchError, match="other values"):
        readers._check_equal(tmp_path)
