"""What a cell leaves behind: one row of counts, from which every score is computed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_llm4seg.corrections.suggest import Evidence
from napari_llm4seg.errors import InputError
from napari_llm4seg.files import write_text
from napari_llm4seg.labels.cleanup import keep_largest
from napari_llm4seg.labels.size import Scale
from training.annotation_effort.cases import Case
from training.annotation_effort.methods import Said
from training.annotation_effort.plan import Session

Row = dict[str, Any]
Where = Literal["rest", "extent", "largest"]
Array = npt.NDArray[Any]
STEM = "rows"


def key(row: Row) -> tuple[str, str, str, int, int]:
    """Return what there is one row of: case, method, choice, seed and number of corrected slices."""
    return row["case"], row["method"], row["choice"], row["seed"], row["k"]


def row_key(session: Session, k: int) -> tuple[str, str, str, int, int]:
    return session.case, session.method, session.choice, session.seed, k


class Log:
    """The rows in ``folder``, in files of JSON lines; that of this process is replaced whole at each new one.

    Parameters
    ----------
    folder : Path
    part : str
        Of the name of this process's file, where several work side by side: all files are read, one is written.

    Raises
    ------
    InputError
        Where a line is no row.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self.path = folder / f"{STEM}{part}.jsonl"
        self.others: list[Row] = []
        self.own: list[Row] = []
        for path in sorted(folder.glob(f"{STEM}*.jsonl")):
            rows = self.own if path == self.path else self.others
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                try:
                    row = json.loads(line)
                    key(row), row["digest"]
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(f"Line {number} of '{path}' is no row of this study. Delete it.") from error
                rows.append(row)

    @property
    def rows(self) -> list[Row]:
        return self.others + self.own

    def add(self, row: Row) -> None:
        """Write a row; one of the same cell in the same file gives way to it."""
        self.own = [other for other in self.own if key(other) != key(row)] + [row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, "".join(json.dumps(each) + "\n" for each in self.own))

    def find(self, session: Session, k: int, digest: str) -> Row | None:
        """Return the finished row of a cell, unless it was made with other settings."""
        found = (row for row in self.rows if key(row) == row_key(session, k) and row["digest"] == digest)
        return next(found, None)

    def same(self, session: Session, slices: Collection[int], digest: str) -> Row | None:
        """Return the row of another choice that came to the same slices: the training would be the very same."""
        for row in self.rows:
            mine = (row["case"], row["method"], row["seed"], row["digest"])
            if mine == (session.case, session.method, session.seed, digest) and set(row["slices"]) == set(slices):
                return row
        return None


def counts(case: Case, said: Said) -> dict[str, Any]:
    """Return true positive, predicted and true pixels of each slice, by class.

    Of a stack also "largest": the former two where of each class the largest connected piece is kept.
    """
    values = [spec.value for spec in case.classes]
    found: dict[str, Any] = _agreement(said.labels, case.truths, values)
    found["true"] = [[int((truth == v).sum()) for v in values] for truth in case.truths]
    if case.stack:
        found["largest"] = _agreement(list(_largest(np.stack(said.labels), values)), case.truths, values)
    return found


def _agreement(masks: Sequence[Array], truths: Sequence[Array], values: Sequence[int]) -> dict[str, list[list[int]]]:
    pairs = list(zip(masks, truths, strict=True))
    return {
        "hits": [[int(((mask == v) & (truth == v)).sum()) for v in values] for mask, truth in pairs],
        "said": [[int((mask == v).sum()) for v in values] for mask, _ in pairs],
    }


def _largest(labels: Array, values: Sequence[int]) -> Array:
    """Return labels (Z, Y, X) of which each class keeps its largest piece, as one click in the window does it."""
    for value in values:
        if (labels == value).any():
            labels = keep_largest(labels, value, Scale((1.0, 1.0, 1.0), 1.0, "pixel")).labels
    return labels


def dice(row: Row, where: Where = "rest") -> float:
    """Return the Dice coefficient on everything not corrected.

    Of a stack it is that of all these slices' pixels together, mean over the classes; of a set of images the mean over
    images. "extent" looks at the slices from the first to the last that hold the thing only; "largest" at everything,
    where the largest connected piece of each class was kept.
    """
    masks = row["largest"] if where == "largest" else row
    hits, said, true = (np.array(of, dtype=np.float64) for of in (masks["hits"], masks["said"], row["true"]))
    counted = np.ones(len(true), dtype=bool)
    counted[list(row["slices"])] = False
    if where == "extent":
        holds = np.flatnonzero(true.any(axis=1))
        counted[: holds[0]] = counted[holds[-1] + 1 :] = False
    hits, both = hits[counted], said[counted] + true[counted]
    if row["stack"]:
        hits, both = hits.sum(axis=0, keepdims=True), both.sum(axis=0, keepdims=True)
    return float(_ratio(2 * hits, both).mean()) if both.size else float("nan")


def _ratio(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.divide(a, b, out=np.ones_like(a), where=b > 0)


def packed(evidence: dict[int, Evidence]) -> dict[str, list[Any]]:
    """Return the evidence as JSON holds it."""
    return {
        str(z): [round(each.unsure, 5), round(each.edge, 6), [round(area, 6) for area in each.areas]]
        for z, each in evidence.items()
    }


def unpacked(values: dict[str, Sequence[Any]]) -> dict[int, Evidence]:
    """Return the evidence of a row."""
    return {int(z): Evidence(unsure, edge, tuple(areas)) for z, (unsure, edge, areas) in values.items()}


def mean_dice(rows: Iterable[Row], where: Where = "rest") -> float:
    """Return the mean of the rows' Dice; NaN without rows."""
    values = [dice(row, where) for row in rows]
    return float(np.mean(values)) if values else float("nan")
