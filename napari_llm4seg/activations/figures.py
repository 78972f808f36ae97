"""Pictures of maps on the scan, as PNG and SVG with their legends; pillow alone, no plotting library.

A figure is laid out once, into images, texts and rectangles, and drawn twice: so both formats show the same.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from napari_llm4seg.activations.attention import TokenMap
from napari_llm4seg.activations.inspection import Inspection
from napari_llm4seg.files import replacing, write_text
from napari_llm4seg.io.raster import stretched

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# viridis at equal steps, linear between: even in lightness, readable without colour and by the colour-blind
_VIRIDIS = np.asarray(
    [
        (68, 1, 84), (72, 26, 108), (71, 47, 125), (65, 68, 135), (57, 86, 140), (49, 104, 142), (42, 120, 142),
        (35, 136, 142), (31, 152, 139), (34, 168, 132), (53, 183, 121), (84, 197, 104), (122, 209, 81),
        (165, 219, 54), (210, 226, 27), (253, 231, 37),
    ],
    dtype=np.float64,
)  # fmt: skip
# Okabe and Ito, for clusters and differences
SWATCHES: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip

WIDTH, GAP, LINE = 260, 16, 17
_OPACITY = 0.6
# Pixels of a slice's longer side below which it is enlarged to draw on.
_LEAST = 256


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture with what is said around it.

    Attributes
    ----------
    title : above the picture
    picture : array (Y, X, 3), uint8
    scale : (low, high, unit) of a colour bar, or None
    swatches : (name, colour) pairs in place of a bar
    aspect : height of a pixel over its width
    """

    title: str
    picture: Picture
    scale: tuple[float, float, str] | None = None
    swatches: tuple[tuple[str, Colour], ...] = ()
    aspect: float = 1.0


def in_colour(values: npt.ArrayLike, low: float, high: float) -> Picture:
    """Return values as colours from dark (``low`` and below) to bright (``high`` and above), (..., 3)."""
    share = np.clip((np.asarray(values, dtype=np.float64) - low) / (high - low if high > low else 1.0), 0, 1)
    steps = np.linspace(0, 1, len(_VIRIDIS))
    channels = [np.interp(share, steps, _VIRIDIS[:, k]) for k in range(3)]
    return np.asarray(np.round(np.stack(channels, axis=-1)), dtype=np.uint8)


