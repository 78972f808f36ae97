"""Loss and validation curves of a training, drawn with pyqtgraph, which is imported with the first point."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_llm4seg.gui.views.abstract.retrain import CurveState, Points
from napari_llm4seg.gui.views.plotting import still_plot, take_theme

_HEIGHT = 130
# Okabe-Ito; the curves differ by their line and marks too
_LOSS, _SCORE = "#E69F00", "#56B4E9"


class CurvePlot(QWidget):
    """Draws a ``CurveState``: the loss as a line, IoU as dots on a line of its own axis; what is what stands above."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Curves of the training")
        self.legend = QLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(0)
        self._rows.addWidget(self.legend)
        self.plot: Any = None
        self._state: CurveState | None = None

    def show_curve(self, state: CurveState | None) -> None:
        self.setVisible(state is not None)
        if state is None or state == self._state:
            return
        self._state = state
        if self.plot is None:
            self._build()
        self._draw(state)

    def _build(self) -> None:
        import pyqtgraph as pg

        self.plot = still_plot(_HEIGHT)
        self.plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        item = self.plot.getPlotItem()
        item.showAxis("right")
        # IoU has an axis of its own from 0 to 1, the loss one that fits it
        self._second = pg.ViewBox()
        item.scene().addItem(self._second)
        item.getAxis("right").linkToView(self._second)
        self._second.setXLink(item)
        self._second.setYRange(0, 1, padding=0.12)
        self._second.setMouseEnabled(x=False, y=False)
        item.vb.sigResized.connect(self._fit)
        self._loss = item.plot(pen=pg.mkPen(_LOSS, width=2))
        self._score = pg.PlotDataItem(
            pen=pg.mkPen(_SCORE, width=2), symbol="o", symbolSize=6, symbolBrush=_SCORE, symbolPen=_SCORE
        )
        self._second.addItem(self._score)
        item.setLabel("bottom", "epoch")
        self._rows.addWidget(self.plot)
        self._colour()

    def _fit(self) -> None:
        self._second.setGeometry(self.plot.getPlotItem().vb.sceneBoundingRect())

    def _colour(self) -> None:
        """Take the theme's colours."""
        take_theme(self.plot, self.palette(), ("left", "bottom", "right"))

    def changeEvent(self, event: Any) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange) and self.plot is not None:
            self._colour()

    def _draw(self, state: CurveState) -> None:
        last = max((x for x, _ in (*state.loss, *state.score)), default=1.0)
        self.plot.getPlotItem().setXRange(0, max(1.0, last), padding=0.03)
        self._loss.setData(*_columns(state.loss))
        self._score.setData(*_columns(state.score))
        loss = f"loss {state.loss[-1][1]:.3f}" if state.loss else "loss"
        score = f"IoU {state.score[-1][1]:.3f}" if state.score else "IoU"
        self.legend.setText(
            f'<span style="color:{_LOSS}">━</span> {loss} &nbsp; <span style="color:{_SCORE}">━●━</span> {score}'
        )


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
