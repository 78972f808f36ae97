"""Which values of the scan are shown from black to white: presets for CT, percentiles for the rest, own ones."""

from __future__ import annotations

from napari_llm4seg.gui.controllers.listening import Listening
from napari_llm4seg.gui.controllers.ports import WindowPort
from napari_llm4seg.gui.state.session import Session
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract.common import Choice
from napari_llm4seg.gui.views.abstract.window import WindowState, WindowView
from napari_llm4seg.windows import CT_WINDOWS, Window

FULL, PERCENTILE, OWN, BY_HAND = "full", "percentile", "own", "by hand"
_KEPT = 8


class WindowController:
    """Keeps the choice at what the scan's layer shows, whoever changed it, and changes it when a person chooses.

    Parameters
    ----------
    session : Session
    port : WindowPort
    view : WindowView
    settings : Settings
        Keeps a person's own windows.
    """

    def __init__(self, session: Session, port: WindowPort, view: WindowView, settings: Settings) -> None:
        self.session, self.port, self.view, self.settings = session, port, view, settings
        self._listening = Listening()
        self._editing = False
        # What a choice without numbers of its own came to, by scan.
        self._came_to: dict[str, tuple[str, tuple[float, float]]] = {}

    def start(self) -> None:
        self.view.attach(self)
        self.port.connect(self._render)
        self._listening.to(
            (self.session.scan_changed, self._scan_changed),
        )
        self._render()

    def close(self) -> None:
        self.port.disconnect()
        self._listening.stop()

    def choose_window(self, key: str) -> None:
        """Show the window ``key``; "own" opens the two numbers."""
        scan = self.session.scan_id
        self._editing = key == OWN
        limits = self._limits().get(key)
        if scan is not None and limits is not None:
            self.port.show_window(scan, limits)
        elif scan is not None and key in (FULL, PERCENTILE):
            found = self.port.show_full(scan) if key == FULL else self.port.show_percentiles(scan)
            self._came_to[scan] = key, found
        self._render()

    def use_own(self, centre: float, width: float) -> None:
        """Show the window of these numbers and remember it."""
        if width <= 0 or self.session.scan_id is None:
            return
        kept = [pair for pair in self.settings.windows if pair != [centre, width]]
        self.settings.windows = [[centre, width], *kept][:_KEPT]
        self.settings.save()
        self._editing = False
        self.port.show_window(self.session.scan_id, Window(centre, width).limits)
        self._render()

    def _limits(self) -> dict[str, tuple[float, float]]:
        """Return the limits of every choice that has some of its own."""
        own = {f"own {centre:g} {width:g}": Window(centre, width).limits for centre, width in self.settings.windows}
        return {name: window.limits for name, window in CT_WINDOWS.items()} | own

    def _scan_changed(self, _: object) -> None:
        self._editing = False
        self._render()

    def _render(self) -> None:
        scan = self.session.scan_id
        info = self.port.window(scan) if scan is not None else None
        if scan is None or info is None:
            self.view.show_state(WindowState())
            return
        unit = "HU" if info.ct else ""
        choices = [Choice(name, name, _words(window, "HU")) for name, window in (CT_WINDOWS.items() if info.ct else ())]
        choices.append(Choice(FULL, "full range", "From the smallest value to the largest"))
        if not info.ct:
            choices.append(Choice(PERCENTILE, "0.5 to 99.5 %", "All but the darkest and the brightest 0.5 %"))
        choices += [
            Choice(f"own {centre:g} {width:g}", f"{centre:g} / {width:g}", _words(Window(centre, width), unit))
            for centre, width in self.settings.windows
        ]
        shown = Window.of(*info.limits)
        current = self._current(scan, info.limits, info.full, {choice.key for choice in choices})
        if current == BY_HAND:
            choices.append(Choice(BY_HAND, f"{info.limits[0]:g} to {info.limits[1]:g}", "As set by hand in napari"))
        choices.append(Choice(OWN, "own…", "Give centre and width; they are remembered"))
        self.view.show_state(
            WindowState(tuple(choices), current, self._editing, round(shown.centre, 3), round(shown.width, 3), unit)
        )

    def _current(self, scan: str, limits: tuple[float, float], full: bool, offered: set[str]) -> str:
        """Return which choice ``limits`` are, what was chosen last before what happens to be equal."""
        key, came_to = self._came_to.get(scan, (FULL, None))
        if came_to is not None and _near(limits, came_to):
            return key
        for name, its in self._limits().items():
            if name in offered and _near(limits, its):
                return name
        return FULL if full else BY_HAND


def _near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    tolerance = 1e-6 * max(abs(one[1] - one[0]), 1e-12)
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _words(window: Window, unit: str) -> str:
    low, high = (f"{limit:g} {unit}".strip().replace("-", "−") for limit in window.limits)
    return f"Centre {window.centre:g}, width {window.width:g}: {low} to {high}"
