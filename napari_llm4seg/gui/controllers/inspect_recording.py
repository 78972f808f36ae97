"""A slice recorded for looking at: what was asked for, what came of it, and what to draw over the scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_llm4seg.config import PredictConfig
from napari_llm4seg.errors import InputError
from napari_llm4seg.gui.controllers.inspect_ports import OVERLAY, Drawn, InspectPort, Place, Target
from napari_llm4seg.gui.views.abstract.common import Message
from napari_llm4seg.volume import Volume

if TYPE_CHECKING:
    from napari_llm4seg.activations.inspection import Inspection

Float = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# Pixels that a token's side is drawn with: enough for stripes and a frame.
_FINE = 8


@dataclass(frozen=True)
class Asked:
    """What a recording was made of; another answer to any of these needs another recording.

    ``predictor`` is the loaded model, compared as the object that it is.
    """

    scan_id: str
    frame: int
    predictor: Any
    config: PredictConfig


@dataclass(frozen=True, eq=False)
class Recording:
    """One recorded slice, tile or patch.

    Attributes
    ----------
    asked : Asked
    seen : Inspection
    entropies : for each layer that ran, its heads' and tokens' entropy as a share of the largest possible, (heads, N)
    """

    asked: Asked
    seen: Inspection
    entropies: tuple[Float, ...]

    @property
    def target(self) -> Target:
        return Target(self.asked.scan_id, self.asked.frame, self.seen.frame.axis)

    def token_at(self, place: Place) -> int | None:
        """Return the token at (slice, row, column) of the turned scan; None where it was not recorded."""
        if self.seen.frame.kind != "patch" and round(place[0]) != self.seen.frame.z:
            return None
        z = float(self.seen.frame.z) if self.seen.frame.kind != "patch" else place[0]
        try:
            return self.seen.token_at(z, place[1], place[2])
        except InputError:
            return None

    def holds_slice(self, z: int) -> bool:
        """Return whether the slice was recorded, in part at least."""
        if self.seen.frame.kind != "patch":
            return z == self.seen.frame.z
        first, last = (self.seen.tokens.centre(token)[0] for token in (0, len(self.seen.tokens) - 1))
        half = abs(self.seen.tokens.cells_to_scan[0, :3]).max() / 2
        return bool(min(first, last) - half <= z <= max(first, last) + half)

    def grid_of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values (N, ...) on the grid of tokens, ([d,] h, w, ...)."""
        return values.reshape(*self.seen.tokens.grid, *values.shape[1:])

    def plane_of(self, values: npt.NDArray[Any], token: int | None) -> npt.NDArray[Any]:
        """Return values (N, ...) as a flat picture (h, w, ...): of a volume, the plane that the token lies in."""
        grid = self.grid_of(values)
        if self.seen.tokens.flat:
            return grid
        depth = np.unravel_index(token, self.seen.tokens.grid)[0] if token is not None else len(grid) // 2
        return np.asarray(grid[depth])


class Desk(Protocol):
    """What the views of an inspection share: what is recorded and clicked, where to draw, and how to run."""

    port: InspectPort
    recording: Recording | None
    token: int | None

    def run(self, doing: str, work: Callable[[Any], Any], done: Callable[[Any], None]) -> None:
        """Run ``work(context)`` in a job and hand its result to ``done``, unless another slice is recorded by then.

        Other docks wait for it; nothing is started while they run something.
        """

    def quick(self, doing: str, work: Callable[[Any], Any], done: Callable[[Any], None]) -> Any:
        """Run what takes a moment the same way, without the others' waiting; a newer one takes its place.

        Returns the job's handle, None where nothing was started.
        """

    def blocked(self) -> str:
        """Return why ``run`` would start nothing now, or nothing."""

    def redraw(self) -> None:
        """Have the open view drawn anew."""

    def render(self) -> None: ...

    def say(self, message: Message) -> None: ...


def waiting(job: Any) -> bool:
    """Return whether the result of a job that ``Desk.quick`` started is still to come."""
    return job is not None and job.state == "running" and not job.cancel_requested


class Part(Protocol):
    """One view of an inspection; ``slots`` are the layers on which it has drawn something."""

    @property
    def slots(self) -> tuple[str, ...]: ...

    def choose(self, what: str, value: Any) -> None: ...

    def act(self, what: str, value: Any) -> None: ...

    def forget(self) -> None: ...

    def draw(self) -> None: ...

    def value_at(self, token: int) -> str: ...


def record(asked: Asked, volume: Volume, place: Place, cancelled: Callable[[], bool]) -> Recording:
    """Record the slice of a place, or the tile or patch around it, and what every click will ask for."""
    from napari_llm4seg.activations.inspection import inspect_slice

    predictor = asked.predictor.with_config(asked.config)
    seen = inspect_slice(predictor, volume, round(place[0]), at=place[1:], cancel=cancelled)
    shares: tuple[Float, ...] = ()
    if seen.proof.ok and seen.layers:
        shares = tuple(seen.entropy(layer)[1] for layer in range(1, len(seen.layers) + 1))
    return Recording(asked, seen, shares)


def overlay(recording: Recording, token: int, visible: Bools | None) -> Drawn:
    """Return the clicked token's frame, and stripes over the tokens that are out of its sight.

    0 is nothing, 1 dimmed, 2 a stripe, 3 the frame.
    """
    grid = recording.seen.tokens.grid
    fine = np.zeros(tuple(_FINE * side for side in grid), dtype=np.uint8)
    if visible is not None and not visible.all():
        hidden = recording.grid_of(~visible)
        for axis in range(len(grid)):
            hidden = hidden.repeat(_FINE, axis=axis)
        stripes = sum(np.indices(fine.shape, sparse=True)) % _FINE < 2
        fine[hidden] = 1
        fine[hidden & stripes] = 2
    cell = np.unravel_index(token, grid)
    box = fine[tuple(slice(_FINE * k, _FINE * (k + 1)) for k in cell)]
    core = box[(slice(1, -1),) * len(grid)].copy()
    box[...] = 3
    box[(slice(1, -1),) * len(grid)] = core
    matrix = np.eye(4)
    for axis in range(3 - len(grid), 3):
        matrix[axis, axis], matrix[axis, 3] = 1 / _FINE, 0.5 / _FINE - 0.5
    return Drawn(OVERLAY, recording.target, fine, recording.seen.tokens.cells_to_scan @ matrix, f"token {token}")
