"""The what-if tab: something changed in the layer, what that does to the mask, and whether a map means anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_llm4seg.gui.controllers.inspect_export import Found
from napari_llm4seg.gui.controllers.inspect_ports import DIFFERENCE, Drawn
from napari_llm4seg.gui.controllers.inspect_recording import Desk, Recording, waiting
from napari_llm4seg.gui.views.abstract.common import ButtonState, Choice
from napari_llm4seg.gui.views.abstract.inspect import EffectRow, WhatIfState

if TYPE_CHECKING:
    from napari_llm4seg.activations.faithfulness import Faithfulness
    from napari_llm4seg.activations.interventions import Effect, HeadRow

_FIXED = (
    Choice("off", "layer off: adapters only", "The tokens pass from one adapter to the other"),
    Choice("random", "random layer", "A layer of the same shape with random weights"),
    Choice("head", "one head knocked out", "What one head takes in is taken off"),
)
_MAPS = (
    Choice("attention", "attention: what each token gives", "Mean over heads and over the tokens that look"),
    Choice("clicked", "attention of the clicked token", "The clicked token's mean over heads"),
    Choice("activation", "activation map", "Mean over channels of the absolute features of the bottleneck"),
    Choice("grad_cam", "Grad-CAM", "The familiar reference"),
)
_RANDOM_MAPS = 20


class WhatIfPart:
    """Runs interventions and draws what they change.

    Parameters
    ----------
    desk : Desk
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._change, self._head, self._map, self._picked = "off", 0, "attention", ""
        self._effects: dict[str, Effect] = {}
        self._table: dict[str, HeadRow] = {}
        self._tests: dict[str, Faithfulness] = {}
        self._layers: dict[str, Any] | None = None
        self._job: Any = None

    @property
    def slots(self) -> tuple[str, ...]:
        return (DIFFERENCE,) if self._effect() is not None else ()

    def choose(self, what: str, value: Any) -> None:
        if what == "change":
            self._change = str(value)
        elif what == "head":
            self._head = int(value)
        elif what == "map":
            self._map = str(value)
        elif what == "picked":
            self._picked = "" if value == self._picked else str(value)

    def act(self, what: str, value: Any) -> None:
        if what == "run":
            self._run()
        elif what == "table":
            self._measure_heads()
        elif what == "test":
            self._test()

    def forget(self) -> None:
        self._effects, self._table, self._tests = {}, {}, {}
        self._layers, self._picked = None, ""

    def found(self) -> Found:
        """Return everything that was tried, for an export."""
        return Found(list(self._effects.values()), list(self._table.values()), dict(self._tests))

    def _effect(self) -> Effect | None:
        row = self._table.get(self._picked)
        return row.effect if row is not None else self._effects.get(self._picked)

    # ------------------------------------------------------------------ drawing

    def draw(self) -> None:
        recording = self._desk.recording
        if recording is None:
            return
        if self._layers is None:
            from napari_llm4seg.activations.interventions import swappable

            fitting = swappable(recording.seen) if recording.seen.layers else []
            self._layers = {f"layer {ref.repository} {ref.index} {ref.sha256[:8]}": ref for ref in fitting}
        effect = self._effect()
        if effect is None:
            return
        from napari_llm4seg.activations.interventions import DIFFERENCE as CLASSES

        frame = recording.seen.frame
        matrix = frame.to_scan if frame.kind != "slice" else _of_slice(frame.z)
        about = {"classes": CLASSES}
        self._desk.port.draw(Drawn(DIFFERENCE, recording.target, effect.difference, matrix, effect.name, about=about))

    def value_at(self, token: int) -> str:
        effect = self._effect()
        return f"token {token}" if effect is None else f"token {token} · blue gained, orange lost: {effect.name}"

    # ------------------------------------------------------------------ running

    def _run(self) -> None:
        """Segment the slice again with the chosen change."""
        recording, change, head = self._desk.recording, self._change, self._head
        if recording is None or self._blocked(recording) or waiting(self._job):
            return
        seen, tokens = recording.seen, self._region(recording)
        layer: Any = (self._layers or {}).get(change)

        def work(ctx: Any) -> Effect:
            from napari_llm4seg.activations import interventions as may

            if change == "off":
                return may.switch_off(seen, ctx.cancelled)
            if change == "random":
                return may.randomise(seen, cancel=ctx.cancelled)
            if change == "head":
                return may.knock_out(seen, head, cancel=ctx.cancelled)
            if tokens is not None:
                return may.block_tokens(seen, tokens, ctx.cancelled)
            return may.swap(seen, layer, cancel=ctx.cancelled)

        def done(effect: Effect) -> None:
            self._effects[effect.name] = effect
            self._picked = effect.name

        self._job = self._desk.quick("Segmenting the slice with a change", work, done)

    def _region(self, recording: Recording) -> tuple[int, ...] | None:
        """Return the tokens of a drawn region, where that is the change."""
        if not self._change.startswith("region "):
            return None
        frame = recording.seen.frame
        shape = (frame.scan.grid[1], frame.scan.grid[2])
        z = frame.z
        if frame.kind == "patch":
            z = self._desk.port.on_show(recording.asked.scan_id, frame.axis)[1]
        inside = self._desk.port.region(self._change.removeprefix("region "), recording.target, z, shape)
        return recording.seen.tokens.tokens_in(inside, z)

    def _measure_heads(self) -> None:
        recording = self._desk.recording
        if recording is None:
            return

        def work(ctx: Any) -> list[HeadRow]:
            from napari_llm4seg.activations.interventions import heads_table

            return heads_table(recording.seen, progress=ctx.progress, cancel=ctx.cancelled)

        def done(rows: list[HeadRow]) -> None:
            self._table = {f"head {row.head}": row for row in rows}

        self._desk.run("knocking out every head in turn", work, done)

    def _test(self) -> None:
        """Hold the chosen map to random ones."""
        recording, name, token = self._desk.recording, self._map, self._desk.token
        if recording is None or (name == "clicked" and token is None):
            return

        def work(ctx: Any) -> Faithfulness:
            from napari_llm4seg.activations.faithfulness import faithfulness

            values = values_of(recording, name, token)
            ctx.check()
            how: dict[str, Any] = {"progress": ctx.progress, "cancel": ctx.cancelled}
            return faithfulness(recording.seen, values, n_random=_RANDOM_MAPS, **how)

        def done(found: Faithfulness) -> None:
            self._tests[name if name != "clicked" else f"attention_of_token_{token}"] = found

        self._desk.run("holding the map to random ones", work, done)

    # ------------------------------------------------------------------ saying

    def _blocked(self, recording: Recording) -> str:
        if not recording.seen.proof.ok:
            return recording.seen.proof.words
        if not recording.seen.layers:
            return "This model has no language-model layer to change."
        return self._desk.blocked()

    def _changes(self, recording: Recording) -> tuple[Choice, ...]:
        from napari_llm4seg.models.inventory import name_of

        layers = [Choice(key, f"layer {ref.index} of {name_of(ref)}") for key, ref in (self._layers or {}).items()]
        regions = [
            Choice(f"region {key}", f"'{name}' blocked", "Its tokens cannot be looked at by others")
            for key, name in self._desk.port.regions(recording.asked.scan_id)
        ]
        return (*_FIXED, *layers, *regions)

    def state(self) -> WhatIfState:
        recording = self._desk.recording
        if recording is None:
            return WhatIfState()
        if not recording.seen.layers:
            return WhatIfState(problem="This model has no language-model layer to change.")
        changes, blocked = self._changes(recording), self._blocked(recording)
        if self._change not in {choice.key for choice in changes}:
            self._change = "off"
        run = blocked or ("The slice is being segmented." if waiting(self._job) else "")
        test = blocked
        if not test and self._map == "clicked" and self._desk.token is None:
            test = "Click the scan first."
        seconds = f"{_RANDOM_MAPS} random maps; takes a minute or so, and can be stopped"
        return WhatIfState(
            changes=changes,
            change=self._change,
            head=self._head,
            heads=recording.seen.layers[0].spec.heads,
            needs_head=self._change == "head",
            run=ButtonState(not run, run or "Segment this slice again with the change", "Try it"),
            rows=tuple(_row(name, effect) for name, effect in self._effects.items()),
            picked=self._picked,
            table=ButtonState(not blocked, blocked or "Knock out every head in turn", "All heads in turn"),
            table_rows=tuple(_row(key, row.effect, str(row.head), row.entropy) for key, row in self._table.items()),
            maps=_MAPS,
            map=self._map,
            test=ButtonState(not test, test or f"Hold the map to {seconds}", "Test it"),
            verdicts=tuple(f"{name.replace('_', ' ')}: {found.words}" for name, found in self._tests.items()),
        )


def values_of(recording: Recording, name: str, token: int | None) -> Any:
    """Return the map (N,) that is held to random ones."""
    from napari_llm4seg.activations.gradcam import grad_cam
    from napari_llm4seg.activations.maps import activation_map

    seen = recording.seen
    if name == "attention":
        return seen.weights()[0].float().mean(0).mean(0).cpu().numpy()
    if name == "clicked":
        assert token is not None
        return seen.attention(token).values
    if name == "activation":
        return activation_map(seen.activations.features("bottleneck"))[0].flatten().cpu().numpy()
    return grad_cam(seen)


def _row(key: str, effect: Effect, name: str = "", entropy: float | None = None) -> EffectRow:
    return EffectRow(key, name or effect.name, effect.dice, effect.changed, entropy)


def _of_slice(z: int) -> Any:
    """Return the map of a slice's own pixels onto voxels of the turned scan."""
    matrix = np.eye(4)
    matrix[0, 3] = z
    return matrix
