"""What a person has done with each slice of a mask: nothing yet, edited it, or said that it is right.

The state follows from contents alone: what is in the slice now, what the model wrote there and what was confirmed.
So it does not matter by which tool a slice was changed, and undoing everything leads back to where it was.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_llm4seg.digests import mask_digest

Array = npt.NDArray[Any]
SliceState = Literal["untouched", "edited", "confirmed"]

EMPTY = mask_digest(np.zeros((1, 1), np.uint8))


class Review:
    """The state of every slice of one mask along whichever axis it is reviewed.

    Parameters
    ----------
    n_slices : int
        Slices along the axis.
    written : mapping of slice to str, optional
        ``napari_llm4seg.digests.mask_digest`` of what the model wrote; a slice that is not named was left empty.
    """

    def __init__(self, n_slices: int, written: Mapping[int, str] | None = None) -> None:
        if n_slices < 1:
            raise ValueError(f"a review needs at least one slice, not {n_slices}")
        self._written: dict[int, str] = dict(written or {})
        self._now = [self._written.get(z, EMPTY) for z in range(n_slices)]
        self._confirmed: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._now)

    def written(self, z: int) -> str:
        """Return the digest of what the model wrote in slice ``z``."""
        return self._written.get(z, EMPTY)

    def model_wrote(self, z: int, digest: str) -> None:
        """Take note that the model has written slice ``z``; it is untouched, unless this very content was confirmed."""
        self._written[z] = self._now[z] = digest
        if self._confirmed.get(z) != digest:
            self._confirmed.pop(z, None)

    def edited(self, z: int, digest: str) -> bool:
        """Take note of what slice ``z`` holds now; return whether that is news.

        The model's own content makes the slice untouched again, and the one that was confirmed makes it confirmed.
        """
        changed = self._now[z] != digest
        self._now[z] = digest
        return changed

    def confirm(self, z: int) -> None:
        """Take note that slice ``z`` is right as it is."""
        self._confirmed[z] = self._now[z]

    def unconfirm(self, z: int) -> None:
        """Take that back; the slice is edited or untouched, as its content says."""
        self._confirmed.pop(z, None)

    def restore(self, z: int, digest: str, state: SliceState, written: str) -> None:
        """Put slice ``z`` back as it was left in an earlier session, where the model had ``written`` it."""
        self._written[z] = written
        self._now[z] = digest
        self.unconfirm(z)
        if state == "confirmed":
            self.confirm(z)

    def state(self, z: int) -> SliceState:
        """Return the state of slice ``z``; one that was edited after it was confirmed is edited."""
        if z in self._confirmed and self._confirmed[z] == self._now[z]:
            return "confirmed"
        return "untouched" if self._now[z] == self.written(z) else "edited"

    def states(self) -> tuple[SliceState, ...]:
        """Return the state of every slice, for a strip along the stack."""
        return tuple(self.state(z) for z in range(len(self)))

    def counts(self) -> dict[SliceState, int]:
        """Return how many slices are of each state."""
        found = Counter(self.states())
        return {"untouched": found["untouched"], "edited": found["edited"], "confirmed": found["confirmed"]}

    def corrected(self) -> tuple[int, ...]:
        """Return the slices that train: edited or confirmed."""
        return tuple(z for z, state in enumerate(self.states()) if state != "untouched")


class ModelMask:
    """What the model wrote, kept to tell what was drawn since; small, for masks are mostly the same.

    Parameters
    ----------
    grid : (slices, Y, X)
        Of the mask with its slices, along whichever axis, first.
    """

    def __init__(self, grid: tuple[int, int, int]) -> None:
        self.grid = grid
        self._slices: dict[int, tuple[str, bytes]] = {}

    def keep(self, z: int, labels: Array) -> None:
        """Keep what the model wrote in slice ``z``, (Y, X)."""
        if labels.shape != self.grid[1:]:
            raise ValueError(f"a slice of {self.grid} is {self.grid[1:]}, not {labels.shape}")
        if labels.any():
            self._slices[z] = labels.dtype.str, zlib.compress(np.ascontiguousarray(labels).data, 1)
        else:
            self._slices.pop(z, None)

    def __contains__(self, z: int) -> bool:
        """Whether the model wrote anything in slice ``z``."""
        return z in self._slices

    def update(self, other: ModelMask) -> None:
        """Take over every slice that ``other``, of the same grid, has kept."""
        self._slices.update(other._slices)

    def slice_at(self, z: int) -> Array:
        """Return what the model wrote in slice ``z``; zeros where it wrote nothing."""
        dtype, data = self._slices.get(z, ("|u1", b""))
        if not data:
            return np.zeros(self.grid[1:], np.uint8)
        return np.frombuffer(zlib.decompress(data), dtype).reshape(self.grid[1:])


def drawn(labels: Array, model: Array) -> npt.NDArray[np.bool_]:
    """Return where a person changed what the model wrote, (Y, X): painted, relabelled or erased."""
    return np.asarray(labels != model, dtype=np.bool_)


def annotated(labels: Array, model: Array, state: SliceState, partial: bool) -> npt.NDArray[np.bool_] | None:
    """Return which pixels of a slice count, None where all do.

    With ``partial`` annotation only what was drawn counts. A confirmed slice counts whole: somebody said it is right.
    """
    return drawn(labels, model) if partial and state != "confirmed" else None
