"""``llm4seg segment IMAGE... -o annotations.json``: the masks of many images in one COCO file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_llm4seg.cli.console import FAILED, ProgressLine, describe, line, print_json
from napari_llm4seg.errors import Cancelled, InputError

if TYPE_CHECKING:
    from napari_llm4seg.io.cases import CaseFile
    from napari_llm4seg.predict import Predictor
    from napari_llm4seg.predict.case import Segmented
    from napari_llm4seg.volume import Volume


def run_coco(predictor: Predictor, inputs: list[Path], out: Path, time_point: int | None, as_json: bool) -> int:
    """Segment images, or all images of folders, and write their masks into ``out``.

    An image that fails is said and left out. Beside ``out`` lies a record for each image.

    Returns
    -------
    int
        0, or 1 where an image failed.
    """
    from napari_llm4seg.io.coco import write_coco

    started = time.monotonic()
    done: list[tuple[CaseFile, Segmented]] = []
    rows = []
    for case in _cases(inputs, out, time_point):
        row, made = _one(predictor, case)
        if made is not None:
            done.append((case, made))
        rows.append(row)
        if not as_json:
            _say(row)
    if done:
        write_coco(out, [(made.volume, made.prediction) for _, made in done])
        for row, place in zip((row for row in rows if row["status"] == "ok"), _records(done, out), strict=True):
            row |= {"output": str(out), "record": str(place)}
    failed = len(rows) - len(done)
    if as_json:
        about = {"model": predictor.checkpoint.name, "digest": predictor.checkpoint.digest}
        seconds = round(time.monotonic() - started, 3)
        print_json({"cases": rows, "failed": failed, **about, "device": str(predictor.device), "seconds": seconds})
    elif done:
        print(out, flush=True)
    return FAILED if failed else 0


def _cases(inputs: list[Path], out: Path, time_point: int | None) -> list[CaseFile]:
    from napari_llm4seg.cli.batch import cases_of
    from napari_llm4seg.io._files import stem_of
    from napari_llm4seg.io.cases import CaseFile

    cases: list[CaseFile] = []
    for path in inputs:
        inside = cases_of(path, out) if path.is_dir() else []
        cases += inside or [CaseFile(path, stem_of(path), None, time_point)]
    return cases


def _one(predictor: Predictor, case: CaseFile) -> tuple[dict[str, Any], Segmented | None]:
    from napari_llm4seg.predict.case import segment_case

    row: dict[str, Any] = {"input": str(case.path), "status": "failed", "output": None}
    started = time.monotonic()
    made = None
    try:
        with ProgressLine(case.path.name) as progress:
            made = segment_case(predictor, case, _no_place, progress)
        row |= made.facts | {"status": "ok"}
    except Cancelled:
        raise
    except Exception as error:
        row["error"] = describe(error)
    return row | {"seconds": round(time.monotonic() - started, 3)}, made


def _no_place(volume: Volume) -> None:
    """Say that a mask is not written yet; refuse a stack before it is segmented."""
    if volume.n_slices > 1:
        raise InputError(
            f"'{volume.name}' has {volume.n_slices} slices, and COCO annotations are of single images. Use .nii.gz."
        )


def _records(done: list[tuple[CaseFile, Segmented]], out: Path) -> list[Path]:
    """Save a record for each image: beside ``out``, under its name and the image's where there are several."""
    from napari_llm4seg.predict.record import Record, record_place

    places: list[Path] = []
    for case, made in done:
        place = record_place(out)
        if len(done) > 1:
            name = case.name.replace("/", "_")
            place, number = out.with_name(f"{out.stem}.{name}.record.json"), 2
            while place in places:
                place, number = out.with_name(f"{out.stem}.{name}_{number}.record.json"), number + 1
        places.append(Record.of(made.prediction, made.volume, out).save(place))
    return places


def _say(row: dict[str, Any]) -> None:
    if row["status"] == "failed":
        line(f"llm4seg: {row['input']}: {row['error']}")
        return
    from napari_llm4seg.labels.measure import sizes_words

    for message in row["messages"]:
        line(f"{Path(row['input']).name}: {message}")
    print(f"{row['input']}: {sizes_words(row['classes'])}, {row['seconds']:.1f} s", flush=True)
