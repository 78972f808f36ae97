"""The features tab: the same tokens before and after the layer, side by side, one of them on the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_llm4seg.gui.controllers.inspect_ports import COLOURS, FEATURES, OVERLAY, Drawn
from napari_llm4seg.gui.controllers.inspect_recording import Desk, Recording, overlay, waiting
from napari_llm4seg.gui.controllers.inspect_words import WordsPart
from napari_llm4seg.gui.views.abstract.common import Choice
from napari_llm4seg.gui.views.abstract.inspect import FeaturesState, Picture

if TYPE_CHECKING:
    from napari_llm4seg.activations.inspection import Inspection

Array = npt.NDArray[Any]

_KINDS = (
    Choice("norm", "norm", "How strong a token's features are"),
    Choice("channel", "single channel", "One feature; a channel has no name"),
    Choice("cosine", "cosine to the clicked token", "Which places look alike to the network here"),
    Choice("colours", "colours: three components", "The first three principal components of before and after together"),
    Choice("clusters", "clusters", "Groups of similar tokens, of before and after together"),
    Choice("change", "change through the layer", "How far the layer moves a token, and how far it turns it"),
    Choice("activation", "activation map", "Mean over channels of the absolute features, and how it meets the mask"),
    Choice("grad-cam", "Grad-CAM", "Which cells would raise the class if their features grew: the familiar reference"),
)
_VIEWS = {"activation": "activation", "grad-cam": "grad-cam"}


@dataclass(frozen=True, eq=False)
class Panel:
    """One of the pictures side by side: a number, or a colour (3,) uint8, for each token."""

    key: str
    title: str
    values: Array
    limits: tuple[float, float] = (0.0, 1.0)
    unit: str = ""

    @property
    def coloured(self) -> bool:
        return self.values.ndim == 2


@dataclass(frozen=True, eq=False)
class Shown:
    """The panels of a kind, and what is to be said of them."""

    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()


class FeaturesPart:
    """Draws features before and after.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kind, self._picked = "norm", ""
        self._channel, self._clusters = 0, 5
        self._kept: dict[tuple[Any, ...], Shown] = {}
        self._asked: tuple[Any, ...] | None = None
        self._job: Any = None
        self.words = WordsPart(desk)
        self._shown: Shown | None = None
        self._drawn: Panel | None = None
        self._pictures: tuple[Picture, ...] = ()

    @property
    def slots(self) -> tuple[str, ...]:
        if self._drawn is None:
            return ()
        return (COLOURS if self._drawn.coloured else FEATURES, *((OVERLAY,) if self._desk.token is not None else ()))

    def choose(self, what: str, value: Any) -> None:
        if what == "kind":
            self._kind = str(value)
        elif what == "number" and self._kind == "channel":
            self._channel = int(value)
        elif what == "number":
            self._clusters = int(value)
        elif what == "picked":
            self._picked = str(value)
        elif what == "words":
            self.words.switch(bool(value))

    def act(self, what: str, value: Any) -> None:
        if what == "words_folder":
            self.words.use(Path(value))
            self.words.draw()

    def forget(self) -> None:
        self.words.forget()
        self._kept, self._asked = {}, None
        self._take_down()

    def _take_down(self) -> None:
        self._shown = self._drawn = None
        self._pictures = ()

    # ------------------------------------------------------------------ drawing

    def draw(self) -> None:
        """Draw what is chosen, as soon as it is computed."""
        recording = self._desk.recording
        if recording is None:
            return
        key = self._key()
        shown = self._kept.get(key)
        if shown is None and self._needs_token():
            self._take_down()
            return
        if shown is None:
            if self._asked != key or not waiting(self._job):
                self._asked = key
                kind, numbers = self._kind, (self._channel, self._clusters, self._desk.token)
                self._job = self._desk.quick(
                    "Looking at the features",
                    lambda ctx: compute(recording.seen, kind, *numbers),
                    lambda found: self._keep(key, found),
                )
                shown = self._kept.get(key)  # a runner may have done it at once
            if shown is None:
                return
        self._show(recording, shown)
        if not waiting(self._job):  # the jobs of this view take turns
            self.words.draw()

    def _keep(self, key: tuple[Any, ...], found: Shown) -> None:
        self._kept[key] = found

    def _key(self) -> tuple[Any, ...]:
        number = {"channel": self._channel, "clusters": self._clusters, "cosine": self._desk.token}.get(self._kind)
        return self._kind, number

    def _needs_token(self) -> bool:
        return self._kind == "cosine" and self._desk.token is None

    def _show(self, recording: Recording, shown: Shown) -> None:
        panel = next((each for each in shown.panels if each.key == self._picked), shown.panels[-1])
        if shown is not self._shown:
            self._pictures = tuple(picture_of(recording, each, self._desk.token) for each in shown.panels)
        self._shown, self._drawn = shown, panel
        slot = COLOURS if panel.coloured else FEATURES
        values, matrix = recording.grid_of(panel.values), recording.seen.tokens.cells_to_scan
        self._desk.port.draw(Drawn(slot, recording.target, values, matrix, panel.title, panel.limits))
        if self._desk.token is not None:
            self._desk.port.draw(overlay(recording, self._desk.token, None))

    # ------------------------------------------------------------------ saying

    def value_at(self, token: int) -> str:
        panel = self._drawn
        if panel is None:
            return ""
        if panel.coloured:
            return f"token {token}: {panel.title}"
        return f"token {token}: {panel.values[token]:.4g} {panel.unit}, {panel.title}"

    def state(self) -> FeaturesState:
        recording = self._desk.recording
        if recording is None:
            return FeaturesState()
        least, most, number, name = 0, 0, 0, ""
        if self._kind == "channel":
            most, number, name = channels_of(recording.seen) - 1, self._channel, "Channel"
        elif self._kind == "clusters":
            least, most, number, name = 2, min(20, len(recording.seen.tokens)), self._clusters, "Clusters"
        notes = ("Click the scan: cosine is to the clicked token.",) if self._needs_token() else ()
        return FeaturesState(
            kinds=tuple(each for each in _KINDS if recording.seen.layers or each.key not in ("change", "grad-cam")),
            kind=self._kind,
            number=number,
            least=least,
            most=most,
            number_name=name,
            pictures=self._pictures,
            picked=self._drawn.key if self._drawn is not None else "",
            notes=notes or (self._shown.notes if self._shown is not None else ()),
            view=_VIEWS.get(self._kind, "features"),
            words=self.words.state(),
        )


