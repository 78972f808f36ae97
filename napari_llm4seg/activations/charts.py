"""Line charts as pictures for ``figures``: spectra, curves, a figure along a stack. Drawn by pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.activations.faithfulness import Faithfulness
from napari_llm4seg.activations.figures import SWATCHES, Colour, Panel, Picture
from napari_llm4seg.activations.spectrum import Spectrum

# Drawn larger than shown, so that lines stay smooth.
WIDTH, HEIGHT, _LEFT, _BELOW, _TOP = 780, 540, 110, 84, 18
# yellow is too light for a line on white
_LINES: tuple[Colour, ...] = tuple(colour for colour in SWATCHES if colour != (240, 228, 66))


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart.

    Attributes
    ----------
    name : for the legend
    x, y : sequences of one length
    thin : whether it stands in the background, without a legend of its own
    colour : index into the chart's colours
    """

    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    thin: bool = False
    colour: int = 0


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers from ``low`` to ``high``, about ``count``."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def chart(title: str, lines: Sequence[Line], x_name: str, y_name: str, log: bool = False) -> Panel:
    """Return a chart with its legend; with ``log``, y is drawn by its decimal logarithm and 0 is left out."""
    shown = [Line(each.name, *_kept(each, log), each.thin, each.colour) for each in lines]
    xs, ys = np.concatenate([each.x for each in shown]), np.concatenate([each.y for each in shown])
    spans = _span(xs), _span(ys)
    picture = _draw(shown, spans, x_name, f"{y_name}, decimal logarithm" if log else y_name)
    legend = tuple((each.name, _LINES[each.colour % len(_LINES)]) for each in shown if not each.thin)
    return Panel(title, picture, swatches=legend)


def _kept(line: Line, log: bool) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
    if not log:
        return x, y
    seen = y > 1e-8
    return x[seen], np.log10(y[seen])


def _span(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _draw(
    lines: Sequence[Line], spans: tuple[tuple[float, float], tuple[float, float]], x_name: str, y_name: str
) -> Picture:
    from PIL import Image, ImageDraw, ImageFont

    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(30)
    (left, right), (low, high) = spans
    wide, tall = WIDTH - _LEFT - 20, HEIGHT - _BELOW - _TOP - 34

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - left) / (right - left) * wide,
            HEIGHT - _BELOW - (y - low) / (high - low) * tall,
        )

    for value in ticks(low, high, 4):
        draw.line([at(left, value), at(right, value)], fill=(225, 225, 225), width=2)
        draw.text((_LEFT - 10, at(left, value)[1]), f"{value:g}"[:7], fill="black", font=font, anchor="rm")
    for value in ticks(left, right, 5):
        draw.text((at(value, low)[0], HEIGHT - _BELOW + 10), f"{value:g}", fill="black", font=font, anchor="ma")
    for line in sorted(lines, key=lambda each: not each.thin):
        colour = (200, 200, 200) if line.thin else _LINES[line.colour % len(_LINES)]
        points = [at(float(x), float(y)) for x, y in zip(line.x, line.y, strict=True)]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2 if line.thin else 6)
        else:
            draw.circle(points[0], 8, fill=colour)
    draw.line([at(left, low), at(left, high)], fill="black", width=3)
    draw.line([at(left, low), at(right, low)], fill="black", width=3)
    draw.text((WIDTH - 20, HEIGHT - 6), x_name, fill="black", font=font, anchor="rb")
    draw.text((8, 4), y_name, fill="black", font=font, anchor="la")
    return np.asarray(sheet)


def spectrum_chart(found: dict[str, Spectrum], names: dict[str, str], title: str) -> Panel:
    """Return the shares of the singular values at several points, each in falling order."""
    lines = [
        Line(
            f"{names[point]}: effective rank {float(each.effective_rank[0]):.1f}",
            np.arange(1, each.values.shape[1] + 1, dtype=np.float64),
            each.shares[0],
            colour=k,
        )
        for k, (point, each) in enumerate(found.items())
    ]
    return chart(title, lines, "number of the singular value", "share of their sum", log=True)


def rows_chart(rows: Sequence[Any], x: str, column: str, title: str) -> Panel:
    """Return a column of a table over another, one line for each point."""
    points = list(dict.fromkeys(row["point"] for row in rows))
    lines = []
    for k, point in enumerate(points):
        own = [row for row in rows if row["point"] == point]
        lines.append(
            Line(point, np.asarray([row[x] for row in own]), np.asarray([row[column] for row in own]), colour=k)
        )
    return chart(title, lines, x, column.replace("_", " "))


def faithfulness_chart(name: str, found: Faithfulness) -> list[Panel]:
    """Return deletion and insertion of a map before those of random ones."""
    panels = []
    for what, own, others in (
        ("hidden", found.deletion, found.random_deletion),
        ("shown", found.insertion, found.random_insertion),
    ):
        lines = [Line("random", found.fractions, each, thin=True) for each in others]
        lines += [Line(f"{name}; in grey {len(others)} random maps", found.fractions, own)]
        panels.append(chart(f"strongest tokens of {name} {what} first", lines, f"fraction {what}", "score"))
    return panels
