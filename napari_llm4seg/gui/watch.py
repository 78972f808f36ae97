"""Hear when the viewer's layers come, go, are renamed or get selected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class LayerWatch:
    """Calls one function on every change of the layer list.

    napari tells of one change several times, of a selection up to four times; it is passed on once.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    on_layer : callable(layer, bool), optional
        Called for every layer: with True when it is (or was already) there, with False when it goes.
    """

    def __init__(self, viewer: Any, on_layer: Callable[[Any, bool], None] | None = None) -> None:
        self._viewer = viewer
        self._on_layer = on_layer or (lambda layer, there: None)
        self._on_change: Callable[[], None] | None = None
        self._told: tuple[Any, ...] = ()

    def connect(self, on_change: Callable[[], None]) -> None:
        self._on_change, self._told = on_change, self._now()
        layers = self._viewer.layers
        for layer in layers:
            self._join(layer)
        layers.events.inserted.connect(self._inserted)
        layers.events.removed.connect(self._removed)
        layers.events.reordered.connect(self._changed)
        layers.selection.events.active.connect(self._changed)

    def disconnect(self) -> None:
        self._on_change, self._told = None, ()
        layers = self._viewer.layers
        layers.events.inserted.disconnect(self._inserted)
        layers.events.removed.disconnect(self._removed)
        layers.events.reordered.disconnect(self._changed)
        layers.selection.events.active.disconnect(self._changed)
        for layer in layers:
            self._leave(layer)

    def _join(self, layer: Any) -> None:
        layer.events.name.connect(self._changed)
        self._on_layer(layer, True)

    def _leave(self, layer: Any) -> None:
        layer.events.name.disconnect(self._changed)
        self._on_layer(layer, False)

    def _inserted(self, event: Any) -> None:
        self._join(event.value)
        self._changed()

    def _removed(self, event: Any) -> None:
        self._leave(event.value)
        self._changed()

    def _changed(self, event: Any = None) -> None:
        now = self._now()
        if self._on_change is not None and now != self._told:
            self._told = now
            self._on_change()

    def _now(self) -> tuple[Any, ...]:
        """Return which layers there are, in order and by name, and which one is selected."""
        layers = getattr(self._viewer.layers, "__wrapped__", self._viewer.layers)  # a plugin's own view of it is slow
        return (layers.selection.active, *((layer, layer.name) for layer in layers))