def channels_of(seen: Inspection) -> int:
    """Return the number of channels that every compared point has."""
    from napari_llm4seg.activations import features as fe

    return min(seen.activations.tokens(point).shape[-1] for point in fe.POINTS if point in seen.activations.tensors)


def compute(seen: Inspection, kind: str, channel: int, k: int, token: int | None) -> Shown:
    """Return the panels of a kind: of the four points, or of the pairs that are compared."""
    from napari_llm4seg.activations import features as fe

    there = {point: seen.features(point) for point in fe.POINTS if point in seen.activations.tensors}
    pairs = [pair for pair in (fe.BOTTLENECK, fe.LAYER) if set(pair) <= set(there)]
    if kind == "norm":
        panels = [_scaled(point, fe.norms(values)) for point, values in there.items()]
        return Shown(tuple(panels), _scales(panels))
    if kind == "channel":
        panels = [_scaled(point, fe.channel(values, channel)) for point, values in there.items()]
        return Shown(tuple(panels), _scales(panels))
    if kind == "cosine":
        assert token is not None
        panels = [Panel(p, fe.WORDS[p], fe.cosine(v, token), (-1.0, 1.0), "cosine") for p, v in there.items()]
        return Shown(tuple(panels), ("One scale for all, -1 to 1",))
    if kind in ("colours", "clusters"):
        return _grouped(kind, there, pairs or [(point,) for point in there], k)
    if kind == "change":
        return _change(there, pairs)
    if kind == "activation":
        return _activation(seen)
    from napari_llm4seg.activations.gradcam import grad_cam

    found = grad_cam(seen)
    return Shown((Panel("grad-cam", "Grad-CAM of the bottleneck", found, (0.0, _top(found))),))


def _scaled(point: str, values: Array) -> Panel:
    from napari_llm4seg.activations.features import WORDS

    low, high = float(values.min()), float(values.max())
    return Panel(point, WORDS[point], values, (low, high if high > low else low + 1e-9))


