"""The attention tab: which head, which way, which layer; the map on the scan and every head as a thumbnail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_llm4seg.gui.controllers.inspect_ports import ATTENTION, OVERLAY, Drawn
from napari_llm4seg.gui.controllers.inspect_recording import Desk, Recording, overlay
from napari_llm4seg.gui.views.abstract.common import Choice
from napari_llm4seg.gui.views.abstract.inspect import AttentionState, Picture

if TYPE_CHECKING:
    from napari_llm4seg.activations.attention import TokenMap, Way

_GREY = (110, 110, 110)


class AttentionPart:
    """Draws what a token looks at.

    Parameters
    ----------
    desk : Desk
        What is recorded and clicked, and where to draw.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._head, self._way, self._layer = "mean", "from", "1"
        self._map: TokenMap | None = None
        self._thumbnails: tuple[Picture, ...] = ()

    @property
    def slots(self) -> tuple[str, ...]:
        """The layers that show something now."""
        return (ATTENTION, OVERLAY) if self._map is not None else ()

    def choose(self, what: str, value: Any) -> None:
        if what == "head":
            self._head = str(value)
        elif what == "way":
            self._way = str(value)
        elif what == "layer":
            self._layer = str(value)

    def act(self, what: str, value: Any) -> None:
        """There is nothing to start here."""

    @property
    def asked(self) -> tuple[Any, int]:
        """The head and the layer that are chosen, as an export takes them."""
        head = self._head if self._head in ("mean", "max") else int(self._head)
        return head, int(self._layer) if self._layer.isdigit() else 1

    def forget(self) -> None:
        """Nothing is recorded any more."""
        self._map, self._thumbnails = None, ()

    def draw(self) -> None:
        """Draw the clicked token's map on the scan."""
        recording, token = self._desk.recording, self._desk.token
        self.forget()
        if recording is None or token is None or self.problem(recording):
            return
        self._fit(recording)
        seen = recording.seen
        way: Way = "to" if self._way == "to" else "from"
        layer: Any = self._layer if self._layer in ("mean", "rollout") else int(self._layer)
        head: Any = self._head if self._head in ("mean", "max") else int(self._head)
        shown = seen.attention(token, way, head, layer)
        self._map = shown
        limits = (0.0, max(float(shown.values.max()), 1e-9))
        about = {**shown.about, "proof": seen.proof.as_dict(), "unit": shown.unit}
        values, matrix = recording.grid_of(shown.values), seen.tokens.cells_to_scan
        self._desk.port.draw(Drawn(ATTENTION, recording.target, values, matrix, shown.title, limits, about))
        self._desk.port.draw(overlay(recording, token, shown.visible))
        self._thumbnails = self._pictures(recording, token, way, shown)

    def _fit(self, recording: Recording) -> None:
        """Choose what there is, where another model has fewer heads or layers."""
        layers = recording.seen.layers
        if self._layer.isdigit() and int(self._layer) > len(layers):
            self._layer = "1"
        if self._layer in ("mean", "rollout") and len(layers) < 2:
            self._layer = "1"
        if self._head.isdigit() and int(self._head) >= layers[0].spec.heads:
            self._head = "mean"

    def _pictures(self, recording: Recording, token: int, way: Way, shown: TokenMap) -> tuple[Picture, ...]:
        """Return every head's map in one scale of colour, what is out of sight in grey."""
        from napari_llm4seg.activations.figures import in_colour

        layer = int(self._layer) if self._layer.isdigit() else 1
        heads = recording.seen.heads(token, way, layer)
        shares = recording.entropies[layer - 1]
        coloured = in_colour(heads, 0.0, max(float(heads.max()), 1e-9))
        coloured[:, ~shown.visible] = _GREY
        return tuple(
            Picture(
                str(head),
                str(head),
                np.ascontiguousarray(recording.plane_of(coloured[head], token)),
                f"Head {head}: entropy {shares[head, token]:.2f} of its largest here, {shares[head].mean():.2f} on "
                f"average; largest value {heads[head].max():.3f}",
            )
            for head in range(len(heads))
        )

    def problem(self, recording: Recording) -> str:
        """Return why no attention can be shown, or nothing."""
        if not recording.seen.proof.ok:
            return recording.seen.proof.words
        if not recording.seen.layers:
            return "This model has no language-model layer, so there is no attention; see Features."
        return ""

    def value_at(self, token: int) -> str:
        """Return what is said of a hovered token."""
        if self._map is None:
            return ""
        if not self._map.visible[token]:
            return f"token {token}: out of sight"
        return f"token {token}: {self._map.values[token]:.4f} ({self._map.unit})"

    def state(self) -> AttentionState:
        recording = self._desk.recording
        if recording is None:
            return AttentionState()
        problem = self.problem(recording)
        if problem:
            return AttentionState(problem=problem)
        layers = recording.seen.layers
        choices = [Choice(str(k), f"layer {k}") for k in range(1, len(layers) + 1)]
        if len(layers) > 1:
            choices += [Choice("mean", "mean of layers"), Choice("rollout", "rollout through all")]
        heads = [Choice("mean", "mean of all"), Choice("max", "largest of all")]
        heads += [Choice(str(k), f"head {k}") for k in range(layers[0].spec.heads)]
        return AttentionState(
            heads=tuple(heads),
            head=self._head,
            way=self._way,
            layers=tuple(choices) if len(layers) > 1 else (),
            layer=self._layer,
            thumbnails=self._thumbnails,
            title=self._title(),
            notes=self._notes(recording),
        )

    def _title(self) -> str:
        if self._map is None:
            return ""
        best = int(self._map.values.argmax())
        return f"{self._map.title}. Strongest: token {best}, {self._map.values[best]:.3f}"

    def _notes(self, recording: Recording) -> tuple[str, ...]:
        token = self._desk.token
        if self._map is None or token is None or not recording.entropies:
            return ()
        layer = int(self._layer) if self._layer.isdigit() else 1
        shares = recording.entropies[layer - 1]
        here, everywhere = shares[:, token], shares.mean(axis=1)
        said = [f"Entropy of its look: {here.mean():.2f} of the largest (all tokens: {everywhere.mean():.2f})"]
        hidden = int((~self._map.visible).sum())
        if hidden:
            said.append(f"Hatched: {hidden} of {len(self._map.visible)} tokens are out of sight under the causal mask")
        return tuple(said)
