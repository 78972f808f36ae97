"""The Export section: writes the chosen mask with its geometry, classes and record, in a job."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_llm4seg.errors import LLM4SegError
from napari_llm4seg.gui.controllers import words
from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.ports import ExportSource, MaskInfo, MaskPort, Runner
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState
from napari_llm4seg.gui.views.abstract.export import ExportState, ExportView

if TYPE_CHECKING:
    from napari_llm4seg.predict.export import Exported


@dataclass(frozen=True)
class Format:
    """One format: ``keeps`` says what it holds; ``needs`` what of the mask or its scan it cannot do without."""

    suffix: str
    label: str
    keeps: str
    needs: str = ""


FORMATS = (
    Format(".nii.gz", "NIfTI (.nii.gz)", "Keeps the scan's grid and header codes, and the class names."),
    Format(".dcm", "DICOM-SEG (.dcm)", "Refers to the scan's series; class names and colours.", "dicom"),
    Format(".seg.nrrd", "3D Slicer (.seg.nrrd)", "Keeps place, class names and colours, as 3D Slicer reads them."),
    Format(".ome.zarr", "OME-Zarr (.ome.zarr)", "Keeps spacing, origin, class names and colours; for large masks."),
    Format(".tif", "TIFF (.tif)", "Keeps spacing, class names and colours; other programs see no place."),
    Format(".png", "PNG (.png)", "Keeps class names and colours; pixel values are the classes.", "slice"),
    Format(".json", "COCO (.json)", "Outlines of every connected part, with class names.", "slice"),
)


class ExportController:
    """Writes ``session.mask_id`` where a person says.

    Parameters
    ----------
    session : Session
    port : MaskPort
        Read, never listened to.
    view : ExportView
    runner : Runner
    """

    def __init__(self, session: Session, port: MaskPort, view: ExportView, runner: Runner) -> None:
        self.session, self.port, self.view, self._runner = session, port, view, runner
        self._listening = Listening()
        self._chosen: str | None = None
        self._progress: ProgressState | None = None
        self._message: Message | None = None

    def start(self) -> None:
        self.view.attach(self)
        self._listening.to(
            (self.session.mask_changed, self._mask_changed),
            (self.session.masks_changed, self._render),
        )
        self._render()

    def close(self) -> None:
        self._listening.stop()

    def choose_format(self, suffix: str) -> None:
        self._chosen, self._message = suffix, None
        self._render()

    def dismiss_message(self) -> None:
        self._message = None
        self._render()

    def save(self, path: Path) -> None:
        """Write the mask to ``path``; its format is added to a name that has none."""
        mask = self._mask()
        if mask is None or self._progress is not None:
            return
        suffix = self._format(mask).suffix
        if not path.name.lower().endswith(tuple(one.suffix for one in FORMATS)) and not path.suffix:
            path = path.with_name(path.name + suffix)
        try:
            source = self.port.export_source(mask.id)
        except LLM4SegError as error:
            self._say(words.failure(error, "Reading the mask"))
            return
        self._message, self._progress = None, ProgressState(0, 0, f"writing {path.name}")
        self._render()
        self._runner.start(
            lambda ctx: _write(path, source),
            on_result=lambda found: self._written(found),
            on_error=lambda error: self._say(words.failure(error, f"Writing {path.name}")),
        )

    def _written(self, found: Exported) -> None:
        record = f", with what made it in {found.record.name}" if found.record is not None else ""
        said = " ".join((f"Written: {found.output}{record}.", *found.messages))
        self._say(Message("warning" if found.messages else "info", said))

    def _say(self, message: Message) -> None:
        self._message, self._progress = message, None
        self._render()

    def _mask(self) -> MaskInfo | None:
        return next((mask for mask in self.port.masks() if mask.id == self.session.mask_id), None)

    def _mask_changed(self, _: object) -> None:
        self._message = None
        self._render()

    def _format(self, mask: MaskInfo) -> Format:
        """Return the chosen format where it can hold the mask, else the one that fits."""
        able = [one for one in FORMATS if not _missing(one, mask)]
        chosen = next((one for one in able if one.suffix == self._chosen), None)
        fits = ".nii.gz" if mask.n_slices > 1 or mask.in_mm else ".png"
        return chosen or next((one for one in able if one.suffix == fits), able[0])

    def _render(self, _: object = None) -> None:
        mask = self._mask()
        if mask is None:
            self.view.show_state(ExportState(save=ButtonState(False, "There is no mask to export.")))
            return
        chosen = self._format(mask)
        busy = self._progress is not None
        able = [one for one in FORMATS if not _missing(one, mask)]
        left_out = [f"{one.label}: {_missing(one, mask)}" for one in FORMATS if _missing(one, mask)]
        self.view.show_state(
            ExportState(
                formats=tuple(Choice(one.suffix, one.label, "\n".join([one.keeps, *left_out])) for one in able),
                format=chosen.suffix,
                line=chosen.keeps,
                suggested=suggested(mask.name) + chosen.suffix,
                save=ButtonState(
                    not busy, "Wait until the file is written." if busy else "Choose where the mask goes", "Save…"
                ),
                progress=self._progress,
                message=self._message,
            )
        )


def _missing(one: Format, mask: MaskInfo) -> str:
    """Return why the format cannot hold the mask, or an empty string."""
    if one.needs == "slice" and mask.n_slices > 1:
        return f"holds one slice, the mask has {mask.n_slices}."
    if one.needs == "dicom" and not mask.from_dicom:
        return "needs a scan that was opened from DICOM."
    return ""


def suggested(name: str) -> str:
    """Return a file name, without suffix, for a mask called ``name``."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "mask"


def _write(path: Path, source: ExportSource) -> Exported:
    from napari_llm4seg.predict.export import export

    return export(path, source.labels, source.scan, edited=source.edited)
