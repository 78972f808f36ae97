"""A result written to a file, with the record of what made it beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from napari_llm4seg.io import read, write
from napari_llm4seg.predict.forward import Cancel
from napari_llm4seg.predict.postprocess import label_dtype
from napari_llm4seg.predict.predictor import Predictor
from napari_llm4seg.predict.record import Record, is_complete, record_place
from napari_llm4seg.predict.run import OnProgress
from napari_llm4seg.volume import Prediction, Volume


@dataclass(frozen=True)
class Exported:
    """What ``export`` wrote; ``record`` is None where nothing is known about what made the labels.

    ``messages`` say in words what the file does not keep or had to make up.
    """

    output: Path
    record: Path | None
    messages: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        return [self.output] if self.record is None else [self.output, self.record]


def export(path: Path, result: Prediction | Volume, source: Volume | None, *, edited: bool = False) -> Exported:
    """Write labels in the format that the suffix names, and their record as ``NAME.record.json``.

    Parameters
    ----------
    path : Path
    result : Prediction or Volume of labels
        A volume says by ``metadata["provenance"]`` what made it, where that is known.
    source : Volume, optional
        The scan the labels were made from: they get its grid as its own file says it.
    edited : bool
        Whether a person changed the labels after the run.

    Raises
    ------
    InputError
        If the format cannot hold it, or the place cannot be written to.
    """
    return _recorded(write(path, result, like=source), result, source, edited)


def segment_to(
    path: Path,
    predictor: Predictor,
    volume: Volume,
    *,
    progress: OnProgress | None = None,
    cancel: Cancel | None = None,
    keep_probabilities: bool = False,
) -> tuple[Prediction, Exported]:
    """Segment a scan and export the result.

    Into OME-Zarr the labels go as they are found: with a lazy scan, memory stays flat in the number of slices, and the
    prediction's ``labels`` lie on the disk.

    Parameters
    ----------
    path : Path
        Appears when all is done.
    predictor : Predictor
    volume : Volume
    progress, cancel, keep_probabilities
        As in ``Predictor.predict``.

    Raises
    ------
    InputError, DeviceError, Cancelled
        As ``Predictor.predict`` and ``export``.
    """
    if path.suffix.lower() != ".zarr" or keep_probabilities:
        made = predictor.predict(volume, progress=progress, cancel=cancel, keep_probabilities=keep_probabilities)
        return made, export(path, made, volume)
    from napari_llm4seg.io.ome_zarr_write import creating

    specs = predictor.checkpoint.config.model.classes
    classes = tuple((spec.value, spec.name, spec.colour) for spec in specs)
    with creating(path, volume, classes, label_dtype(specs)) as array:
        made = predictor.predict(volume, into=array, progress=progress, cancel=cancel, keep_probabilities=False)
    made = replace(made, labels=read(path).data[0])
    return made, _recorded(path, made, volume, False)


def _recorded(output: Path, result: Prediction | Volume, source: Volume | None, edited: bool) -> Exported:
    provenance = result.provenance if isinstance(result, Prediction) else result.metadata.get("provenance")
    if source is None:
        return Exported(output, None)
    said = tuple(_caveats(output, source))
    if not is_complete(provenance):
        return Exported(output, None, said)
    record = Record.of(result, source, output, edited=edited)
    return Exported(output, record.save(record_place(output)), said)


def _caveats(output: Path, source: Volume) -> Iterator[str]:
    about = source.metadata.get("dicom")
    named = isinstance(about, Mapping) and about.get("StudyInstanceUID") and about.get("SeriesInstanceUID")
    if output.suffix.lower() == ".dcm" and not named:
        yield (
            "The scan's files name no study or series (anonymised?); the DICOM-SEG has made-up ones, the same every "
            "time, and is found by its frame of reference alone."
        )
