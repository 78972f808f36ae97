"""What one step of clean-up works on, and where its answer belongs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.gui.controllers.ports import MaskInfo
from napari_llm4seg.volume import Volume

Labels = npt.NDArray[Any]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Target:
    """What a step works on: a class of the whole mask, or of one slice of it.

    Parameters
    ----------
    mask : MaskInfo
    volume : Volume
    value, name : int, str
        The class.
    plane : tuple of (axis, index) or None
        The slice; None for the whole.
    frame : tuple of (number, words)
        Of a mask of several time points or channels: which one it is.
    """

    mask: MaskInfo
    volume: Volume
    value: int
    name: str
    plane: tuple[int, int] | None
    frame: tuple[int, str] = (0, "")

    @property
    def box(self) -> Box:
        """The part of the mask that is worked on."""
        parts = [slice(0, size) for size in self.volume.grid]
        if self.plane is not None:
            parts[self.plane[0]] = slice(self.plane[1], self.plane[1] + 1)
        return parts[0], parts[1], parts[2]

    def labels(self) -> Labels:
        """Return a copy of that part, of two axes if it is a slice: the person may go on painting."""
        part = np.array(self.volume.data[0][self.box])
        return part if self.plane is None else part.squeeze(self.plane[0])

    def placed(self, part: Labels, box: tuple[slice, ...]) -> tuple[Labels, Box]:
        """Return what was computed of ``labels()[box]``, and its place, along the mask's three axes."""
        if self.plane is not None:
            axis = self.plane[0]
            part, box = np.expand_dims(part, axis), (*box[:axis], self.box[axis], *box[axis:])
        return part, (box[0], box[1], box[2])

    @property
    def axes(self) -> tuple[int, ...]:
        """Those of (z, y, x) that the step sees."""
        return tuple(axis for axis in range(3) if self.plane is None or axis != self.plane[0])

    @property
    def where(self) -> str:
        """Return " in slice 41, time point 3 of 4", or nothing for the whole of a mask that has no such."""
        said = [self.frame[1]] if self.frame[1] else []
        if self.plane is not None and self.volume.n_slices > 1:
            axis = "" if self.plane[0] == 0 else f" along {'zyx'[self.plane[0]]}"
            said.insert(0, f"slice {self.plane[1]}{axis}")
        return f" in {', '.join(said)}" if said else ""
