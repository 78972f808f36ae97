"""What an inspection needs from the viewer, and what it keeps of a recorded slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]
Place = tuple[float, float, float]

# The layers an inspection draws on, each kept and changed in place.
ATTENTION, FEATURES, COLOURS, DIFFERENCE, OVERLAY = "attention", "features", "colours", "difference", "token"


def axes_of(axis: int) -> tuple[int, int, int]:
    """Return the axes (of z, y, x) of a stored scan in the order in which a scan turned to ``axis`` has them."""
    first, second = (other for other in range(3) if other != axis)
    return axis, first, second


@dataclass(frozen=True, eq=False)
class Target:
    """Where maps go: a scan's layer, which of its frames, and the axis of space (0, 1, 2) its slices follow."""

    scan_id: str
    frame: int
    axis: int


@dataclass(frozen=True, eq=False)
class Drawn:
    """A map to be drawn.

    Attributes
    ----------
    slot : which of an inspection's layers it is
    target : Target
    values : array ([d,] h, w), or ([d,] h, w, 3) uint8 for colours
    matrix : (4, 4), indices (0 or d, row, column) of ``values`` onto voxels of the scan with its slices first
    title : what it shows, in words
    limits : shown from where to where, where nobody changed that by hand
    about : what is kept with the layer
    """

    slot: str
    target: Target
    values: Array
    matrix: npt.NDArray[np.float64]
    title: str
    limits: tuple[float, float] = (0.0, 1.0)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listeners:
    """What the viewer tells: ``target`` says which scan is listened to, None for none.

    A place is (frame, voxel (z, y, x) of the scan as it is stored).
    """

    target: Callable[[], str | None]
    clicked: Callable[[int, Place], None]
    hovered: Callable[[int, Place | None], None]
    moved: Callable[[], None]
    layers_changed: Callable[[], None]


class InspectPort(Protocol):
    """The viewer as an inspection sees it."""

    def volume(self, scan_id: str, frame: int = 0) -> Volume: ...

    def on_show(self, scan_id: str, axis: int = 0) -> tuple[int, int]: ...

    def in_slices(self) -> bool:
        """Return whether the viewer shows a slice, not all in 3-D."""

    def scan_name(self, scan_id: str) -> str: ...

    def stack_of(self, scan_id: str) -> str:
        """Return what the slices of a stack are where they are no slices of a volume, or nothing."""

    def draw(self, drawn: Drawn) -> None:
        """Draw a map on its scan; opacity, colours and, once changed by hand, limits stay as they are."""

    def show_only(self, slots: tuple[str, ...]) -> None:
        """Hide an inspection's other layers, and show those of ``slots`` that there are."""

    def regions(self, scan_id: str) -> list[tuple[str, str]]:
        """Return (identifier, name) of the layers in which a region can be drawn: shapes, and labels."""

    def region(self, layer_id: str, target: Target, z: int, shape: tuple[int, int]) -> Array:
        """Return which pixels of slice ``z`` of the turned scan are inside what was drawn, ``shape``, bool."""

    def say(self, text: str) -> None:
        """Say something in the window's status line; "" gives it back."""

    def connect(self, listeners: Listeners) -> None: ...

    def disconnect(self) -> None: ...
