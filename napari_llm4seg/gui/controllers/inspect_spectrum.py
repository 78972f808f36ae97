"""The spectrum tab: how many directions the tokens use, before and after: of this slice, of all, of other versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_llm4seg.gui.controllers.inspect_recording import Desk, Recording, waiting
from napari_llm4seg.gui.views.abstract.common import ButtonState
from napari_llm4seg.gui.views.abstract.inspect import Curve, PlotState, SpectrumState

Row = Mapping[str, Any]


class SpectrumPart:
    """Shows spectra; nothing of it lies on the scan.

    Parameters
    ----------
    desk : Desk
    """

    slots: tuple[str, ...] = ()

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._centred = False
        self._plots: dict[bool, PlotState] = {}
        self._rows: list[Row] = []
        self._stack_plot: PlotState | None = None
        self._job: Any = None
        self.stack_rows: list[Row] = []
        self._versions: list[Row] = []

    def choose(self, what: str, value: Any) -> None:
        if what == "centred":
            self._centred = bool(value)
            self._stack_plot = self._plot_stack()

    def act(self, what: str, value: Any) -> None:
        if what == "stack":
            self._measure_stack()
        elif what == "compare":
            self._compare(Path(value))

    def forget(self) -> None:
        self._plots, self._rows, self.stack_rows, self._versions = {}, [], [], []
        self._stack_plot, self._job = None, None

    def draw(self) -> None:
        recording = self._desk.recording
        if recording is None or self._plots or waiting(self._job):
            return

        def done(found: tuple[dict[bool, PlotState], list[Row]]) -> None:
            self._plots, self._rows = found

        self._job = self._desk.quick("Taking the spectrum", lambda ctx: compute(recording), done)

    def value_at(self, token: int) -> str:
        return f"token {token}"

    # ------------------------------------------------------------------ what takes longer

    def _measure_stack(self) -> None:
        recording = self._desk.recording
        if recording is None:
            return
        volume = self._desk.port.volume(recording.asked.scan_id, recording.asked.frame)

        def work(ctx: Any) -> list[Row]:
            from napari_llm4seg.activations.spectra import along_stack

            return list(along_stack(recording.seen.predictor, volume, progress=ctx.progress, cancel=ctx.cancelled))

        def done(rows: list[Row]) -> None:
            self.stack_rows = rows
            self._stack_plot = self._plot_stack()

        self._desk.run("taking the spectrum of every slice", work, done)

    def _compare(self, path: Path) -> None:
        """Take the spectrum of this slice under another version of the checkpoint."""
        recording = self._desk.recording
        if recording is None:
            return
        volume = self._desk.port.volume(recording.asked.scan_id, recording.asked.frame)
        seen = recording.seen

        def work(ctx: Any) -> list[Row]:
            from napari_llm4seg.activations.spectra import across_versions
            from napari_llm4seg.predict import load_model

            ctx.progress(0, 0, "loading the other version")
            other = load_model(str(path), str(seen.predictor.device))
            z, y, x = seen.tokens.centre(len(seen.tokens) // 2)
            at = None if seen.frame.kind == "slice" else (y, x)
            return list(
                across_versions(
                    {path.name: other}, volume, round(z), at=at, progress=ctx.progress, cancel=ctx.cancelled
                )
            )

        def done(rows: list[Row]) -> None:
            self._versions = [row for row in self._versions if row["version"] != path.name] + rows

        self._desk.run("taking the spectrum under another version", work, done)

    # ------------------------------------------------------------------ saying

    def _plot_stack(self) -> PlotState | None:
        if not self.stack_rows:
            return None
        column = "effective_rank_centred" if self._centred else "effective_rank"
        curves = []
        for point in dict.fromkeys(row["point"] for row in self.stack_rows):
            rows = [row for row in self.stack_rows if row["point"] == point]
            slices = np.asarray([row["slice"] for row in rows], float)
            curves.append(Curve(point, slices, np.asarray([row[column] for row in rows], float)))
        return PlotState("slice", "eff. rank", tuple(curves))

    def _words(self, rows: list[Row], with_version: bool = False) -> tuple[tuple[str, str, str], ...]:
        ending = "_centred" if self._centred else ""
        return tuple(
            (
                f"{row['version']}: {row['point']}" if with_version else str(row["point"]),
                f"{row[f'effective_rank{ending}']:.2f}",
                f"{row[f'log_inverse_top_share{ending}']:.2f}",
            )
            for row in rows
        )

    def state(self) -> SpectrumState:
        recording = self._desk.recording
        if recording is None:
            return SpectrumState()
        from napari_llm4seg.activations.spectra import FORMULAS

        blocked = self._desk.blocked()
        slices = recording.seen.frame.scan.n_slices
        stack = blocked or ("" if slices > 1 else "This scan has one slice.")
        if recording.seen.frame.kind == "patch":
            stack = "This model sees volumes: there is one spectrum for each patch, not for each slice."
        return SpectrumState(
            centred=self._centred,
            plot=self._plots.get(self._centred),
            rows=self._words(self._rows),
            tooltips=(FORMULAS["effective_rank"], FORMULAS["log_inverse_top_share"]),
            stack=ButtonState(not stack, stack or f"Take the spectrum of all {slices} slices", "Along the stack"),
            stack_plot=self._stack_plot,
            compare=ButtonState(
                not blocked, blocked or "Take this slice's spectrum under another version", "Another version…"
            ),
            versions=self._words(self._versions, with_version=True),
        )


def compute(recording: Recording) -> tuple[dict[bool, PlotState], list[Row]]:
    """Return the shares of the singular values as they are and centred, and the rows of figures."""
    from napari_llm4seg.activations.features import WORDS
    from napari_llm4seg.activations.spectra import of_slice, spectra

    plots = {}
    for centred in (False, True):
        curves = [
            Curve(WORDS[point], np.arange(1, found.shares.shape[1] + 1, dtype=float), found.shares[0])
            for point, found in spectra(recording.seen.activations, centred).items()
        ]
        plots[centred] = PlotState("singular value, largest first", "share", tuple(curves), log=True)
    return plots, list(of_slice(recording.seen))