def _scales(panels: Sequence[Panel]) -> tuple[str, ...]:
    """Return the scale of every panel in words: points differ by factors of tens."""
    said = [f"{each.title} {each.limits[0]:.3g} to {each.limits[1]:.3g}" for each in panels]
    return (f"Each in its own scale: {'; '.join(said)}",)


def _grouped(kind: str, there: dict[str, Any], pairs: list[Any], k: int) -> Shown:
    from napari_llm4seg.activations import features as fe
    from napari_llm4seg.activations.figures import SWATCHES

    panels, notes = {}, []
    for pair in pairs:
        values = [there[point] for point in pair]
        if kind == "colours":
            found, shares = fe.colours(values)
            said = " + ".join(f"{100 * share:.0f}" for share in shares)
            notes.append(f"{' and '.join(fe.WORDS[point] for point in pair)}: one basis, {said} % of the variance")
            pixels: list[Array] = [np.round(255 * each).astype(np.uint8) for each in found]
        else:
            table = np.asarray([SWATCHES[i % len(SWATCHES)] for i in range(k)], np.uint8)
            pixels = [table[each - 1] for each in fe.clusters(values, min(k, len(values[0])))]
        for point, colours in zip(pair, pixels, strict=True):
            panels[point] = Panel(point, fe.WORDS[point], colours)
    if kind == "clusters":
        notes.append("Equal colours within a pair are one group; the number of groups is a choice, no finding")
    return Shown(tuple(panels[point] for point in there if point in panels), tuple(notes))


def _change(there: dict[str, Any], pairs: list[Any]) -> Shown:
    from napari_llm4seg.activations import features as fe

    panels, notes = [], []
    for pair in pairs:
        name = "LLM layer" if pair == fe.LAYER else "whole block"
        moved, turned = fe.change(there[pair[0]], there[pair[1]])
        panels.append(Panel(f"moved {name}", f"{name}: moved", moved, (0.0, _top(moved)), "of its norm"))
        panels.append(Panel(f"turned {name}", f"{name}: turned", turned, (0.0, _top(turned)), "1 - cosine"))
        mean = float(moved.mean(dtype=np.float64))  # a token without features is moved by any number of its norms
        notes.append(f"{name}: change {mean:.3g} of the norm, 1 - cosine {turned.mean():.2f}, on average")
    return Shown(tuple(panels), tuple(notes))


def _activation(seen: Inspection) -> Shown:
    from napari_llm4seg.activations import features as fe
    from napari_llm4seg.activations.maps import activation_map
    from napari_llm4seg.activations.measure import AFTER, BEFORE

    panels = []
    for name, point in (("before", BEFORE), ("after", AFTER)):
        values = activation_map(seen.activations.features(point))[0].flatten().cpu().numpy()
        panels.append(Panel(name, f"{name} the block", values, (float(values.min()), _top(values))))
    found = fe.overlap(seen)
    if not found["before"]:
        return Shown(tuple(panels), ("The mask is empty or everywhere here, so there is nothing to meet.",))
    notes = [
        f"{words} with the mask: {found['before'][key]:.2f} before, {found['after'][key]:.2f} after"
        for key, words in (
            ("activation_iou", "IoU, cut at half its range,"),
            ("matched_iou", "IoU, cut to the mask's size,"),
            ("activation_auc", "AUC"),
        )
    ]
    return Shown(tuple(panels), tuple(notes))


def _top(values: Array) -> float:
    return max(float(values.max()), float(values.min()) + 1e-9, 1e-9)


def picture_of(recording: Recording, panel: Panel, token: int | None) -> Picture:
    """Return a panel as a picture; of a volume the plane of the clicked token."""
    from napari_llm4seg.activations.figures import in_colour

    pixels = panel.values if panel.coloured else in_colour(panel.values, *panel.limits)
    flat = np.ascontiguousarray(recording.plane_of(np.asarray(pixels, np.uint8), token))
    low, high = panel.limits
    scale = "" if panel.coloured else f": {low:.3g} to {high:.3g} {panel.unit}"
    return Picture(panel.key, panel.title, flat, f"{panel.title}{scale}. Click to lay it on the scan.")
