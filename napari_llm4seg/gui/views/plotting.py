"""What every plot of the docks looks like; pyqtgraph is imported when the first one is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qtpy.QtGui import QPalette


def still_plot(height: int) -> Any:
    """Return a ``pyqtgraph.PlotWidget`` of a height in pixels that shows and cannot be dragged."""
    import pyqtgraph

    area = pyqtgraph.PlotWidget()
    area.setFixedHeight(height)
    area.setMenuEnabled(False)
    area.hideButtons()
    area.setMouseEnabled(x=False, y=False)
    return area


def take_theme(area: Any, palette: QPalette, axes: Iterable[str]) -> Any:
    """Draw the plot's ground and axes in the theme's colours; return the text's."""
    text = palette.color(QPalette.ColorRole.WindowText)
    area.setBackground(palette.color(QPalette.ColorRole.Window))
    for name in axes:
        axis = area.getPlotItem().getAxis(name)
        axis.setPen(text)
        axis.setTextPen(text)
    return text
