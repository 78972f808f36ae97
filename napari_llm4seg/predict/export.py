"""A result written to a file, with the record of what made it beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_llm4seg.io import write
from napari_llm4seg.predict.record import Record, record_place
from napari_llm4seg.volume import Prediction, Volume


@dataclass(frozen=True)
class Exported:
    """What ``export`` wrote; ``record`` is None where nothing is known about what made the labels."""

    output: Path
    record: Path | None

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
    output = write(path, result, like=source)
    provenance = result.provenance if isinstance(result, Prediction) else result.metadata.get("provenance")
    if source is None or not provenance:
        return Exported(output, None)
    record = Record.of(result, source, output, edited=edited)
    return Exported(output, record.save(record_place(output)))
