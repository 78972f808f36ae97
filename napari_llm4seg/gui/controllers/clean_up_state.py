"""What the Clean up section shows, from facts alone. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from napari_llm4seg.gui.controllers.ports import MaskInfo
from napari_llm4seg.gui.views.abstract.clean_up import CleanUpState, Where
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState

# Below what size islands are removed until a person says another one, by unit.
SMALLEST = {"mm³": 100.0, "mm²": 10.0, "voxels": 50.0, "px": 20.0}
_SLICE_ALONE = "A mask of one slice has nothing between slices."


@dataclass(frozen=True)
class Facts:
    """Everything ``present`` decides from.

    Parameters
    ----------
    mask : MaskInfo or None
    in_mm : bool
        Whether the mask knows its size.
    classes : tuple of (value, name, colour)
    painted : int
        The label that the brush paints, which is the class to clean up.
    where : {"slice", "volume"}
    sizes : mapping of unit to float
        Below what size islands are removed.
    radius : float
    running : bool
        A step is being computed.
    elsewhere : str
        What else is running, in words.
    """

    mask: MaskInfo | None
    in_mm: bool
    classes: tuple[tuple[int, str, str], ...]
    painted: int
    where: Where
    sizes: Mapping[str, float]
    radius: float
    running: bool
    elsewhere: str
    progress: ProgressState | None
    message: Message | None

    @property
    def plane(self) -> bool:
        """Whether a step sees one slice."""
        return self.where == "slice" or (self.mask is not None and self.mask.n_slices == 1)

    @property
    def smallest_unit(self) -> str:
        if self.in_mm:
            return "mm²" if self.plane else "mm³"
        return "px" if self.plane else "voxels"

    @property
    def smallest(self) -> float:
        return self.sizes[self.smallest_unit]


def present(facts: Facts) -> CleanUpState:
    """Return the section's state; without a mask it is hidden."""
    if facts.mask is None:
        return CleanUpState()
    flat = facts.mask.n_slices == 1
    name = {value: name for value, name, _ in facts.classes}.get(facts.painted)
    reason = _reason(facts, name)

    def button(what: str, but: str = "") -> ButtonState:
        return ButtonState(not (reason or but), reason or but or what)

    here = "this slice" if facts.plane and not flat else "the mask"
    return CleanUpState(
        shown=True,
        classes=tuple(Choice(str(value), name) for value, name, _ in facts.classes),
        chosen=str(facts.painted) if name is not None else None,
        where=facts.where,
        flat=flat,
        smallest=facts.smallest,
        smallest_unit=facts.smallest_unit,
        radius=facts.radius,
        radius_unit="mm" if facts.in_mm else "px",
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
