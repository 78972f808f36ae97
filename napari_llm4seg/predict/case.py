"""One case from its file to the file of its mask: what the command line and the batch page both do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_llm4seg.io._files import stem_of
from napari_llm4seg.io.cases import CaseFile
from napari_llm4seg.io.pairs import read_mask
from napari_llm4seg.labels.classes import complete
from napari_llm4seg.labels.measure import sizes
from napari_llm4seg.modalities import mismatch, stated
from napari_llm4seg.predict.export import Exported, segment_to
from napari_llm4seg.predict.predictor import Predictor
from napari_llm4seg.volume import Prediction, Volume

OnProgress = Callable[[int, int, str], Any]


@dataclass(frozen=True)
class Segmented:
    """A case that was segmented and written.

    Attributes
    ----------
    facts : dict
        As JSON: output and record path, shape, spacing in the unit, size per class, messages and device.
    volume : Volume
    prediction : Prediction
    """

    facts: dict[str, Any]
    volume: Volume
    prediction: Prediction


def segment_case(
    predictor: Predictor,
    case: CaseFile,
    place: Callable[[Volume], Path | None],
    progress: OnProgress | None = None,
    cancel: Callable[[], bool] | None = None,
    keep_probabilities: bool = False,
) -> Segmented:
    """Read, segment and write one case, with the record of what made its mask.

    Parameters
    ----------
    predictor : Predictor
    case : CaseFile
    place : callable(Volume) -> Path or None
        Where the mask goes; raises ``InputError`` where that place cannot hold it. None writes nothing.
    progress, cancel, keep_probabilities
        As in ``Predictor.predict``.
    """
    volume = case.read()
    how: dict[str, Any] = {"progress": progress, "cancel": cancel, "keep_probabilities": keep_probabilities}
    written: Exported | None = None
    target = place(volume)
    if target is None:
        prediction = predictor.predict(volume, **how)
    else:
        prediction, written = segment_to(target, predictor, volume, **how)
    doubt = mismatch(stated(volume.metadata), predictor.checkpoint.config.card.modality)
    said = [
        *([doubt] if doubt else ()),
        *volume.metadata.get("messages", ()),
        *prediction.provenance.get("messages", ()),
    ]
    said += written.messages if written else ()
    facts = {
        "output": written and str(written.output),
        "record": written and str(written.record),
        "shape": list(volume.grid),
        "spacing": list(volume.spacing),
        "unit": volume.unit,
        "classes": sizes(prediction.labels, prediction.affine, prediction.unit, prediction.classes),
        "messages": list(dict.fromkeys(str(message) for message in said)),
        "device": str(prediction.provenance.get("device", predictor.device)),
    }
    return Segmented(facts, volume, prediction)


def read_result(case: CaseFile, facts: Mapping[str, Any]) -> tuple[Volume, Volume]:
    """Return the scan of a case and the mask that ``segment_case`` wrote for it, whatever the mask's format.

    Raises
    ------
    InputError
        If either is gone, damaged, or the mask is of another size by now.
    """
    path = Path(str(facts["output"]))
    volume = case.read()
    names = {int(row["value"]): str(row["name"]) for row in facts.get("classes", ())}
    classes = tuple((value, names[value], colour) for value, _, colour in complete((), names))
    mask = Volume(
        read_mask(path, volume)[None],
        volume.affine,
        kind="label",
        unit=volume.unit,
        name=stem_of(path),
        metadata={"source_path": str(path), "classes": classes},
    )
    return volume, mask


def made_by(predictor: Predictor) -> dict[str, Any]:
    """Return what decides a mask besides the scan, as JSON: the checkpoint and how it is run."""
    return {"checkpoint": predictor.checkpoint.digest, "predict": predictor.config.model_dump(mode="json")}
