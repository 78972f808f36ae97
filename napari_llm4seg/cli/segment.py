"""``llm4seg segment``: scans in, masks out, each case on its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_llm4seg.cli.console import (
    FAILED,
    Device,
    Json,
    ProgressLine,
    WrongUse,
    describe,
    duration,
    guarded,
    line,
    print_json,
)
from napari_llm4seg.cli.outputs import check_use, names_a_file
from napari_llm4seg.cli.predictor import Model, along, largest_alone, open_model
from napari_llm4seg.errors import Cancelled, InputError

if TYPE_CHECKING:
    from napari_llm4seg.io.cases import CaseFile
    from napari_llm4seg.predict import Predictor
    from napari_llm4seg.volume import Prediction, Volume


@guarded
def segment(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT...", help="Scans; a folder is DICOM, or many scans.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="A folder, or for one scan a file: .nii.gz, .nrrd, .mha, .dcm, .zarr, .tif, .png, .npy; "
            "or one .json (COCO) for images.",
        ),
    ] = None,
    model: Model = None,
    device: Device = "auto",
    overlay: Annotated[
        Path | None, typer.Option("--overlay", help="Also draw the result on the scan (PNG; one scan only).")
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option("--probabilities", help="Also write the probabilities (.nii.gz or .npy; one scan only)."),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option("--series", metavar="N|UID", help="Which DICOM series of a folder; without it they are listed."),
    ] = None,
    time_point: Annotated[
        int | None, typer.Option("--time", metavar="T", help="Which time point of a scan with several, from 1.")
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option(
            "--axis",
            metavar="PLANE",
            help="Slices that a 2-D model runs on: stored (as they were taken), axial, coronal or sagittal.",
        ),
    ] = None,
    largest: Annotated[
        bool,
        typer.Option("--keep-largest", help="Keep only the largest connected piece of each class in the whole scan."),
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(
            "--replay",
            metavar="RECORD.json",
            help="Repeat what a record beside a mask tells, and say whether the result is identical. Takes the scan, "
            "model and device from it; -o writes the repeated mask.",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Segment scans and write their masks, each with a record of what made it (NAME.record.json)."""
    if replay is not None:
        return _replay(replay, inputs or [], out, model, device, as_json)
    if not inputs or out is None:
        raise WrongUse("INPUT... and -o OUT are needed: the scans, and a folder or file for their masks.")
    single = names_a_file(out)
    check_use(inputs, out, single, overlay, probabilities)
    if out.suffix.lower() == ".json" and single:
        from napari_llm4seg.cli.coco import run_coco

        return run_coco(ready(model, device, axis, largest), inputs, out, time_point, as_json)
    batch = _batch(inputs, out, series)
    if batch and (single or overlay or probabilities or time_point is not None):
        raise WrongUse(
            f"'{inputs[0]}' holds {len(batch)} scans; give a folder with -o, and one scan for other options."
        )
    if batch:
        from napari_llm4seg.cli.batch import run_folder

        return run_folder(ready(model, device, axis, largest), batch, out, as_json)
    extras = Extras(overlay, probabilities, series, time_point)
    return _each(ready(model, device, axis, largest), inputs, out, single, extras, as_json)


def ready(model: str | None, device: str, axis: str | None, largest: bool) -> Predictor:
    """Return the model as the command line wants it run."""
    return largest_alone(along(open_model(model, device), axis), largest)


def _batch(inputs: Sequence[Path], out: Path, series: str | None) -> list[CaseFile]:
    """Return the cases of a folder that is not one scan; none where scans were given one by one."""
    if len(inputs) != 1 or not inputs[0].is_dir() or series is not None:
        return []
    from napari_llm4seg.cli.batch import cases_of

    return cases_of(inputs[0], out)


def _each(predictor: Predictor, inputs: Sequence[Path], out: Path, single: bool, extras: Extras, as_json: bool) -> int:
    started = time.monotonic()
    taken: set[Path] = set()
    cases = []
    for path in inputs:
        cases.append(_case(predictor, path, out, single, extras, taken))
        if not as_json:
            _say(cases[-1])
    failed = sum(case["status"] == "failed" for case in cases)
    if as_json:
        about = {"model": predictor.checkpoint.name, "digest": predictor.checkpoint.digest}
        seconds = round(time.monotonic() - started, 3)
        print_json({"cases": cases, "failed": failed, **about, "device": str(predictor.device), "seconds": seconds})
    elif len(cases) > 1:
        line(f"{len(cases) - failed} of {len(cases)} scans segmented in {duration(time.monotonic() - started)}.")
    return FAILED if failed else 0


def _replay(record: Path, inputs: list[Path], out: Path | None, model: str | None, device: str, as_json: bool) -> int:
    if out is not None and not names_a_file(out):
        raise WrongUse(f"'{out}': with --replay, -o is the file of the one mask.")
    from napari_llm4seg.cli.replay import run_replay

    return run_replay(record, inputs, out, model, device, as_json)


