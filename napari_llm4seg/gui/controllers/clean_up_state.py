"""What the Clean up section shows, from facts alone. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, log10

from napari_llm4seg.gui.controllers.ports import MaskInfo
from napari_llm4seg.gui.views.abstract.clean_up import CleanUpState, Where
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState
from napari_llm4seg.labels.size import Scale

# What is proposed until a person says otherwise: islands of fewer voxels go, outlines are smoothed over so many.
_FEW_VOXELS, _SMOOTHED_OVER = 50, 1.0
_SLICE_ALONE = "A mask of one slice has nothing between slices."


@dataclass(frozen=True)
class Facts:
    """Everything ``present`` decides from.

    Parameters
    ----------
    mask : MaskInfo or None
    scale : Scale or None
        Of what a step sees: the slice or the volume.
    classes : tuple of (value, name, colour)
    painted : int
        The label that the brush paints, which is the class to clean up.
    where : {"slice", "volume"}
    sizes, radii : mapping of unit to float
        What a person set: below what size islands are removed, how far is smoothed.
    running : bool
        A step is being computed.
    elsewhere : str
        What else is running, in words.
    """

    mask: MaskInfo | None
    scale: Scale | None
    classes: tuple[tuple[int, str, str], ...]
    painted: int
    where: Where
    sizes: Mapping[str, float]
    radii: Mapping[str, float]
    running: bool
    elsewhere: str
    progress: ProgressState | None
    message: Message | None

    @property
    def smallest_unit(self) -> str:
        return self.scale.unit_word if self.scale is not None else "voxels"

    @property
    def radius_unit(self) -> str:
        return "mm" if self.scale is not None and self.scale.unit == "mm" else "px"

    @property
    def usual_size(self) -> float:
        """Below what size islands are removed where nobody set one."""
        return _rounded(_FEW_VOXELS * self.scale.voxel) if self.scale is not None else float(_FEW_VOXELS)

    @property
    def usual_radius(self) -> float:
        """How far is smoothed where nobody set it: over a pixel of the finest axis."""
        return _rounded(_SMOOTHED_OVER * min(self.scale.spacing)) if self.scale is not None else _SMOOTHED_OVER

    @property
    def smallest(self) -> float:
        return self.sizes.get(self.smallest_unit, self.usual_size)

    @property
    def radius(self) -> float:
        return self.radii.get(self.radius_unit, self.usual_radius)


def _rounded(number: float) -> float:
    return float(f"{number:.1g}")


def _decimals(number: float) -> int:
    """Return how many decimals a number is typed with so that it can be made ten times finer."""
    return min(6, max(0, 1 - floor(log10(number))))


def present(facts: Facts) -> CleanUpState:
    """Return the section's state; without a mask it is hidden."""
    if facts.mask is None:
        return CleanUpState()
    flat = facts.mask.n_slices == 1
    name = {value: name for value, name, _ in facts.classes}.get(facts.painted)
    reason = _reason(facts, name)

    def button(what: str, but: str = "") -> ButtonState:
        return ButtonState(not (reason or but), reason or but or what)

    here = "this slice" if facts.where == "slice" and not flat else "the mask"
    return CleanUpState(
        shown=True,
        classes=tuple(Choice(str(value), name) for value, name, _ in facts.classes),
        chosen=str(facts.painted) if name is not None else None,
        where=facts.where,
        flat=flat,
        smallest=facts.smallest,
        smallest_unit=facts.smallest_unit,
        smallest_decimals=_decimals(facts.usual_size),
        radius=facts.radius,
        radius_unit=facts.radius_unit,
        radius_decimals=_decimals(facts.usual_radius),
        keep_largest=button(f"Remove all of {name} in {here} but its largest piece"),
        fill_holes=button(f"Fill what {name} encloses on all sides in {here}; other classes stay"),
        remove_islands=button(f"Remove the pieces of {name} in {here} that are smaller than this"),
        smooth=button(f"Smooth the outline of {name} in {here}; its size stays, other classes stay"),
        fill_between=button(
            f"Fill the empty slices between those where {name} is drawn, by the shapes on either side",
            _SLICE_ALONE if flat else "",
        ),
        cancel=ButtonState(facts.running, "Stop; nothing is changed" if facts.running else "Nothing is running."),
        busy=facts.running,
        progress=facts.progress,
        message=facts.message,
    )


def _reason(facts: Facts, name: str | None) -> str:
    """Return why nothing can be cleaned up now."""
    if facts.running:
        return "A step is being computed."
    if facts.elsewhere:
        return facts.elsewhere
    return "Choose a class of the mask first." if name is None else ""
