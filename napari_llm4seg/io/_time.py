"""Files with time points: one array for the viewer, one chosen time point for everything that takes a volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.errors import InputError
from napari_llm4seg.volume import Kind, Unit, Volume


@dataclass(frozen=True, eq=False)
class TimeStack:
    """One scan at several time points, all on one grid.

    Parameters
    ----------
    data : array (C, T, Z, Y, X), numpy or dask
    affine, unit, kind, name, metadata
        As in ``Volume``; the affine is that of each time point.
    seconds : float or None
        Between time points, where the file says it.
    """

    data: Any
    affine: npt.NDArray[np.float64]
    unit: Unit
    name: str
    kind: Kind = "intensity"
    seconds: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def at(self, time: int) -> Volume:
        """Return time point ``time``, counted from 1.

        Raises
        ------
        InputError
            If there is no such time point.
        """
        count = self.data.shape[1]
        if not 1 <= time <= count:
            raise InputError(f"'{self.name}' has time points 1 to {count}; there is no {time}.")
        metadata = {**self.metadata, "time": time}
        return Volume(self.data[:, time - 1], self.affine, self.kind, self.unit, self.name, metadata)


def one_time(found: Volume | TimeStack, time: int | None) -> Volume:
    """Return ``found`` as a volume: the time point ``time``, counted from 1, of a file that has several.

    Raises
    ------
    InputError
        If the file has several and none was chosen, or has none and one was chosen.
    """
    if isinstance(found, TimeStack):
        if time is None:
            count = found.data.shape[1]
            raise InputError(
                f"'{found.name}' holds {count} time points. Choose one from 1 to {count}: --time T on the command "
                "line, read(path, time=T) in Python; napari opens all of them."
            )
        return found.at(time)
    if time not in (None, 1):
        raise InputError(f"'{found.name}' has no time points to choose from. Leave the time away.")
    return found
