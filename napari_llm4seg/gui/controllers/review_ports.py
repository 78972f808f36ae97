"""What the controllers of Correct & Retrain need from the viewer: one mask with its scan, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from napari_llm4seg.corrections import ModelMask
from napari_llm4seg.gui.controllers.ports import MaskInfo, ResultSpec
from napari_llm4seg.volume import Volume

Array = npt.NDArray[Any]
Classes = tuple[tuple[int, str, str], ...]


@dataclass(frozen=True)
class Surveyed:
    """What a mask holds: ``digests`` of every slice, and ``model``, the slices that are as the model wrote them.

    The model mask's first axis is the one along which the slices follow one another.
    """

    digests: tuple[str, ...]
    model: ModelMask


class Rewritten(Protocol):
    """What a new model wrote over slices that nobody had edited."""

    @property
    def slices(self) -> Sequence[int]:
        """Those that were written."""

    def undo(self) -> int:
        """Put back what was there, in one undo step, where nobody has edited since; return how many slices."""


class Stack(Protocol):
    """A mask and the scan it lies on, along the axis in which its slices were made.

    Attributes
    ----------
    id, name : of the mask's layer
    scan_id : of the scan's layer
    axis : int
        Axis of the scan's grid (0, 1, 2 of z, y, x) along which the slices follow one another.
    scan : Volume
    """

    id: str
    name: str
    scan_id: str
    axis: int
    scan: Volume

    def __len__(self) -> int:
        """Number of slices."""

    def problem(self) -> str:
        """Return what became of the layer that keeps it from being corrected any more, as a sentence, or nothing."""

    def readable(self) -> bool:
        """Return whether the slices are still there to be read: the layer may have been closed, not resized."""

    def labels(self, z: int) -> Array:
        """Return slice ``z`` of the mask, (Y, X): a view, also once the layer has left the viewer."""

    def image(self, z: int) -> Array:
        """Return slice ``z`` of the scan, (C, Y, X)."""

    def model(self) -> str:
        """Return the digest of the checkpoint that wrote the mask, empty where none did."""

    def classes(self) -> Classes: ...

    def wrote(self) -> Mapping[int, str]:
        """Return the digests (``mask_digest``) of what the model, or a file, put into the slices."""

    def evidence(self) -> Mapping[int, Any]:
        """Return ``corrections.suggest.Evidence`` of the slices whose probabilities were seen."""

    def touched(self) -> tuple[int, ...] | None:
        """Return the slices that the layer's last change touched; None where that is not known."""

    def automatic(self) -> bool:
        """Return whether the layer's last change was a clean-up or the like, which looked at no single slice."""

    def tidied(self, slices: Mapping[int, str]) -> None:
        """Take note that such a change left these slices, of these digests, which nobody has edited."""

    def survey(self, cancelled: Callable[[], bool]) -> Surveyed:
        """Look at every slice; for a job."""

    def surveyed(self, found: Surveyed) -> None:
        """Take note, in the window's thread, of what a mask that no model wrote held when it was met."""

    def put(self, slices: Mapping[int, Array]) -> int:
        """Write these slices (Y, X) in one undo step; return how many pixels changed."""

    def rewrite(self, slices: Mapping[int, Array], spec: ResultSpec, evidence: Mapping[int, Any]) -> Rewritten:
        """Write a new model's slices over those that are as the old one left them, in one undo step.

        The mask is the new model's from then on; ``evidence`` is what its probabilities say of the slices.
        """


class ReviewPort(Protocol):
    """The viewer as the review sees it."""

    def masks(self) -> list[MaskInfo]: ...

    def open(self, mask_id: str, scan_id: str | None) -> Stack:
        """Return the mask with its scan, ``scan_id`` where it fits and the mask says none.

        Raises ``InputError`` where it cannot be corrected.
        """

    def scan(self, scan_id: str) -> Volume:
        """Return an image layer as a volume; raises ``InputError`` where it is none."""

    def is_image(self, scan_id: str) -> bool:
        """Return whether that is the layer of a single image, not of a stack."""

    def image_of(self, path: Path) -> str | None:
        """Return the layer of the single image that was read from ``path``, if it is open."""

    def add_image(self, volumes: Sequence[Volume]) -> str:
        """Add what was read from an image file; return its (first) layer's identifier."""

    def show_alone(self, scan_id: str) -> None:
        """Hide other single images and their masks, show this one with its own, and fit the view."""

    def take_tool(self, stack: Stack) -> None:
        """Go on in the mask of an image with the tool, brush and label that the one before was drawn with."""

    def make_mask(self, scan_id: str, classes: Classes, model: str = "") -> str:
        """Add an empty mask on a scan and return its identifier.

        ``model`` is the digest of the checkpoint whose mask is corrected there, empty where there was none.
        """

    def here(self, stack: Stack) -> int | None:
        """Return the slice of ``stack`` on the screen; None while it is seen in 3-D or cut another way."""

    def show(self, stack: Stack, z: int) -> None:
        """Bring slice ``z`` on the screen."""

    def show_change(self, stack: Stack, z: int, after: Array) -> tuple[int, int]:
        """Show over slice ``z`` what ``after`` (Y, X) would add and take away; return both in pixels."""

    def drop_change(self) -> None:
        """Take that away again."""

    def toggle(self, stack: Stack) -> None:
        """Hide the mask, or show it."""

    def bind(self, keys: Mapping[str, Callable[[], None]]) -> list[str]:
        """Let keys act while the canvas has the focus; return those that are taken by something else."""

    def connect(
        self, on_layers: Callable[[], None], on_edit: Callable[[str], None], on_move: Callable[[], None]
    ) -> None:
        """Call back when layers come or go, when a mask's voxels change, and when another slice is shown."""

    def disconnect(self) -> None: ...
