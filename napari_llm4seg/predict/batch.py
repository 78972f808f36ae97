"""Many cases, one after the other: each on its own, finished ones skipped, one table at the end.

``batch.json`` in the output folder says what became of every case. It is written whole after each, so that a run that
was killed goes on at the case it was at; ``summary.csv`` is the same for people.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_llm4seg.errors import Cancelled, InputError, one_line
from napari_llm4seg.files import read_json, write_text
from napari_llm4seg.io._files import stem_of, suffix_of
from napari_llm4seg.io.cases import CaseFile
from napari_llm4seg.volume import Volume

LOG, SUMMARY = "batch.json", "summary.csv"
_FORMAT = "napari-llm4seg-batch/1"
_LIMIT = 1 << 28

# "corrected": its mask was changed since it was written, so it is a person's, is kept and counts as done
Status = Literal["ok", "failed", "skipped", "corrected"]
# From a case and where its result may go (asked with the scan once it was read) to what is noted of it.
Work = Callable[[CaseFile, Callable[[Volume], Path]], Mapping[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """What became of one case; ``facts`` are what the work gave, ``error`` one line."""

    case: CaseFile
    status: Status
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0


def run_batch(
    cases: Sequence[CaseFile],
    out: Path,
    work: Work,
    made_by: Mapping[str, Any],
    *,
    ending: str | None = None,
    on_start: Callable[[int, CaseFile], Any] | None = None,
    on_case: Callable[[int, Outcome], Any] | None = None,
    cancel: Callable[[], bool] | None = None,
    describe: Callable[[BaseException], str] = one_line,
) -> list[Outcome]:
    """Do ``work`` for every case that is not finished yet.

    A case is finished when its scan and its result are the files they were then, and ``made_by`` is the same.

    Parameters
    ----------
    cases : sequence of CaseFile
    out : Path
        Folder of the results, made if it is missing. A result lies there as its scan lies in its folder.
    work : callable(case, place) -> mapping
        Segments a case and writes what ``place(volume)`` names; the mapping needs "output". Whatever it raises, the
        next cases are done.
    made_by : mapping
        What makes the results, as JSON: model digest, settings.
    ending : str, optional
        Suffix of the results; by default NIfTI for what has slices or a size in mm, TIFF for TIFF, PNG for the rest.
    on_start, on_case : callable, optional
        Told the number of the case, from 0, before it and after it.
    cancel : callable -> bool, optional
        Asked before each case.
    describe : callable(exception) -> str
        One line for a case that failed.

    Returns
    -------
    list of Outcome
        One for each case that was reached.

    Raises
    ------
    InputError
        If the folder cannot be written, or holds another program's ``batch.json``.
    Cancelled
        If ``cancel`` or the work says so; what was finished is noted.
    """
    log = _Log(out, made_by)
    outcomes = []
    for number, case in enumerate(cases):
        if cancel is not None and cancel():
            raise Cancelled("Stopped; finished cases are kept and will be skipped the next time.")
        kept = log.finished(case)
        if kept is not None:
            outcome = kept
        else:
            if on_start is not None:
                on_start(number, case)
            outcome = _one(case, work, log, ending, describe)
            log.note(outcome)
        outcomes.append(outcome)
        if on_case is not None:
            on_case(number, outcome)
    log.write_summary(outcomes)
    return outcomes


def _one(
    case: CaseFile, work: Work, log: _Log, ending: str | None, describe: Callable[[BaseException], str]
) -> Outcome:
    started = time.monotonic()
    try:
        facts = dict(work(case, lambda volume: log.place(case, volume, ending)))
    except Cancelled:
        raise
    except Exception as error:  # a case must not take the others down, whatever a library makes of its file
        return Outcome(case, "failed", error=describe(error), seconds=round(time.monotonic() - started, 3))
    facts["messages"] = [*facts.get("messages", ()), *log.told]
    return Outcome(case, "ok", facts, seconds=round(time.monotonic() - started, 3))


def default_ending(path: Path, volume: Volume) -> str:
    """Return the suffix of the mask of a scan that was read from ``path``."""
    if suffix_of(path) in (".tif", ".tiff"):
        return ".tif"
    if suffix_of(path) == ".zarr":
        return ".ome.zarr"
    return ".nii.gz" if volume.n_slices > 1 or volume.unit == "mm" else ".png"


def free_place(wanted: Path, is_ours: Callable[[Path], bool]) -> Path:
    """Return ``wanted``, or a numbered name where there is a file already that is not ours to replace."""
    stem = stem_of(wanted)
    ending = wanted.name[len(stem) :]
    place, number = wanted, 2
    while place.exists() and not is_ours(place):
        place, number = wanted.with_name(f"{stem}_{number}{ending}"), number + 1
    return place


class _Log:
    """What is known of the cases of one output folder."""

    def __init__(self, out: Path, made_by: Mapping[str, Any]) -> None:
        self._out = out
        # as it will come back from the file
        self._made_by: dict[str, Any] = json.loads(json.dumps(made_by))
        self._rows: dict[str, dict[str, Any]] = {}
        self.told: list[str] = []
        if (out / LOG).exists():
            kept = read_json(out / LOG, "Batch log", _LIMIT)
            if kept.get("format") != _FORMAT or not isinstance(kept.get("cases"), dict):
                raise InputError(f"'{out / LOG}' is no batch log of this program. Choose another output folder.")
            self._rows = {name: row for name, row in kept["cases"].items() if isinstance(row, dict)}

    def finished(self, case: CaseFile) -> Outcome | None:
        """Return what became of a case that need not be done again."""
        row = self._rows.get(case.name)
        if row is None or row.get("status") != "ok" or row.get("made_by") != self._made_by:
            return None
        result = self._out / str(row.get("output", ""))
        if row.get("scan") != _state(case.path) or not isinstance(row.get("facts"), dict) or not result.exists():
            return None
        if row.get("result") == _state(result):
            return Outcome(case, "skipped", row["facts"])
        # its figures were the machine's; what they are now only the file can tell
        facts = {name: value for name, value in row["facts"].items() if name != "classes"}
        return Outcome(case, "corrected", facts | {"messages": [f"'{result.name}' was changed since, and is kept."]})

    def place(self, case: CaseFile, volume: Volume, ending: str | None) -> Path:
        wanted = self._out / f"{case.name}_seg{ending or default_ending(case.path, volume)}"
        place = free_place(wanted, self._is_ours)
        self.told = []
        if place != wanted:
            self.told = [f"'{wanted.name}' was there already, and is kept; the new mask is '{place.name}'."]
        # noted before it is written: after a kill in between, the file is known to be ours
        name = place.relative_to(self._out).as_posix()
        self._rows[case.name] = {"input": str(case.path), "status": "started", "output": name}
        self._save()
        return place

    def _is_ours(self, path: Path) -> bool:
        """Whether ``path`` is as a run here wrote it: what a person corrected since is theirs."""
        name = path.relative_to(self._out).as_posix()
        rows = [row for row in self._rows.values() if row.get("output") == name]
        return any(row.get("status") == "started" or row.get("result") == _state(path) for row in rows)

    def note(self, outcome: Outcome) -> None:
        case = outcome.case
        row: dict[str, Any] = {"input": str(case.path), "status": outcome.status, "seconds": outcome.seconds}
        if outcome.status == "ok":
            output = Path(str(outcome.facts["output"]))
            row |= {
                "output": output.relative_to(self._out).as_posix(),
                "scan": _state(case.path),
                "result": _state(output),
                "made_by": self._made_by,
                "facts": dict(outcome.facts),
            }
        else:
            row["error"] = outcome.error
        self._rows[case.name] = row
        self._save()

    def _save(self) -> None:
        write_text(self._out / LOG, json.dumps({"format": _FORMAT, "cases": self._rows}, indent=1) + "\n")

    def write_summary(self, outcomes: Sequence[Outcome]) -> None:
        """Write the table: a line for each class of each case."""
        columns = ("case", "status", "class", "value", "pixels", "area_mm2", "volume_ml", "seconds", "output", "error")
        text = io.StringIO()
        table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        for outcome in outcomes:
            row = {"case": outcome.case.name, "status": outcome.status, "error": outcome.error}
            kept = self._rows.get(outcome.case.name, {})
            row |= {"seconds": kept.get("seconds", ""), "output": kept.get("output", "")}
            for found in outcome.facts.get("classes") or [{}]:
                table.writerow(row | {**found, "class": found.get("name", "")})
        write_text(self._out / SUMMARY, text.getvalue())


def _state(path: Path) -> list[Any]:
    """Return what tells whether a file, or a folder's files, changed: their number, bytes and latest time."""
    try:
        files = [entry for entry in path.rglob("*") if entry.is_file()] if path.is_dir() else [path]
        facts = [entry.stat() for entry in files]
    except OSError:
        return []
    return [len(facts), sum(fact.st_size for fact in facts), max((fact.st_mtime_ns for fact in facts), default=0)]
