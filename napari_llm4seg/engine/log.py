"""The run's log: a CSV with a row per epoch, and the same for TensorBoard where that is installed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_llm4seg.files import replacing

LOG, BOARD = "log.csv", "tensorboard"


def has_tensorboard() -> bool:
    """Return whether event files for TensorBoard can be written here."""
    return find_spec("tensorboard") is not None


class RunLog:
    """Keeps ``log.csv`` and ``tensorboard/`` in a run's folder.

    Parameters
    ----------
    folder : Path
    epoch : int
        The last finished one; what TensorBoard has of later ones, from before a kill, is left out of its curves.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        self._folder, self._epoch = folder, epoch
        self._writer: Any = None

    def write(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log the last row; ``history`` holds all rows so far, each with its ``epoch``."""
        columns = list(dict.fromkeys(key for row in history for key in row))
        with replacing(self._folder / LOG) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(history)
        if not has_tensorboard():
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder / BOARD), purge_step=self._epoch + 1)
        row = history[-1]
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
