"""The line on the pieces of a new result: real widgets, real clicks."""

from __future__ import annotations

import pytest

from napari_llm4seg.gui.views.abstract.common import ButtonState
from napari_llm4seg.gui.views.abstract.tidy import TidyState
from tests.gui.views.actions import Actions

pytestmark = pytest.mark.gui


def test_it_says_offers_and_goes_away(qtbot):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QVBoxLayout, QWidget

    from napari_llm4seg.gui.views.tidy_line import TidyLine

    around, line, actions = QWidget(), TidyLine(), Actions()
    QVBoxLayout(around).addWidget(line)
    qtbot.addWidget(around)
    line.attach(actions)
    around.resize(308, 300)
    around.show()
    line.show_state(TidyState())
    assert not line.isVisible()
    words = (
        "a structure with a long name: 9 pieces, the largest holds 93 %; another one: 12 pieces, the largest holds 80 %"
    )
    line.show_state(TidyState(words, ButtonState(True, "Remove the rest", "Keep largest piece")))
    assert line.isVisible()
    assert line.minimumSizeHint().width() <= 308
    assert line.keep_button.toolTip() == "Remove the rest"
    qtbot.mouseClick(line.keep_button, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(line.close_button, Qt.MouseButton.LeftButton)
    assert actions.asked == [("keep_largest",), ("dismiss",)]
    line.show_state(TidyState("liver: removed 8 pieces, 12.3 mL."))
    assert line.isVisible()
    assert not line.keep_button.isVisible()
