"""Where the plugin's docks lie in a window: tabs of one place."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gui


def test_docks_of_the_plugin_become_tabs_of_one_place(qtbot):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

    from napari_llm4seg.gui.dock import Docked

    class Widget(Docked, QWidget):
        pass

    window = QMainWindow()
    qtbot.addWidget(window)
    window.resize(600, 400)
    window.show()

    def add(inner, title):
        dock = QDockWidget(title, window)
        window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
        dock.setWidget(inner)
        return dock

    other = add(QWidget(), "of another plugin")
    first = add(Widget(), "Segment")
    second = add(Widget(), "Correct & Retrain")
    third = add(Widget(), "Inspect")
    qtbot.waitUntil(lambda: len(window.tabifiedDockWidgets(first)) == 2, timeout=5000)
    assert set(window.tabifiedDockWidgets(first)) == {second, third}
    assert not window.tabifiedDockWidgets(other)
    assert second.windowTitle() == "Correct && Retrain"
