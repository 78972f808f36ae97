"""``llm4seg measure``: how large, how bright and how alike what is in a mask is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_llm4seg.cli.console import Json, ProgressLine, WrongUse, guarded, line, print_json, table

if TYPE_CHECKING:
    from napari_llm4seg.labels.compare import ClassAgreement
    from napari_llm4seg.labels.measure import ClassMeasures
    from napari_llm4seg.volume import Volume


@guarded
def measure(
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="A mask file, or a folder with one as DICOM.")],
    scan: Annotated[
        Path | None, typer.Option("--scan", help="Its scan, for mean and standard deviation of the intensity.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="MASK2", help="Another mask to compare with, of any grid.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Of the surface Dice, in mm (pixels where there are none).")
    ] = 1.0,
    to_csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE.csv", help="One row per class.")] = None,
    as_json: Json = False,
) -> int:
    """Measure every class of a mask: volume, pieces, intensity, diameter; against another one Dice, HD95 and more."""
    from napari_llm4seg.labels.cleanup import Hooks
    from napari_llm4seg.labels.measure import joined, write_csv
    from napari_llm4seg.labels.measure import measure as run

    if to_csv is not None and to_csv.resolve() in {path.resolve() for path in (mask, scan, against) if path}:
        raise WrongUse(f"--csv '{to_csv}' is one of the inputs; give the table another name.")
    labels, volume = _open(mask, scan)
    with ProgressLine(mask.name) as progress:
        found = run(labels, volume, hooks=Hooks(progress))
    rows: list[dict[str, Any]] = [item.row() for item in found]
    messages: tuple[str, ...] = ()
    agreements: tuple[ClassAgreement, ...] = ()
    if against is not None:
        from napari_llm4seg.io.pairs import read_labels
        from napari_llm4seg.labels.compare import compare

        with ProgressLine(against.name) as progress:
            comparison = compare(labels, read_labels(against), tolerance, hooks=Hooks(progress))
        agreements, messages = comparison.classes, comparison.messages
        rows = joined(rows, [item.row() for item in agreements])
    if to_csv is not None:
        write_csv(to_csv, rows)
    if as_json:
        about = {"mask": str(mask), "shape": list(labels.grid), "spacing": list(labels.spacing), "unit": labels.unit}
        print_json({**about, "classes": rows, "messages": messages})
        return 0
    for message in messages:
        line(f"{mask.name}: {message}")
    print("\n".join(in_words(found, agreements)), flush=True)
    return 0


def _open(mask: Path, scan: Path | None) -> tuple[Volume, Volume | None]:
    """Return the mask as labels, on its scan's grid where one is given, and the scan."""
    from napari_llm4seg.io import read
    from napari_llm4seg.io.pairs import read_labels, read_mask

    labels = read_labels(mask)
    if scan is None:
        return labels, None
    volume = read(scan)
    turned = volume.with_data(read_mask(mask, volume)[None], kind="label", name=labels.name, metadata=labels.metadata)
    return turned, volume


def in_words(found: tuple[ClassMeasures, ...], agreements: tuple[ClassAgreement, ...]) -> list[str]:
    """Return both tables as lines for a person; classes without a voxel are named below."""
    from napari_llm4seg.labels.measure import absent_words

    absent = absent_words(found)
    found = tuple(item for item in found if item.voxels)
    if not found:
        return ["There is no label in this mask."]
    unit = "mm" if found[0].unit == "mm" else "pixels"
    lines = table(
        [["class", "size", "pieces", "mean ± sd", f"diameter ({unit})"]]
        + [
            [item.name, item.size_words(), str(item.components), item.intensity_words(), item.diameter_words()]
            for item in found
        ]
    )
    if absent:
        lines.append(absent)
    if agreements:
        tolerance = f"surface Dice at {agreements[0].tolerance:g} {unit}"
        lines += ["", *table(
            [["class", "Dice", "IoU", f"HD95 ({unit})", tolerance]]
            + [
                [item.name, f"{item.dice:.4f}", f"{item.iou:.4f}", item.hd95_words(), f"{item.surface_dice:.4f}"]
                for item in agreements
            ]
        )]  # fmt: skip
    return lines
