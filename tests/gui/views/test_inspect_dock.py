"""The Inspect dock's drawing: real widgets, real clicks."""

from __future__ import annotations

import numpy as np
import pytest

from napari_llm4seg.activations.reading import VIEWS
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice, Message, ProgressState
from napari_llm4seg.gui.views.abstract.inspect import AttentionState, InspectState, Picture, ProofState

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


class Actions:
    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        return lambda *values: self.asked.append((name, *values))


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
    assert "How to read it" in widget.attention.layout().itemAt(0).widget().text()


def test_a_head_is_picked_by_mouse_and_keyboard_and_given_back(dock, qtbot):
    from qtpy.QtCore import QPoint, Qt

    widget, actions = dock
    grid = widget.attention.heads
    assert grid.height() == grid.heightForWidth(grid.width())
    middle = grid.box(4).center()
    qtbot.mouseClick(grid, Qt.MouseButton.LeftButton, pos=QPoint(round(middle.x()), round(middle.y())))
    assert actions.asked[-1] == ("choose", "head", "4")
    from dataclasses import replace

    widget.show_state(replace(READY, attention=replace(READY.attention, head="4")))
    qtbot.keyClick(grid, Qt.Key.Key_Right)
    assert actions.asked[-1] == ("choose", "head", "5")
    qtbot.mouseClick(grid, Qt.MouseButton.LeftButton, pos=QPoint(round(middle.x()), round(middle.y())))
    assert actions.asked[-1] == ("choose", "head", "mean")
    qtbot.mouseClick(widget.attention.way_buttons["to"], Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    assert actions.asked[-1] == ("choose", "way", "to")


def test_progress_message_and_hovered_value(dock, qtbot):
    from dataclasses import replace

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
