"""Where ``llm4seg segment`` writes: what an output's name says, and which wishes do not go together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_llm4seg.cli.console import WrongUse

# Those of io.WRITERS, which is not imported here because it brings numpy.
FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha", ".dcm", ".zarr", ".tif", ".tiff", ".npy", ".png", ".json")


def names_a_file(out: Path) -> bool:
    """Return whether ``out`` names a file by its suffix; what exists as a folder, or has no suffix, is a folder.

    Raises
    ------
    typer.BadParameter
        For a suffix that cannot be written.
    """
    name = out.name.lower()
    if name.endswith(".zarr") and (not out.exists() or (out / "zarr.json").exists()):
        return True  # a folder that is written as one file
    if out.is_dir() or not out.suffix:
        if out.is_file():
            raise WrongUse(f"'{out}' is a file without a suffix; give a folder or one of {_known()}.")
        return False
    if name.endswith(FORMATS):
        return True
    # a dot may be part of a folder's name, as in "results.2026-11"
    if out.suffix[1:].isalpha() or out.is_file():
        raise WrongUse(f"'{out}': {out.suffix} cannot be written; use {_known()}, or make that folder first.")
    return False


def _known() -> str:
    return ".nii.gz, .nrrd, .mha, .dcm (DICOM-SEG), .zarr, .tif, .npy; .png or .json (COCO) for single slices"


def check_use(
    inputs: Sequence[Path], out: Path, single: bool, overlay: Path | None, probabilities: Path | None
) -> None:
    coco = out.suffix.lower() == ".json" and single
    if coco and (overlay or probabilities):
        raise WrongUse("--overlay and --probabilities do not go with COCO annotations; give a folder with -o.")
    if single and len(inputs) > 1 and not coco:
        raise WrongUse(f"{len(inputs)} scans need a folder for their masks; '{out}' is one file.")
    if (overlay or probabilities) and len(inputs) > 1:
        raise WrongUse("--overlay and --probabilities are for one scan at a time.")
    if overlay is not None and overlay.suffix.lower() != ".png":
        raise WrongUse(f"--overlay '{overlay}': the picture is a PNG; give a name that ends in .png.")
    if probabilities is not None and not probabilities.name.lower().endswith((".nii.gz", ".nii", ".npy")):
        raise WrongUse(f"--probabilities '{probabilities}': use .nii.gz or .npy.")
    sources = {path.resolve() for path in inputs}
    for path in (out if single else None, overlay, probabilities):
        if path is not None and path.resolve() in sources:
            raise WrongUse(f"'{path}' is the scan itself; give the result another name.")
