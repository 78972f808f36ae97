"""Batches: isolated cases, resume, nothing of a person's replaced."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_llm4seg.errors import Cancelled, InputError
from napari_llm4seg.io import read, write
from napari_llm4seg.io.cases import CaseFile, find_cases
from napari_llm4seg.predict.batch import LOG, SUMMARY, run_batch
from napari_llm4seg.volume import Volume, affine_from_spacing

MADE_BY = {"model": "abc", "threshold": 0.5}


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "in"
    for name in ("a.nii.gz", "sub/b.nii.gz", "c.nii.gz"):
        data = np.zeros((1, 3, 4, 5), np.int16)
        data[0, 1, 1:3, 1:4] = 9
        write(folder / name, Volume(data, affine_from_spacing((2, 1, 1)), unit="mm"))
    return folder


class Work:
    """Thresholds; remembers what it did; fails at the named case."""

    def __init__(self, fails=""):
        self.done, self.fails = [], fails

    def __call__(self, case, place):
        self.done.append(case.name)
        if case.name == self.fails:
            raise RuntimeError("a kernel\nis missing")
        volume = read(case.path)
        mask = volume.with_data((volume.data > 0).astype(np.uint8), kind="label")
        path = write(place(volume), mask)
        pixels = int(mask.data.sum())
        return {"output": str(path), "classes": [{"value": 1, "name": "thing", "pixels": pixels, "volume_ml": 0.012}]}


def test_a_failed_case_does_not_stop_the_others(scans, tmp_path):
    work, out = Work(fails="c"), tmp_path / "out"
    outcomes = run_batch(find_cases(scans), out, work, MADE_BY)
    assert [(o.case.name, o.status) for o in outcomes] == [("a", "ok"), ("c", "failed"), ("sub/b", "ok")]
    assert outcomes[1].error == "a kernel is missing"
    assert (out / "sub" / "b_seg.nii.gz").is_file()
    rows = list(csv.DictReader((out / SUMMARY).open()))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert rows[0]["volume_ml"] == "0.012"
    assert rows[0]["output"] == "a_seg.nii.gz"
    again = Work()
    outcomes = run_batch(find_cases(scans), out, again, MADE_BY)
    assert again.done == ["c"], "what is finished is skipped, what failed is tried again"
    assert [o.status for o in outcomes] == ["skipped", "ok", "skipped"]
    assert outcomes[0].facts["classes"][0]["pixels"] == 6


def test_other_settings_or_another_scan_are_done_again(scans, tmp_path):
    out = tmp_path / "out"
    run_batch(find_cases(scans), out, Work(), MADE_BY)
    changed = Work()
    write(scans / "a.nii.gz", Volume(np.ones((1, 3, 4, 5), np.int16)))
    run_batch(find_cases(scans), out, changed, MADE_BY)
    assert changed.done == ["a"]
    other = Work()
    run_batch(find_cases(scans), out, other, MADE_BY | {"threshold": 0.4})
    assert other.done == ["a", "c", "sub/b"]
    assert not (out / "a_seg_2.nii.gz").exists(), "our own older result is replaced"


def test_a_mask_that_a_person_corrected_is_never_replaced_and_counts_as_done(scans, tmp_path):
    out = tmp_path / "out"
    run_batch(find_cases(scans), out, Work(), MADE_BY)
    corrected = Volume(np.full((1, 3, 4, 5), 7, np.uint8), kind="label")
    write(out / "a_seg.nii.gz", corrected)
    work = Work()
    outcomes = run_batch(find_cases(scans), out, work, MADE_BY)
    assert [o.status for o in outcomes] == ["corrected", "skipped", "skipped"]
    assert work.done == []
    assert "changed since" in outcomes[0].facts["messages"][0]
    rows = list(csv.DictReader((out / SUMMARY).open()))
    assert (rows[0]["status"], rows[0]["pixels"]) == ("corrected", ""), "the machine's figures are not the file's"
    outcomes = run_batch(find_cases(scans), out, Work(), MADE_BY | {"threshold": 0.4})
    assert outcomes[0].facts["output"].endswith("a_seg_2.nii.gz")
    assert "the new mask is 'a_seg_2.nii.gz'" in outcomes[0].facts["messages"][-1]
    assert read(out / "a_seg.nii.gz").data.max() == 7


def test_a_stop_keeps_what_was_finished(scans, tmp_path):
    out, seen = tmp_path / "out", []
    with pytest.raises(Cancelled):
        run_batch(
            find_cases(scans), out, Work(), MADE_BY, on_case=lambda n, o: seen.append(n), cancel=lambda: bool(seen)
        )
    assert list(json.loads((out / LOG).read_text())["cases"]) == ["a"]

    def stopped(case, place):
        raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        run_batch(find_cases(scans), out, stopped, MADE_BY)


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_batch import MADE_BY, Work
from napari_llm4seg.io.cases import find_cases
from napari_llm4seg.predict.batch import run_batch
class Slow(Work):
    def __call__(self, case, place):
        found = super().__call__(case, place)
        print(case.name, flush=True)
        time.sleep(0.05)
        return found
run_batch(find_cases(sys.argv[1]), Path(sys.argv[2]), Slow(), MADE_BY)
"""


def test_a_killed_run_goes_on(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for n in range(12):
        write(folder / f"{n:02}.nii.gz", Volume(np.full((1, 2, 4, 5), n + 1, np.int16)))
    here = str(Path(__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(out), here], stdout=subprocess.PIPE, text=True
    )
    for _ in range(3):
        child.stdout.readline()
    time.sleep(0.03)
    child.kill()
    child.wait()
    child.stdout.close()
    work = Work()
    outcomes = run_batch(find_cases(folder), out, work, MADE_BY)
    assert {o.status for o in outcomes} <= {"ok", "skipped"}
    assert 6 <= len(work.done) <= 10, "finished cases are not done again"
    assert len(list(out.rglob("*.nii.gz"))) == 12


def test_a_foreign_log_is_not_overwritten(tmp_path):
    (tmp_path / LOG).write_text('{"format": "other"}')
    with pytest.raises(InputError, match="no batch log"):
        run_batch([CaseFile(tmp_path / "x.png", "x")], tmp_path, Work(), MADE_BY)
    assert (tmp_path / LOG).read_text() == '{"format": "other"}'
