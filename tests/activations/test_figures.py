"""Figures show each value where its token lies, in both formats."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_llm4seg.activations import charts, inspect_slice
from napari_llm4seg.activations import figures as fig
from napari_llm4seg.activations.inspection import Inspection
from napari_llm4seg.volume import Volume
from tests.activations.planted import marked, planted, planted_net


def seen_slice(mask: str = "full") -> Inspection:
    values = marked((48, 80), (slice(36, 42), slice(10, 20)), (slice(12, 18), slice(70, 80)))
    return inspect_slice(planted(planted_net(mask=mask), size=(32, 32)), Volume(values[None, None]))


def test_colours_run_from_dark_to_bright() -> None:
    colours = fig.in_colour([-1.0, 0.0, 0.5, 1.0, 2.0], 0, 1)
    assert colours[0].tolist() == colours[1].tolist() == [68, 1, 84]
    assert colours[3].tolist() == colours[4].tolist() == [253, 231, 37]
    luma = fig.in_colour(np.linspace(0, 1, 50), 0, 1) @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > 0).all()
    assert fig.in_colour([3.0], 3, 3).tolist() == [[68, 1, 84]]


def test_the_strongest_place_is_the_dark_one() -> None:
    seen = seen_slice()
    shown = seen.attention(seen.token_at(38, 15), head=0)
    panel = fig.map_panel(seen, shown)
    yellow = np.abs(panel.picture.astype(int) - [253, 231, 37]).sum(axis=2)
    grey = fig.background(seen).astype(int)
    rows, columns = (place // 4 for place in np.nonzero(yellow == yellow.min()))  # 80 pixels, enlarged to 320
    assert 12 <= rows.min() <= rows.max() < 18
    assert 70 <= columns.min() <= columns.max() < 80
    assert panel.picture.shape == grey.shape
    assert panel.swatches == ()


def test_what_is_out_of_sight_is_hatched() -> None:
    seen = seen_slice("causal")
    token = seen.token_at(38, 15)
    shown = seen.attention(token)
    panel = fig.map_panel(seen, shown)
    assert "out of sight" in panel.swatches[0][0]
    tokens = fig.cells(seen)
    assert np.array_equal(tokens[::4, ::4], seen.tokens.tokens_of_slice((48, 80), 0))
    hidden = panel.picture[tokens > token].astype(int)
    assert 0 < (hidden != fig.background(seen)[tokens > token]).any(axis=1).mean() < 0.5
    assert (np.ptp(hidden, axis=1) <= 1).all(), "no colour where nothing can be seen"


def test_both_formats_hold_the_same(tmp_path: Path) -> None:
    seen = seen_slice()
    panels = [
        fig.map_panel(seen, seen.attention(3)),
        fig.value_panel(seen, "a < b & c", np.arange(64), "count"),
        fig.Panel("clusters", fig.background(seen), swatches=(("one", (230, 159, 0)),)),
    ]
    png = fig.save_png(tmp_path / "a.png", "Title", panels, ["what it means"], columns=2)
    svg = fig.save_svg(tmp_path / "a.svg", "Title", panels, ["what it means"], columns=2)
    with Image.open(png) as sheet:
        size = sheet.size
    root = ET.parse(svg).getroot()
    assert (int(root.attrib["width"]), int(root.attrib["height"])) == size
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Title", "a < b & c", "count", "one", "what it means", "63"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) == 3 + 2 + 1


def test_pixels_that_are_no_squares_are_drawn_as_they_are() -> None:
    values = np.random.default_rng(0).uniform(size=(1, 1, 32, 32)).astype(np.float32)
    scan = Volume(values, np.diag([1.0, 2.0, 1.0, 1.0]), unit="mm")
    seen = inspect_slice(planted(size=(32, 32)), scan)
    panel = fig.value_panel(seen, "x", np.arange(64), "count")
    assert panel.aspect == 2
    _, _, items = fig.lay_out("t", [panel])
    picture = next(item for item in items if item.image is not None and item.image.shape[0] == 256)
    assert picture.height / picture.width == 2


def test_a_line_runs_where_its_values_are() -> None:
    rising = charts.Line("rising", np.arange(5.0), np.arange(5.0))
    falling = charts.Line("falling", np.arange(5.0), 4 - np.arange(5.0), colour=1)
    panel = charts.chart("both", [rising, falling], "x", "y")
    assert [name for name, _ in panel.swatches] == ["rising", "falling"]
    for (_, colour), signs in zip(panel.swatches, ((-1, 1), (1, -1)), strict=True):
        rows, columns = np.nonzero((panel.picture == colour).all(axis=2))
        slope = np.polyfit(columns, rows, 1)[0]
        assert np.sign(slope) == signs[0]
        assert np.ptp(columns) > 500
        assert np.ptp(rows) > 300
    decades = charts.chart("log", [charts.Line("d", np.arange(4.0), 10.0 ** -np.arange(4.0))], "x", "y", log=True)
    rows, columns = np.nonzero((decades.picture == decades.swatches[0][1]).all(axis=2))
    assert abs(np.corrcoef(columns, rows)[0, 1]) > 0.999, "decades are evenly apart"
    assert charts.chart("one", [charts.Line("p", np.ones(1), np.ones(1))], "x", "y").picture.shape[2] == 3


def test_ticks_are_round() -> None:
    assert charts.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert charts.ticks(-3, 17, 4) == [0, 5, 10, 15]
    assert charts.ticks(2, 2) == [2]
