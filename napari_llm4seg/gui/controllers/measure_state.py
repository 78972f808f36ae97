"""What the Measure section shows, from facts alone. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_llm4seg.gui.controllers.measure_tables import agreement_table, measures_table, summary
from napari_llm4seg.gui.controllers.ports import MaskInfo
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState
from napari_llm4seg.gui.views.abstract.measure import MeasureState
from napari_llm4seg.labels.measure import absent_words

if TYPE_CHECKING:
    from napari_llm4seg.labels.compare import Comparison
    from napari_llm4seg.labels.measure import ClassMeasures


@dataclass(frozen=True)
class Measured:
    """What was found of one mask; ``other`` names the mask it was compared with, ``frame`` the time point."""

    found: tuple[ClassMeasures, ...]
    scan: str
    frame: str = ""
    comparison: Comparison | None = None
    other: str = ""
    other_id: str = ""
    out_of_date: bool = False

    def rows(self) -> list[dict[str, Any]]:
        """Return the table that is copied and saved: one row per class, both tables' columns."""
        from napari_llm4seg.labels.measure import joined

        agreement = self.comparison.classes if self.comparison is not None else ()
        return joined([item.row() for item in self.found], [item.row() for item in agreement])


@dataclass(frozen=True)
class Facts:
    """Everything ``present`` decides from.

    Parameters
    ----------
    mask : MaskInfo
    measured : Measured or None
    others : tuple of MaskInfo
        Masks that it can be compared with; ``other`` is the chosen one, "" none.
    tolerance : float
    running : bool
    """

    mask: MaskInfo
    measured: Measured | None
    others: tuple[MaskInfo, ...]
    other: str
    tolerance: float
    running: bool
    progress: ProgressState | None
    message: Message | None


def present(facts: Facts) -> MeasureState:
    """Return the section's state."""
    measured, running = facts.measured, facts.running
    table = ButtonState(measured is not None, "" if measured is not None else "Measure first.")
    comparison = measured.comparison if measured is not None else None
    none = Choice("", "no other mask", "Choose a mask to compare with")
    return MeasureState(
        shown=True,
        summary=summary(measured.found, measured.out_of_date) if measured is not None else "",
        measures=measures_table(measured.found) if measured is not None else None,
        agreement=agreement_table(comparison.classes) if comparison is not None else None,
        note=_note(measured),
        out_of_date=measured is not None and measured.out_of_date,
        others=(none, *(Choice(item.id, item.name) for item in facts.others)) if facts.others else (),
        other=facts.other,
        tolerance=facts.tolerance,
        unit=measured.found[0].unit if measured is not None and measured.found else "mm",
        measure=ButtonState(not running, "It is being measured." if running else "Measure every class"),
        copy=replace(table, tooltip=table.tooltip or "Copy the table, for a spreadsheet"),
        save=replace(table, tooltip=table.tooltip or "Save the table, one row per class"),
        cancel=ButtonState(running, "Stop measuring", visible=running),
        suggested=f"{facts.mask.name}.csv".replace("/", "-"),
        progress=facts.progress,
        message=facts.message,
    )


def _note(measured: Measured | None) -> str:
    if measured is None:
        return ""
    said = ["The mask was edited since: measure again."] if measured.out_of_date else []
    if measured.frame:
        said.append(f"Of {measured.frame}.")
    if not any(item.voxels for item in measured.found):
        said.append("There is no label in this mask.")
    else:
        said.extend(filter(None, [absent_words(measured.found)]))
        if not measured.scan:
            said.append("No scan of the same grid is chosen: no intensities.")
    if measured.comparison is not None:
        said.append(f"Compared with '{measured.other}'.")
        said.extend(measured.comparison.messages)
    return " ".join(said)
