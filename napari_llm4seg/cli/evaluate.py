"""``llm4seg evaluate``: a model held against masks drawn by people."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_llm4seg.cli.console import FAILED, Device, Json, ProgressLine, guarded, line, print_json
from napari_llm4seg.cli.predictor import Model, open_model


@guarded
def evaluate(
    images: Annotated[Path, typer.Option("--images", metavar="DIR", help="Folder of scans.")],
    masks: Annotated[Path, typer.Option("--masks", metavar="DIR", help="Folder of masks with the scans' names.")],
    model: Model = None,
    device: Device = "auto",
    per_case: Annotated[Path | None, typer.Option("--per-case", metavar="FILE.csv", help="One row per scan.")] = None,
    as_json: Json = False,
) -> int:
    """Segment a folder of scans and compare with their masks: mean IoU, Dice and HD95."""
    from napari_llm4seg.predict.evaluate import evaluate as run

    predictor = open_model(model, device)
    started = time.monotonic()
    with ProgressLine("evaluate") as progress:
        result = run(predictor, images, masks, progress=progress)
    if per_case is not None:
        result.write_csv(per_case)
    for failure in result.failures:
        line(f"llm4seg: {failure.case}: {failure.error}")
    report = result.as_dict() | {"seconds": round(time.monotonic() - started, 3)}
    if as_json:
        print_json(report)
    else:
        print("\n".join(in_words(report)))
    return FAILED if result.failures or not result.cases else 0


def in_words(report: dict[str, Any]) -> list[str]:
    """Return an evaluation's means as lines for a person."""
    lines = [f"{report['n']} scans, means per scan"]
    if report["n"] == 0:
        return ["no scan could be scored"]
    unit = {"mm": "mm", "pixel": "pixels"}.get(report["hd95_unit"], report["hd95_unit"])
    lines.append(f"  all      IoU {report['iou']:.4f}  Dice {report['dice']:.4f}  HD95 {report['hd95_mm']:.2f} {unit}")
    if report["n_lesion"] and report["n_empty"]:
        lines.append(
            f"  {report['n_lesion']} with a structure      IoU {report['iou_lesion']:.4f}  "
            f"Dice {report['dice_lesion']:.4f}  HD95 {report['hd95_lesion']:.2f} {unit}"
        )
        lines.append(
            f"  {report['n_empty']} with an empty mask   {100 * report['empty_correct']:.1f} % predicted empty"
        )
    if report["n_hd95_diagonal"]:
        lines.append(f"  in {report['n_hd95_diagonal']} the image's diagonal stands for a distance that does not exist")
    return lines