@dataclass(frozen=True)
class Extras:
    """What may be asked for beside the mask of the whole scan: files to write, and which part of the scan is meant."""

    overlay: Path | None = None
    probabilities: Path | None = None
    series: str | None = None
    time: int | None = None


def _case(
    predictor: Predictor, path: Path, out: Path, single: bool, extras: Extras, taken: set[Path]
) -> dict[str, Any]:
    """Segment one scan; an error is part of the answer, so that the other scans still get theirs."""
    case: dict[str, Any] = {"input": str(path), "status": "failed", "output": None}
    started = time.monotonic()
    try:
        case |= segment_file(predictor, path, lambda volume: _target(path, volume, out, single, taken), extras)
        case["status"] = "ok"
    except Cancelled:
        raise
    except Exception as error:
        case["error"] = describe(error)
    case["seconds"] = round(time.monotonic() - started, 3)
    return case


def segment_file(
    predictor: Predictor, path: Path, target: Callable[[Volume], Path], extras: Extras = Extras()
) -> dict[str, Any]:
    """Read, segment and write one scan and what else was asked for.

    Parameters
    ----------
    predictor : Predictor
    path : Path
    target : callable(Volume) -> Path
        Where the mask goes; raises ``InputError`` where that place cannot hold it.
    extras : Extras

    Returns
    -------
    dict
        The facts of ``napari_llm4seg.predict.case.segment_case``, and the other files' paths.
    """
    from napari_llm4seg.io import write
    from napari_llm4seg.io.cases import CaseFile
    from napari_llm4seg.io.raster import write_overlay
    from napari_llm4seg.predict.case import segment_case

    case = CaseFile(path, path.name, extras.series, extras.time)
    with ProgressLine(path.name) as progress:
        made = segment_case(predictor, case, target, progress, keep_probabilities=extras.probabilities is not None)
    others: dict[str, str] = {}
    if extras.overlay is not None:
        others["overlay"] = str(write_overlay(extras.overlay, made.volume, made.prediction))
    if extras.probabilities is not None:
        values = _probability_volume(made.prediction)
        others["probabilities"] = str(write(extras.probabilities, values, like=made.volume))
    return made.facts | others


def _probability_volume(prediction: Prediction) -> Volume:
    from napari_llm4seg.volume import Volume

    if prediction.probabilities is None:
        raise InputError("The model gave no probabilities.")
    values = prediction.probabilities.astype("float32")  # NIfTI has no half precision
    return Volume(values, prediction.affine, unit=prediction.unit, name=prediction.name)


def _target(path: Path, volume: Volume, out: Path, single: bool, taken: set[Path]) -> Path:
    """Return where the mask of ``volume`` goes; equal names from different folders are numbered apart."""
    if single:
        if volume.n_slices > 1 and out.suffix.lower() == ".png":
            raise InputError(
                f"'{path.name}' has {volume.n_slices} slices and '{out.name}' holds one; use .nii.gz or .tif."
            )
        if out.suffix.lower() == ".dcm":
            from napari_llm4seg.io.dicom_seg_write import source_slices

            source_slices(volume, out.name)  # refused now, not when the run is done
        return out
    from napari_llm4seg.io._files import stem_of
    from napari_llm4seg.predict.batch import default_ending

    ending = default_ending(path, volume)
    # the dots in the name of a folder of DICOM files, often a UID, are no suffix
    whole = path.is_dir() and path.suffix.lower() != ".zarr"
    stem = path.resolve().name if whole else stem_of(path.resolve())
    place, number = out / f"{stem}_seg{ending}", 2
    while place in taken:
        place, number = out / f"{stem}_seg_{number}{ending}", number + 1
    taken.add(place)
    return place


def in_words(rows: Sequence[dict[str, Any]], voxels: int) -> str:
    """Return the rows of ``labels.measure.sizes`` as a person says them; ``voxels`` are those of the scan."""
    from napari_llm4seg.labels.measure import size_words

    found = []
    for row in rows:
        if not row["pixels"]:
            continue
        found.append(f"{row['name']} {size_words(row)} ({100 * row['pixels'] / voxels:.1f} % of the scan)")
    return ", ".join(found) or "nothing found"


def _say(case: dict[str, Any]) -> None:
    if case["status"] == "failed":
        line(f"llm4seg: {case['input']}: {case['error']}")
        return
    for message in case["messages"]:
        line(f"{Path(case['input']).name}: {message}")
    voxels = case["shape"][0] * case["shape"][1] * case["shape"][2]
    print(f"{case['output']}: {in_words(case['classes'], voxels)}, {case['seconds']:.1f} s", flush=True)
