"""Lines over one another, in the colours of the theme; pyqtgraph is imported when the first plot is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_llm4seg.gui.views.abstract.inspect import PlotState
from napari_llm4seg.gui.views.plotting import still_plot, take_theme

# Okabe and Ito, each with a stroke of its own: told apart without colour too.
_PENS = (
    ("#0072B2", Qt.PenStyle.SolidLine, "━━"),
    ("#E69F00", Qt.PenStyle.DashLine, "╍╍"),
    ("#009E73", Qt.PenStyle.DotLine, "┅┅"),
    ("#CC79A7", Qt.PenStyle.DashDotLine, "╍·"),
)
_HEIGHT = 150


class Plot(QWidget):
    """One plot; its legend stands below it, never on the data."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(2)
        self.legend = QLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setWordWrap(True)
        self.legend.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._rows.addWidget(self.legend)
        self.setAccessibleName(name)
        self.area: Any = None
        self._shown: PlotState | None = None
        self.setVisible(False)

    def show_plot(self, state: PlotState | None) -> None:
        self.setVisible(state is not None)
        if state is None or state is self._shown:
            return
        self._shown = state
        self._draw(state)

    def changeEvent(self, event: Any) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange) and self._shown is not None:
            self._draw(self._shown)

    def _make(self) -> None:
        self.area = still_plot(_HEIGHT)
        self.area.setAccessibleName(self.accessibleName())
        self._rows.insertWidget(0, self.area)

    def _draw(self, state: PlotState) -> None:
        import pyqtgraph

        if self.area is None:
            self._make()
        text = take_theme(self.area, self.palette(), ("bottom", "left"))
        item = self.area.getPlotItem()
        item.clear()
        item.setLogMode(y=state.log)
        for axis, name in (("bottom", state.x_name), ("left", state.y_name)):
            item.setLabel(axis, name, color=text.name())
        words = []
        for curve, (colour, style, sign) in zip(state.curves, _PENS * 4, strict=False):
            # a singular value of nought has no logarithm
            keep = curve.y > 1e-12 if state.log else np.ones(len(curve.y), bool)
            symbol = "o" if keep.sum() < 3 else None
            item.plot(curve.x[keep], curve.y[keep], pen=pyqtgraph.mkPen(colour, width=2, style=style), symbol=symbol)
            words.append(f'<span style="color:{colour}">{sign}</span>&nbsp;{curve.name.replace(" ", "&nbsp;")}')
        item.autoRange()
        self.legend.setText(" &nbsp; ".join(words))
