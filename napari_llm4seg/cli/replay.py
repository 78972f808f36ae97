"""``llm4seg segment --replay``: a recorded result made again and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_llm4seg.cli.console import FAILED, ProgressLine, WrongUse, line, print_json

if TYPE_CHECKING:
    from napari_llm4seg.predict.replay import Replayed


def run_replay(path: Path, inputs: list[Path], out: Path | None, model: str | None, device: str, as_json: bool) -> int:
    """Repeat the run of a record and say whether the result is identical.

    Parameters
    ----------
    path : Path
        The record.
    inputs : list of Path
        The scan, where it is no longer where the record says; at most one.
    out : Path, optional
        Where the repeated mask goes; without it nothing is written.
    model, device : str
        Other ones than recorded, if given.
    as_json : bool

    Returns
    -------
    int
        0 where every label is equal, 1 where not.
    """
    if len(inputs) > 1:
        raise WrongUse(f"--replay repeats one scan; {len(inputs)} were given.")
    from napari_llm4seg.io import read
    from napari_llm4seg.predict.export import export
    from napari_llm4seg.predict.record import Record
    from napari_llm4seg.predict.replay import exported, find_scan, recorded_model, replay

    record = Record.load(path)
    folder = path.absolute().parent
    scan = inputs[0] if inputs else find_scan(record, folder)
    predictor = recorded_model(record, folder, model, device)
    volume = read(scan, series=record.input.series, time=record.input.time)
    with ProgressLine(scan.name) as progress:
        found = replay(record, volume, predictor, original=exported(record, folder), progress=progress)
    output = None if out is None else export(out, found.prediction, volume).output
    if as_json:
        print_json(_facts(found, path, scan, output))
    else:
        _say(found, output)
    return 0 if found.identical else FAILED


def _facts(found: Replayed, path: Path, scan: Path, output: Path | None) -> dict[str, Any]:
    return {
        "record": path,
        "input": scan,
        "output": output,
        "identical": found.identical,
        "differing_voxels": found.differing_voxels,
        "classes": [vars(each) for each in found.classes],
        "differences": list(found.differences),
    }


def _say(found: Replayed, output: Path | None) -> None:
    for sentence in found.differences:
        line(sentence)
    if found.identical:
        print("Identical: every label is equal to the recorded result.")
    else:
        total = found.prediction.labels.size
        count = (
            "The recorded labels are not at hand to be counted"
            if found.differing_voxels is None
            else (f"{found.differing_voxels} of {total} voxels differ")
        )
        print(f"Not identical. {count}.")
        for each in found.classes:
            agreement = "" if each.dice is None else f", Dice {each.dice:.4f}"
            print(f"  {each.name}: {each.voxels_then} voxels then, {each.voxels_now} now{agreement}")
    if output is not None:
        print(output)
