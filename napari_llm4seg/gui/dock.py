"""What every dock widget of the plugin does: start its controllers, and stop them when it is closed."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_llm4seg.gui.dispatch import Dispatcher
from napari_llm4seg.gui.layers import ready_units
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.views.widgets import dock_around
from napari_llm4seg.jobs import ThreadRunner

PLUGIN = "napari-llm4seg"
_RUNNERS: weakref.WeakSet[ThreadRunner] = weakref.WeakSet()


@atexit.register
def _wait_for_jobs() -> None:
    """Let running jobs end before the interpreter goes: a thread inside torch must not outlive it."""
    for runner in list(_RUNNERS):
        runner.close(timeout=3.0)


class Part(Protocol):
    """A controller of a dock."""

    def start(self) -> None: ...

    def close(self) -> None: ...


class OpenDock:
    """The part that tells the other docks of a viewer that this one is open.

    Parameters
    ----------
    session : Session
    name : str
        Of the dock in the manifest.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session, self._name = session, name

    def start(self) -> None:
        self._session.docks.add(self._name)

    def close(self) -> None:
        self._session.docks.discard(self._name)


class Docked:
    """Mixed into a dock's widget, before it: carries calls into the window's thread and ends what runs.

    Call ``begin`` once with the controllers, after the widget was made.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        ready_units()  # before any job makes layers
        self.dispatcher = Dispatcher()
        self._docked = False
        self._close: Callable[..., None] = lambda *_: None

    def make_runner(self) -> ThreadRunner:
        """Return a runner whose callbacks arrive in the window's thread."""
        runner = ThreadRunner(self.dispatcher.post)
        _RUNNERS.add(runner)
        return runner

    def make_soon(self, seconds: float) -> Callable[[Callable[[], None]], None]:
        """Return what runs a call in the window's thread ``seconds`` later: once, for all asked for until then."""
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(round(1000 * seconds))
        waiting: list[Callable[[], None]] = []

        def run() -> None:
            if waiting:
                waiting.pop()()

        def soon(call: Callable[[], None]) -> None:
            waiting[:] = [call]
            if not timer.isActive():
                timer.start()

        timer.timeout.connect(run)
        return soon

    def begin(self, parts: Sequence[Part]) -> None:
        """Start the controllers; they are closed with the dock, the last one first."""
        self._close = _closer(parts, self.dispatcher)
        self.destroyed.connect(self._close)  # type: ignore[attr-defined]
        for part in parts:
            part.start()

    def come_forward(self) -> None:
        """Bring the dock in front of those it shares a place with."""
        dock = dock_around(self)
        if dock is not None:
            dock.raise_()

    def event(self, event: Any) -> bool:
        """Notice that the dock was closed: napari then takes this widget out of it, and keeps nothing of it."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:  # type: ignore[attr-defined]
                self._docked = True
                self.dispatcher.post(lambda: _settle(self))
            elif self._docked:
                self._close()
                self.deleteLater()  # type: ignore[attr-defined]
        return bool(super().event(event))  # type: ignore[misc]


def _settle(widget: Any) -> None:
    """Give a dock its place and name once napari has put it down."""
    dock = dock_around(widget)
    if dock is not None:
        _plain_title(dock)
        _tabify(dock)


def _plain_title(dock: QDockWidget) -> None:
    """Let the tab of a dock show an ampersand in its name, which Qt takes for the mark of a key."""
    if "&" in dock.windowTitle().replace("&&", ""):
        dock.setWindowTitle(dock.windowTitle().replace("&", "&&"))


def _tabify(dock: QDockWidget) -> None:
    """Make the plugin's docks tabs of one place: napari puts them below each other, where none has room."""
    window = dock.parent()
    if not isinstance(window, QMainWindow) or dock.isFloating():
        return
    area = window.dockWidgetArea(dock)
    ours = [
        other
        for other in window.findChildren(QDockWidget)
        if other is not dock and any(isinstance(child, Docked) for child in other.findChildren(QWidget))
    ]
    if any(other in window.tabifiedDockWidgets(dock) for other in ours):
        return
    for other in ours:
        if not other.isFloating() and window.dockWidgetArea(other) == area:
            window.tabifyDockWidget(other, dock)
            dock.show()
            dock.raise_()
            return


def _closer(parts: Sequence[Part], dispatcher: Dispatcher) -> Callable[..., None]:
    """Return what ends the controllers, once; it holds no reference to the widget that is being destroyed."""
    left = list(parts)

    def close(*_: Any) -> None:
        dispatcher.close()
        while left:
            left.pop().close()

    return close


def open_dock(viewer: Any, dock: str, *, tabify: bool = False) -> Any:
    """Open a dock of the plugin, by its name in the manifest, unless it is open; return its widget.

    It gets the name that napari's menus give it. Under that of ``add_plugin_dock_widget`` they would not know it, and
    open it a second time.
    """
    from npe2 import PluginManager

    manifest = PluginManager.instance().get_manifest(PLUGIN)
    name = f"{dock} ({manifest.display_name})"
    if name in viewer.window.dock_widgets:
        return viewer.window.dock_widgets[name]
    found = next(each for each in manifest.contributions.widgets or () if each.display_name == dock)
    widget = found.get_callable()(viewer)
    viewer.window.add_dock_widget(widget, name=name, tabify=tabify)
    return widget


def open_beside(viewer: Any, dock: str) -> None:
    """Open another dock of the plugin, by its name in the manifest, in a tab beside those there are."""
    open_dock(viewer, dock, tabify=True)
