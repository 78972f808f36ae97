"""The Inspect dock's drawing: real widgets, real clicks."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from napari_llm4seg.activations.reading import VIEWS
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState
from napari_llm4seg.gui.views.abstract.inspect import (
    AttentionState,
    Curve,
    EffectRow,
    FeaturesState,
    InspectState,
    Picture,
    PlotState,
    ProofState,
    SpectrumState,
    WhatIfState,
)
from tests.gui.views.actions import Actions

pytestmark = pytest.mark.gui

HEADS = tuple(Picture(str(k), str(k), np.full((16, 16, 3), 20 * k, np.uint8), f"Head {k}: ...") for k in range(9))
READY = InspectState(
    hint="Click the scan: what does this place look at?",
    about="slice 3 of 5, 16 × 16 tokens · breast-ultrasound",
    proof=ProofState("same forward: max diff 2e-07  ok", "Computed again", True),
    cancel=ButtonState(False, "Nothing is running.", visible=False),
    export=ButtonState(False, "Click the scan first."),
    attention=AttentionState(
        heads=(Choice("mean", "mean of all"), *(Choice(str(k), f"head {k}") for k in range(9))),
        thumbnails=HEADS,
        title="What token 12 looks at: mean over heads, layer 1",
        notes=("Entropy of its look: 0.50",),
    ),
)


@pytest.fixture
def dock(qtbot):
    from napari_llm4seg.gui.views.inspect_dock import InspectWidget

    widget = InspectWidget()
    qtbot.addWidget(widget)
    actions = Actions()
    widget.attach(actions)
    widget.show_state(READY)
    widget.resize(320, 700)
    widget.show()
    return widget, actions


def test_it_says_what_was_recorded_and_proven(dock):
    widget, _ = dock
    assert widget.hint.text().startswith("Click the scan")
    assert widget.proof_line.text() == "same forward: max diff 2e-07  ok"
    assert not widget.cancel_button.isVisible()
    assert widget.minimumSizeHint().width() <= 320
    assert "How&nbsp;to&nbsp;read&nbsp;it" in widget.attention.layout().itemAt(0).widget().text()


def test_a_head_is_picked_by_mouse_and_keyboard_and_given_back(dock, qtbot):
    from qtpy.QtCore import QPoint, Qt

    widget, actions = dock
    grid = widget.attention.heads
    assert grid.height() == grid.heightForWidth(grid.width())
    middle = grid.box(4).center()
    qtbot.mouseClick(grid, Qt.MouseButton.LeftButton, pos=QPoint(round(middle.x()), round(middle.y())))
    assert actions.asked[-1] == ("choose", "head", "4")
    widget.show_state(replace(READY, attention=replace(READY.attention, head="4")))
    qtbot.keyClick(grid, Qt.Key.Key_Right)
    assert actions.asked[-1] == ("choose", "head", "5")
    qtbot.mouseClick(grid, Qt.MouseButton.LeftButton, pos=QPoint(round(middle.x()), round(middle.y())))
    assert actions.asked[-1] == ("choose", "head", "mean")
    qtbot.mouseClick(widget.attention.way_buttons["to"], Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert actions.asked[-1] == ("choose", "way", "to")


def test_progress_message_and_hovered_value(dock, qtbot):
    widget, actions = dock
    height = widget.hover_line.geometry()
    widget.show_hover("token 12: 0.0312")
    assert widget.hover_line.text() == "token 12: 0.0312"
    assert widget.hover_line.geometry() == height
    widget.show_state(
        replace(
            READY,
            progress=ProgressState(3, 9, "head 3/9"),
            cancel=ButtonState(True, "Stop", visible=True),
            message=Message("error", "It failed."),
        )
    )
    assert widget.bar.value() == 3
    widget.cancel_button.click()
    assert actions.asked[-1] == ("cancel",)
    assert widget.message.text.text() == "It failed."


def test_the_page_opens_at_the_view(dock, qtbot):
    from napari_llm4seg.gui.views.reading import open_page

    widget, _ = dock
    for view in ("attention", "faithfulness"):
        page = open_page(widget, view)
        qtbot.waitExposed(page)
        assert page.text.textCursor().block().text() == VIEWS[view].section
        top = page.text.cursorRect().top()
        assert 0 <= top < page.text.viewport().height() / 2
        page.close()


def test_the_points_are_picked_and_numbers_asked_for(dock, qtbot):
    from qtpy.QtCore import QPoint, Qt

    widget, actions = dock
    points = tuple(Picture(key, key, np.zeros((16, 16, 3), np.uint8)) for key in ("before", "between", "after"))
    features = FeaturesState(
        kinds=(Choice("channel", "single channel"), Choice("norm", "norm")),
        kind="channel",
        number=3,
        most=255,
        number_name="Channel",
        pictures=points,
        picked="after",
        notes=("One basis",),
    )
    widget.show_state(replace(READY, tab="features", features=features))
    tab = widget.features
    assert tab.isVisible()
    assert ("show_tab", "features") not in actions.asked  # nobody asked
    widget.tabs.tabBar().setCurrentIndex(2)
    assert actions.asked[-1] == ("show_tab", "spectrum")
    widget.tabs.tabBar().setCurrentIndex(1)
    assert tab.number_box.value() == 3
    tab.number_box.setValue(7)
    assert actions.asked[-1] == ("choose", "number", 7)
    assert tab.pictures.box(1).left() > 100  # two in a row
    middle = tab.pictures.box(0).center()
    qtbot.mouseClick(tab.pictures, Qt.MouseButton.LeftButton, pos=QPoint(round(middle.x()), round(middle.y())))
    assert actions.asked[-1] == ("choose", "picked", "before")
    assert tab.notes.text() == "One basis"
    assert widget.minimumSizeHint().width() <= 320


def test_a_spectrum_is_plotted_with_its_figures_and_formulas(dock):
    widget, actions = dock
    curves = tuple(Curve(name, np.arange(1.0, 9), 0.5 ** np.arange(8)) for name in ("before", "after"))
    spectrum = SpectrumState(
        plot=PlotState("number", "share", curves, log=True),
        rows=(("bottleneck", "5.10", "0.74"), ("after the LLM layer", "7.40", "0.98")),
        tooltips=("exp(- sum p ln p)", "- ln p_1"),
        stack=ButtonState(True, "Take all", "Along the stack"),
        compare=ButtonState(False, "Wait.", "Another version…"),
    )
    widget.show_state(replace(READY, tab="spectrum", spectrum=spectrum))
    tab = widget.spectrum
    assert tab.plot.area.height() >= 120
    assert len(tab.plot.area.getPlotItem().listDataItems()) == 2
    assert "before" in tab.plot.legend.text()
    assert not tab.stack_plot.isVisible()
    assert tab.table.topLevelItem(1).text(1) == "7.40"
    assert tab.table.topLevelItem(1).toolTip(1) == "exp(- sum p ln p)"
    tab.stack_button.click()
    assert actions.asked[-1] == ("act", "stack", None)
    assert widget.minimumSizeHint().width() <= 320
    assert "pyqtgraph" in sys.modules


def test_heads_are_sorted_by_their_numbers_and_a_change_is_picked(dock, qtbot):
    from qtpy.QtCore import Qt

    widget, actions = dock
    heads = tuple(EffectRow(f"head {k}", str(k), 0.9 + 0.005 * ((k * 7) % 12), 900 + 30 * k, 0.5) for k in range(12))
    what_if = WhatIfState(
        changes=(Choice("off", "layer off"), Choice("head", "one head")),
        change="head",
        head=2,
        heads=12,
        needs_head=True,
        run=ButtonState(True, "Segment again", "Try it"),
        rows=(EffectRow("layer off", "layer off", 0.472, 5321),),
        picked="layer off",
        table=ButtonState(True, "All", "All heads in turn"),
        table_rows=heads,
        maps=(Choice("attention", "attention"),),
        map="attention",
        test=ButtonState(False, "Click the scan first.", "Test it"),
        verdicts=("attention: No better than random maps",),
    )
    widget.show_state(replace(READY, tab="what_if", what_if=what_if))
    tab = widget.what_if
    dice = [float(tab.heads.topLevelItem(n).text(1)) for n in range(12)]
    assert dice == sorted(dice)
    tab.heads.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert [tab.heads.topLevelItem(n).text(0) for n in range(3)] == ["11", "10", "9"]
    tab.heads.sortByColumn(2, Qt.SortOrder.AscendingOrder)
    assert tab.heads.topLevelItem(0).text(2) == "900"
    assert tab.effects.topLevelItem(0).isSelected()
    tab.heads.itemClicked.emit(tab.heads.topLevelItem(1), 0)
    assert actions.asked[-1] == ("choose", "picked", "head 1")
    tab.run_button.click()
    assert actions.asked[-1] == ("act", "run", None)
    assert not tab.test_button.isEnabled()
    assert tab.test_button.toolTip() == "Click the scan first."
    assert widget.minimumSizeHint().width() <= 320
