"""A checkpoint against a folder of scans with masks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import ClassSpec
from napari_llm4seg.errors import Cancelled, one_line
from napari_llm4seg.files import replacing
from napari_llm4seg.io import read
from napari_llm4seg.io.pairs import Pair, as_classes, find_pairs, read_mask
from napari_llm4seg.metrics import dice, hd95, iou
from napari_llm4seg.predict.predictor import Predictor
from napari_llm4seg.volume import Volume

Mask = npt.NDArray[Any]

_COLUMNS = ("case", "empty", "predicted_empty", "iou", "dice", "hd95", "hd95_unit", "hd95_is_diagonal", "error")


@dataclass(frozen=True)
class CaseScore:
    """One scan's scores, each a mean over the checkpoint's classes.

    Parameters
    ----------
    case : str
        The file's stem.
    empty, predicted_empty : bool
        Whether the mask, and the prediction, hold no class at all.
    iou, dice : float in [0, 1]
        1 where both are empty.
    hd95 : float
        95th percentile Hausdorff distance in ``hd95_unit``; see ``napari_llm4seg.metrics.hd95``.
    hd95_unit : {"mm", "pixel"}
    hd95_is_diagonal : bool
        A class was on one side alone, so that the grid's diagonal stands for its distance.
    class_dice : dict of str to float
        Each class's own Dice by its name, where there are several.
    """

    case: str
    empty: bool
    predicted_empty: bool
    iou: float
    dice: float
    hd95: float
    hd95_unit: str
    hd95_is_diagonal: bool
    class_dice: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A case that gave no score, and why in one line."""

    case: str
    error: str


