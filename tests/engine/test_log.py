"""The log on disk says what the history says, in both forms."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from napari_llm4seg.engine import log as module
from napari_llm4seg.engine.log import RunLog

ROWS = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_iou": 0.7}]


def test_csv_has_every_column_from_its_first_mention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    log = RunLog(tmp_path, 0)
    log.write(ROWS[:1])
    log.write(ROWS)
    log.close()
    with (tmp_path / "log.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"epoch": "1", "loss": "0.5", "val_iou": ""},
            {"epoch": "2", "loss": "0.25", "val_iou": "0.7"},
        ]
    assert not (tmp_path / "tensorboard").exists()  # not installed: the CSV alone


@pytest.mark.slow
def test_tensorboard_reads_the_same_and_forgets_what_a_kill_undid(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = RunLog(tmp_path, 0)
    first.write(ROWS[:1])
    first.write([ROWS[0], {"epoch": 2, "loss": 9.0}])
    first.close()
    resumed = RunLog(tmp_path, 1)
    resumed.write(ROWS)
    resumed.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert [e.step for e in events.Scalars("val_iou")] == [2]
