"""Hear when the viewer's layers come, go, are renamed or get selected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from napari.layers import Layer


class LayerWatch:
    """Calls one function on every change of the layer list.

    napari tells of one change several times, of a selection up to four times; it is passed on once.

    Parameters
    ----------
    viewer : napari.components.ViewerModel or napari.viewer.Viewer
    on_layer : callable(layer, bool), optional
        Called for every layer: with True when it is (or was already) there, with False when it goes.
    kind : type of layer, optional
    events : mapping of str to callable(event), optional
        What to call at which events of every layer of that kind while it is there.
    """

    def __init__(
        self,
        viewer: Any,
        on_layer: Callable[[Any, bool], None] | None = None,
        kind: type[Any] = Layer,
        events: Mapping[str, Callable[[Any], None]] | None = None,
    ) -> None:
        self._viewer, self._kind, self._events = viewer, kind, dict(events or {})
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
        for name, call in self._heard(layer):
            getattr(layer.events, name).connect(call)
        self._on_layer(layer, True)

    def _leave(self, layer: Any) -> None:
        layer.events.name.disconnect(self._changed)
        for name, call in self._heard(layer):
            getattr(layer.events, name).disconnect(call)
        self._on_layer(layer, False)

    def _heard(self, layer: Any) -> Iterable[tuple[str, Callable[[Any], None]]]:
        return self._events.items() if isinstance(layer, self._kind) else ()

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