@dataclass(frozen=True)
class Evaluation:
    """Scores of a checkpoint on a folder.

    Parameters
    ----------
    cases : tuple of CaseScore
    failures : tuple of Failure
        Left out of every mean.
    config : dict
        Checkpoint name and sha256, model, preprocessing, prediction settings, device.
    """

    cases: tuple[CaseScore, ...]
    failures: tuple[Failure, ...]
    config: dict[str, Any]

    @property
    def lesions(self) -> list[CaseScore]:
        """The cases whose mask holds something."""
        return [case for case in self.cases if not case.empty]

    @property
    def hd95_unit(self) -> str:
        """ "mm", "pixel", "mixed" where the scans differ (a mean then means nothing), "none" without any case."""
        units = sorted({case.hd95_unit for case in self.cases})
        return "none" if not units else units[0] if len(units) == 1 else "mixed"

    def as_dict(self) -> dict[str, Any]:
        """Return the means and everything needed to understand them, fit for JSON; absent means are None.

        ``iou``, ``dice`` and ``hd95_mm`` are means over all cases, where an empty mask predicted empty counts as 1, 1
        and 0. ``iou_lesion``, ``dice_lesion`` and ``hd95_lesion`` leave empty masks out; of those, ``n_empty`` in
        number, ``empty_correct`` is the fraction predicted empty. ``dice_by_class`` has the mean of each class over all
        cases, where there are several classes. Distances are in ``hd95_unit``: in pixels where the
        files say nothing about mm. In ``n_hd95_diagonal`` cases a class was missed or made up entirely, and the grid's
        diagonal stands for its distance.
        """
        lesions, empty = self.lesions, [case for case in self.cases if case.empty]
        return {
            "n": len(self.cases),
            "iou": _mean([case.iou for case in self.cases]),
            "dice": _mean([case.dice for case in self.cases]),
            "hd95_mm": _mean([case.hd95 for case in self.cases]),
            "hd95_unit": self.hd95_unit,
            "n_hd95_diagonal": sum(case.hd95_is_diagonal for case in self.cases),
            "n_lesion": len(lesions),
            "iou_lesion": _mean([case.iou for case in lesions]),
            "dice_lesion": _mean([case.dice for case in lesions]),
            "hd95_lesion": _mean([case.hd95 for case in lesions]),
            "dice_by_class": {
                name: _mean([case.class_dice[name] for case in self.cases])
                for name in (self.cases[0].class_dice if self.cases else {})
            },
            "n_empty": len(empty),
            "empty_correct": _mean([float(case.predicted_empty) for case in empty]),
            "n_failed": len(self.failures),
            "failed": [{"case": failure.case, "error": failure.error} for failure in self.failures],
            "config": self.config,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each case, failures last; of several classes each has its column, "dice NAME"."""
        scored = []
        for case in self.cases:
            row = vars(case) | {"error": ""} | {f"dice {name}": value for name, value in case.class_dice.items()}
            scored.append({key: value for key, value in row.items() if key != "class_dice"})
        return scored + [dict.fromkeys(_COLUMNS, "") | vars(failure) for failure in self.failures]

    def write_csv(self, path: str | Path) -> Path:
        """Write ``rows`` as CSV, whole or not at all, and return ``path``."""
        path = Path(path)
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            rows = self.rows()
            writer = csv.DictWriter(file, list(dict.fromkeys([*_COLUMNS, *(key for row in rows for key in row)])))
            writer.writeheader()
            writer.writerows(rows)
        return path


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def score_case(
    case: str, labels: Mask, truth: Mask, classes: tuple[ClassSpec, ...], spacing: tuple[float, float, float], unit: str
) -> CaseScore:
    """Return one case's scores.

    Parameters
    ----------
    case : str
    labels : array (Z, Y, X)
        Predicted label values.
    truth : array (Z, Y, X)
        True label values; for a checkpoint of one class everything above 0 is that class.
    classes : tuple of ClassSpec
    spacing : (z, y, x)
    unit : {"mm", "pixel"}

    Raises
    ------
    InputError
        If the mask holds label values that are none of the checkpoint's.
    """
    truth = as_classes(truth, classes, case)
    pairs = [(labels == spec.value, truth == spec.value) for spec in classes]
    flat = labels.shape[0] == 1  # a 2-D image has no distance along z
    dices = [dice(pred, true) for pred, true in pairs]
    distances = [hd95(pred[0], true[0], spacing[1:]) if flat else hd95(pred, true, spacing) for pred, true in pairs]
    return CaseScore(
        case=case,
        empty=not any(true.any() for _, true in pairs),
        predicted_empty=not any(pred.any() for pred, _ in pairs),
        iou=float(np.mean([iou(pred, true) for pred, true in pairs])),
        dice=float(np.mean(dices)),
        hd95=float(np.mean(distances)),
        hd95_unit=unit,
        hd95_is_diagonal=any(bool(pred.any()) != bool(true.any()) for pred, true in pairs),
        class_dice={spec.name: value for spec, value in zip(classes, dices, strict=True)} if len(classes) > 1 else {},
    )


def evaluate(
    predictor: Predictor,
    images_dir: str | Path,
    masks_dir: str | Path,
    progress: Callable[[int, int, str], Any] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Evaluation:
    """Segment every scan of a folder and compare with its mask.

    Parameters
    ----------
    predictor : Predictor
    images_dir, masks_dir : path
        Scans and masks of the same stems; see ``napari_llm4seg.io.pairs``.
    progress : callable(done, total, message), optional
        In cases.
    cancel : callable -> bool, optional

    Returns
    -------
    Evaluation
        A case that cannot be read, segmented or compared is listed among the failures; the others go on.

    Raises
    ------
    InputError
        If the folders hold no pairs.
    Cancelled
    """
    return evaluate_pairs(predictor, find_pairs(images_dir, masks_dir), progress, cancel)


def evaluate_pairs(
    predictor: Predictor,
    pairs: Sequence[Pair],
    progress: Callable[[int, int, str], Any] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Evaluation:
    """As ``evaluate``, for pairs that are at hand already."""
    cases: list[CaseScore] = []
    failures: list[Failure] = []
    for done, pair in enumerate(pairs):
        if progress is not None:
            progress(done, len(pairs), pair.stem)
        try:
            cases.append(_evaluate(predictor, pair, cancel))
        except Cancelled:
            raise
        except Exception as error:  # whatever is wrong with one case must not lose the others
            failures.append(Failure(pair.stem, one_line(error)))
    if progress is not None:
        progress(len(pairs), len(pairs), "done")
    return Evaluation(tuple(cases), tuple(failures), _config(predictor))


def _evaluate(predictor: Predictor, pair: Pair, cancel: Callable[[], bool] | None) -> CaseScore:
    volume: Volume = read(pair.image)
    truth = read_mask(pair.mask, volume)
    labels = predictor.predict(volume, cancel=cancel, keep_probabilities=False).labels
    classes = predictor.checkpoint.config.model.classes
    return score_case(pair.stem, labels, truth, classes, volume.spacing, volume.unit)


def _config(predictor: Predictor) -> dict[str, Any]:
    config = predictor.checkpoint.config
    return {
        "checkpoint": config.card.name,
        "sha256": predictor.checkpoint.digest,
        "model": config.model.model_dump(mode="json"),
        "preprocess": config.preprocess.model_dump(mode="json"),
        "predict": predictor.config.model_dump(mode="json"),
        "device": str(predictor.device),
    }