def enlarged(inspection: Inspection, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array (Y, X, ...) of the slice's pixels, each repeated where a slice is too small to draw on."""
    times = -(-_LEAST // max(inspection.frame.scan.grid[1:]))
    return pixels.repeat(times, axis=0).repeat(times, axis=1) if times > 1 else pixels


def background(inspection: Inspection) -> Picture:
    """Return the inspected slice of the scan in grey or colour, (Y, X, 3), enlarged where it is small."""
    values = stretched(inspection.frame.scan.slice_at(inspection.frame.z))
    return enlarged(inspection, np.round(values).astype(np.uint8))


def cells(inspection: Inspection) -> npt.NDArray[np.intp]:
    """Return the token of every pixel of ``background``, -1 where none covers it."""
    return enlarged(inspection, inspection.tokens.tokens_of_slice(inspection.frame.scan.grid[1:], inspection.frame.z))


def laid_over(inspection: Inspection, colours: Picture, visible: npt.NDArray[np.bool_] | None = None) -> Picture:
    """Return the slice with a colour for each token, (N, 3), laid over it; tokens out of sight are hatched."""
    picture = background(inspection).astype(np.float64)
    tokens = cells(inspection)
    covered = tokens >= 0
    if visible is None:
        visible = np.ones(len(inspection.tokens), dtype=bool)
    shown = covered & visible[np.maximum(tokens, 0)]
    picture[shown] = (1 - _OPACITY) * picture[shown] + _OPACITY * colours[tokens[shown]]
    rows, columns = np.indices(tokens.shape)
    period = max(8, min(tokens.shape) // 32)
    stripes = covered & ~shown & ((rows + columns) % period < period // 4)
    picture[stripes] = 0.5 * picture[stripes] + 0.5 * 255
    return np.round(picture).astype(np.uint8)


def marked(inspection: Inspection, picture: Picture, token: int) -> Picture:
    """Return the picture with a frame around a token's cell."""
    return outlined(picture, cells(inspection) == token, (255, 255, 255))


def outlined(picture: Picture, inside: npt.NDArray[np.bool_], colour: Colour) -> Picture:
    """Return the picture with the inner edge of a region drawn on it."""
    core = inside
    for _ in range(max(1, min(inside.shape) // 200)):  # thick enough to be seen in a panel
        padded = np.pad(core, 1)
        core = core & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    drawn = picture.copy()
    drawn[inside & ~core] = colour
    return drawn


def aspect_of(inspection: Inspection) -> float:
    """Return the height of the slice's pixels over their width."""
    _, y, x = inspection.frame.scan.spacing
    return y / x


def map_panel(inspection: Inspection, shown: TokenMap, high: float | None = None) -> Panel:
    """Return a map of attention on the slice, its token framed."""
    high = float(shown.values.max()) if high is None else high
    picture = laid_over(inspection, in_colour(shown.values, 0, high), shown.visible)
    token = shown.about.get("token")
    if token is not None:
        picture = marked(inspection, picture, token)
    hatched = () if shown.visible.all() else (("hatched: out of sight under the causal mask", (200, 200, 200)),)
    return Panel(shown.title, picture, (0.0, high, shown.unit), hatched, aspect_of(inspection))


def value_panel(
    inspection: Inspection, title: str, values: npt.ArrayLike, unit: str, span: tuple[float, float] | None = None
) -> Panel:
    """Return one number for each token, (N,), on the slice."""
    array = np.asarray(values, dtype=np.float64)
    low, high = (float(array.min()), float(array.max())) if span is None else span
    picture = laid_over(inspection, in_colour(array, low, high))
    return Panel(title, picture, (low, high, unit), aspect=aspect_of(inspection))


@dataclass(frozen=True, eq=False)
class _Item:
    """A text, or an array (Y, X, 3) as an image; a rectangle is an image of one pixel."""

    x: float
    y: float
    text: str = ""
    size: int = 12
    image: Picture | None = None
    width: float = 0
    height: float = 0


def lay_out(
    title: str, panels: Sequence[Panel], foot: Sequence[str] = (), columns: int = 4
) -> tuple[int, int, list[Any]]:
    """Return width, height and items of a figure: panels in rows, wrapped texts, a bar or swatches under each."""
    columns = max(1, min(columns, len(panels)))
    width = max(GAP + columns * (WIDTH + GAP), 2 * WIDTH)
    items: list[_Item] = []
    y = float(GAP)
    for words in wrapped(title, width - 2 * GAP, 15):
        items.append(_Item(GAP, y, words, 15))
        y += LINE + 4
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        heads = [wrapped(panel.title, WIDTH) for panel in row]
        top = y + LINE * max(map(len, heads))
        bottom = top
        for k, (panel, head) in enumerate(zip(row, heads, strict=True)):
            x = GAP + k * (WIDTH + GAP)
            items += [_Item(x, y + LINE * i, words) for i, words in enumerate(head)]
            end = _panel(items, panel, x, top)
            bottom = max(bottom, end)
        y = bottom + GAP
    for sentence in foot:
        for words in wrapped(sentence, width - 2 * GAP):
            items.append(_Item(GAP, y, words))
            y += LINE
    return int(width), int(y + GAP), items


def _panel(items: list[_Item], panel: Panel, x: float, y: float) -> float:
    rows, columns = panel.picture.shape[:2]
    height = rows * panel.aspect / columns * WIDTH
    width = WIDTH if height <= 1.5 * WIDTH else WIDTH * 1.5 * WIDTH / height
    height = min(height, 1.5 * WIDTH)
    items.append(_Item(x, y, image=panel.picture, width=width, height=height))
    y += height + 6
    if panel.scale is not None:
        low, high, unit = panel.scale
        bar = in_colour(np.linspace(low, high, 64)[None], low, high)
        items.append(_Item(x, y, image=bar, width=WIDTH, height=8))
        items += [_Item(x, y + 10, f"{low:.3g}"), _Item(x + WIDTH - 50, y + 10, f"{high:.3g}")]
        items.append(_Item(x + 60, y + 10, unit))
        y += 10 + LINE
    for name, colour in panel.swatches:
        items.append(_Item(x, y + 3, image=np.full((1, 1, 3), colour, dtype=np.uint8), width=10, height=10))
        for i, words in enumerate(wrapped(name, WIDTH - 16)):
            items.append(_Item(x + 16, y + LINE * i, words))
        y += LINE * len(wrapped(name, WIDTH - 16))
    return y


def wrapped(text: str, width: float, size: int = 12) -> list[str]:
    """Return ``text`` in lines that fit ``width`` pixels, by the mean width of a letter."""
    import textwrap

    return textwrap.wrap(text, max(8, int(width / (size * 0.53)))) or [""]


def save_png(path: Path, title: str, panels: Sequence[Panel], foot: Sequence[str] = (), columns: int = 4) -> Path:
    """Write a figure as PNG; returns ``path``."""
    from PIL import Image, ImageDraw, ImageFont

    width, height, items = lay_out(title, panels, foot, columns)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for item in items:
        if item.image is None:
            draw.text((item.x, item.y), item.text, fill="black", font=ImageFont.load_default(item.size))
        else:
            size = (max(1, round(item.width)), max(1, round(item.height)))
            shrinks = item.image.shape[1] > size[0]
            how = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
            sheet.paste(Image.fromarray(item.image).resize(size, how), (round(item.x), round(item.y)))
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path


def save_svg(path: Path, title: str, panels: Sequence[Panel], foot: Sequence[str] = (), columns: int = 4) -> Path:
    """Write a figure as SVG, pictures embedded at their own resolution and texts as texts; returns ``path``."""
    width, height, items = lay_out(title, panels, foot, columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for item in items:
        if item.image is None:
            y = item.y + item.size
            parts.append(f'<text x="{item.x:g}" y="{y:g}" font-size="{item.size}">{escape(item.text)}</text>')
        else:
            place = f'x="{item.x:g}" y="{item.y:g}" width="{item.width:g}" height="{item.height:g}"'
            look = 'preserveAspectRatio="none" style="image-rendering:pixelated"'
            parts.append(f'<image {place} {look} href="data:image/png;base64,{_encoded(item.image)}"/>')
    write_text(path, "\n".join([*parts, "</svg>\n"]))
    return path


def _encoded(picture: Picture) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
