"""``llm4seg segment FOLDER``: every scan of a folder, each on its own, finished ones skipped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from napari_llm4seg.cli.console import FAILED, ProgressLine, describe, duration, line, print_json

if TYPE_CHECKING:
    from napari_llm4seg.io.cases import CaseFile
    from napari_llm4seg.predict import Predictor
    from napari_llm4seg.predict.batch import Outcome


def cases_of(folder: Path, out: Path) -> list[CaseFile]:
    """Return the cases of a folder that is more than one scan, an empty list for a DICOM folder or a zarr.

    Raises
    ------
    InputError
        If there is no scan in it.
    """
    from napari_llm4seg.io.cases import find_cases

    found = find_cases(folder, out)
    # a folder of DICOM files alone is one scan, or asks which of its series is meant
    return [] if all(case.path == folder for case in found) else found


def run_folder(predictor: Predictor, cases: list[CaseFile], out: Path, as_json: bool) -> int:
    """Segment the cases into ``out``; return 0, or 1 where a case failed."""
    from napari_llm4seg.predict.batch import SUMMARY, Status, run_batch
    from napari_llm4seg.predict.case import made_by, segment_case

    started = time.monotonic()

    def work(case: CaseFile, place: Any) -> dict[str, Any]:
        with ProgressLine(case.name) as progress:
            return segment_case(predictor, case, place, progress).facts

    def tell(number: int, outcome: Outcome) -> None:
        if not as_json:
            _say(f"{number + 1}/{len(cases)} {outcome.case.name}", outcome)

    outcomes = run_batch(cases, out, work, made_by(predictor), on_case=tell, describe=describe)
    count = {status: sum(one.status == status for one in outcomes) for status in get_args(Status)}
    if as_json:
        about = {"model": predictor.checkpoint.name, "digest": predictor.checkpoint.digest}
        about |= {"device": str(predictor.device), "summary": str(out / SUMMARY)}
        seconds = round(time.monotonic() - started, 3)
        rows = [_row(outcome) for outcome in outcomes]
        print_json(
            {
                "cases": rows,
                "failed": count["failed"],
                "skipped": count["skipped"],
                "corrected": count["corrected"],
                **about,
                "seconds": seconds,
            }
        )
    else:
        more = f", {count['skipped']} were done before" if count["skipped"] else ""
        more += f", {count['corrected']} kept as corrected by hand" if count["corrected"] else ""
        more += f", {count['failed']} failed; run the command again to try what failed" if count["failed"] else ""
        line(f"{count['ok']} of {len(cases)} scans segmented in {duration(time.monotonic() - started)}{more}.")
        line(f"Table: {out / SUMMARY}")
    return FAILED if count["failed"] else 0


def _row(outcome: Outcome) -> dict[str, Any]:
    row = {"input": str(outcome.case.path), "case": outcome.case.name, "status": outcome.status, "output": None}
    if outcome.status == "failed":
        row["error"] = outcome.error
    return row | dict(outcome.facts) | {"seconds": outcome.seconds}


def _say(name: str, outcome: Outcome) -> None:
    if outcome.status == "failed":
        line(f"{name}: {outcome.error}")
        return
    for message in outcome.facts.get("messages", ()) if outcome.status != "skipped" else ():
        line(f"{name}: {message}")
    from napari_llm4seg.labels.measure import sizes_words

    if outcome.status == "corrected":
        return
    said = "done before" if outcome.status == "skipped" else f"{outcome.seconds:.1f} s"
    print(f"{name}: {sizes_words(outcome.facts['classes'])}, {said}", flush=True)
