"""How a layer's axes are read: frames (time points, channels) before space, and its slices counted through all frames.

Space is the last three axes, (z, y, x), or two where there are no more. What comes before them counts frames: each is
a scan of its own. A stack of three axes whose first one is said to be time or channels is a stack of slices all the
same, which only a network of slices can take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Layer

_KINDS = {"t": "time point", "time": "time point", "c": "channel", "ch": "channel", "channel": "channel"}


@dataclass(frozen=True)
class SliceGrid:
    """The slices of an array along one of its axes of space.

    Parameters
    ----------
    shape : tuple of int
        Of the array, colour left out.
    axis : int
        0, 1 or 2 of (z, y, x); of an array (y, x) only 0, which is all of it.
    """

    shape: tuple[int, ...]
    axis: int = 0

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes of frames."""
        return self.shape[:-3]

    @property
    def frames(self) -> int:
        return int(np.prod(self.lead, dtype=int))

    @property
    def per_frame(self) -> int:
        """Slices of each frame."""
        return self.shape[len(self.lead) + self.axis] if len(self.shape) > 2 else 1

    def __len__(self) -> int:
        return self.frames * self.per_frame

    def frame(self, number: int) -> tuple[int, ...]:
        """Return the index of frame ``number`` among the frames' axes."""
        return tuple(int(at) for at in np.unravel_index(number, self.lead)) if self.lead else ()

    def index(self, number: int) -> tuple[int | slice, ...]:
        """Return the index that gives slice ``number``, counted through all frames, as a view of the array."""
        if len(self.shape) < 3:
            return ()
        frame, at = divmod(number, self.per_frame)
        return (*self.frame(frame), *(slice(None),) * self.axis, at)

    def where(self, number: int, rows: Any, columns: Any) -> tuple[Any, ...]:
        """Return the index, an array for each axis, of the pixels at ``rows`` and ``columns`` of slice ``number``."""
        index = self.index(number)
        free = iter((rows, columns))
        whole = [*index, *(slice(None),) * (len(self.shape) - len(index))]
        return tuple(next(free) if isinstance(at, slice) else np.full_like(rows, at) for at in whole)


def grid_shape(layer: Layer) -> tuple[int, ...]:
    """Return the layer's shape in its own axes, colour left out, at the highest resolution."""
    data = layer.data[0] if layer.multiscale else layer.data
    shape = tuple(int(n) for n in data.shape)
    return shape[:-1] if getattr(layer, "rgb", False) else shape


def n_slices(layer: Layer) -> int:
    """Return the number of slices of each frame along its first axis, 1 for a 2-D layer."""
    return SliceGrid(grid_shape(layer)).per_frame


def n_frames(layer: Layer) -> int:
    """Return the number of frames: time points, channels or both."""
    return SliceGrid(grid_shape(layer)).frames


def kind_of_axis(layer: Layer, axis: int) -> str:
    """Return what ``axis`` of the layer counts, "time point" or "channel", as far as its label tells; or nothing."""
    return _KINDS.get(str(layer.axis_labels[axis]).lower(), "")


def frames_in_words(layer: Layer) -> str:
    """Return "4 time points", "4 time points × 2 channels", or nothing where there are no frames."""
    lead = SliceGrid(grid_shape(layer)).lead
    several = [(axis, count) for axis, count in enumerate(lead) if count > 1]
    return " × ".join(f"{count} {kind_of_axis(layer, axis) or 'frame'}s" for axis, count in several)


def frame_kind(layer: Layer) -> str:
    """Return what one frame is: "time point", "channel", or "frame" where that is not said or there are both."""
    several = [axis for axis, count in enumerate(SliceGrid(grid_shape(layer)).lead) if count > 1]
    return (kind_of_axis(layer, several[0]) if len(several) == 1 else "") or "frame"


def stack_of(layer: Layer) -> str:
    """Return what the slices of a stack of three axes are if not slices of a volume: "time point", "channel"; or ""."""
    return kind_of_axis(layer, 0) if len(grid_shape(layer)) == 3 else ""


def on_show(viewer: Any, layer: Layer, axis: int = 0) -> tuple[int, int]:
    """Return (frame, slice along ``axis``) of ``layer`` at the viewer's position, whichever axes are on show."""
    grid = SliceGrid(grid_shape(layer), axis)
    if len(grid.shape) < 3:
        return 0, 0
    point = index_on_show(viewer, layer)
    at = [int(np.clip(np.round(value), 0, size - 1)) for value, size in zip(point, grid.shape, strict=False)]
    frame = int(np.ravel_multi_index(at[: len(grid.lead)], grid.lead)) if grid.lead else 0
    return frame, at[len(grid.lead) + axis]


def index_on_show(viewer: Any, layer: Layer) -> npt.NDArray[np.float64]:
    """Return the layer's index, a number for each of its axes, at the viewer's position.

    Of a layer that lies askew napari shows the slice that the part of the affine along its sliders alone gives.
    """
    world = np.asarray(viewer.dims.point, dtype=float)[-layer.ndim :]
    at = np.asarray(layer.world_to_data(world), dtype=float)
    hidden = [axis - viewer.dims.ndim + layer.ndim for axis in viewer.dims.not_displayed]
    hidden = [axis for axis in hidden if axis >= 0]
    if hidden:
        only = np.zeros(layer.ndim)
        only[hidden] = world[hidden]
        at[hidden] = np.asarray(layer.world_to_data(only), dtype=float)[hidden]
    return at
