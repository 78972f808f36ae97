"""What a new model is made of: size and backbone of its CNN, and its frozen layer; kept in the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_llm4seg.gui.controllers.ports import Runner
from napari_llm4seg.gui.state.settings import Settings
from napari_llm4seg.gui.views.abstract.common import Choice
from napari_llm4seg.gui.views.abstract.retrain import NewModelState

if TYPE_CHECKING:
    from napari_llm4seg.config import LayerRef

_STUDY = "in our study; see the report, training/reports/annotation_effort.md"
_FIXED: dict[str, tuple[Choice, ...]] = {
    "preset": (
        Choice("tiny", "Tiny", "0.2 million weights: a step takes about 0.7 of the time of Small"),
        Choice("small", "Small", "0.6 million weights, trained for up to 105 s; the usual choice, and our study's"),
        Choice(
            "base",
            "Base",
            "3.5 million weights: a step takes 2.5 to 4 times as long as of Small, so it trains for up to 5 min. "
            "Not tried in our study",
        ),
    ),
    "backbone": (
        Choice("cmunext", "CMUNeXt", "Wide kernels, one channel at a time; the usual choice, and our study's"),
        Choice("unet", "U-Net", "Plain 3 × 3 kernels: a step takes about 0.7 of the time. Not tried in our study"),
    ),
}
_SHIPPED = Choice(
    "smollm2-135m",
    "SmolLM2, layer 14",
    "The frozen language-model layer that is shipped, at the network's bottleneck. With it or without, new models from "
    f"five slices made no measurable difference {_STUDY}",
)
_CONTROLS = (
    Choice(
        "random", "Random weights (control)", "The same layer with frozen random weights: what is pre-training worth?"
    ),
    Choice(
        "none",
        "None (plain CNN)",
        f"No language-model block: a step takes a fifth less time. It made no measurable difference {_STUDY}",
    ),
)
# In the one line that is seen while the options are closed.
_SHORT = {_SHIPPED.key: "SmolLM2", "random": "random layer", "none": "no layer"}
_USUAL = {"preset": "small", "backbone": "cmunext", "layer": _SHIPPED.key}


class NewModel:
    """The choices for *New model…*.

    Parameters
    ----------
    settings : Settings
    runner : Runner
        Looks which layers are at hand.
    on_change : callable()
        Something to draw has changed.
    """

    def __init__(self, settings: Settings, runner: Runner, on_change: Callable[[], None]) -> None:
        self._settings, self._runner, self._on_change = settings, runner, on_change
        self._others: dict[str, LayerRef] = {}
        self._choices: tuple[Choice, ...] = ()
        self._closed = False

    def look(self) -> None:
        """Look which layers are at hand, in a job."""

        def job(_: Any) -> tuple[dict[str, LayerRef], tuple[Choice, ...]]:
            return others_at_hand()

        self._runner.start(job, on_result=self._found)

    def close(self) -> None:
        self._closed = True
        if self._runner.current is not None:
            self._runner.current.cancel()

    def choose(self, name: str, key: str) -> None:
        """Make ``key`` the choice of "preset", "backbone" or "layer" from now on."""
        self._settings.new_model = {**self._settings.new_model, name: key}
        self._settings.save()
        self._on_change()

    def made(self) -> dict[str, Any]:
        """Return what is chosen, as ``engine.scratch.from_scratch`` and JSON take it."""
        layer = self._chosen("layer")
        ref = self._others.get(layer)
        return {
            "preset": self._chosen("preset"),
            "backbone": self._chosen("backbone"),
            "layer": layer if ref is None else ref.model_dump(),
        }

    def state(self, enabled: bool) -> NewModelState:
        """Return what is shown; nothing can be chosen while it is not ``enabled``."""
        sizes, backbones, layers = (self._offered(name) for name in _USUAL)
        size, backbone, layer = (self._chosen(name) for name in _USUAL)
        labels = {choice.key: choice.label for choice in (*sizes, *backbones, *layers)} | _SHORT
        summary = " · ".join(labels[key] for key in (size, backbone, layer))
        return NewModelState(sizes, backbones, layers, size, backbone, layer, enabled, summary)

    def _found(self, found: tuple[dict[str, LayerRef], tuple[Choice, ...]]) -> None:
        if not self._closed:
            self._others, self._choices = found
            self._on_change()

    def _offered(self, name: str) -> tuple[Choice, ...]:
        return _FIXED.get(name) or (_SHIPPED, *self._choices, *_CONTROLS)

    def _chosen(self, name: str) -> str:
        """Return the key chosen last time or now, the usual one where that is not to be had."""
        key = self._settings.new_model.get(name)
        known = {each.key for each in self._offered(name)}
        return key if isinstance(key, str) and key in known else _USUAL[name]


def others_at_hand() -> tuple[dict[str, LayerRef], tuple[Choice, ...]]:
    """Return the frozen layers on this machine but the shipped one and random ones, and how they are shown."""
    from napari_llm4seg.assets import asset
    from napari_llm4seg.models.inventory import layers_at_hand, name_of

    refs: dict[str, LayerRef] = {}
    choices = []
    for layer in layers_at_hand():
        ref, key = layer.ref, f"{layer.ref.repository}:{layer.ref.index}:{layer.ref.sha256[:8]}"
        if ref.repository.startswith("random/") or layer.folder.is_relative_to(asset("layers")) or key in refs:
            continue
        refs[key] = ref
        about = (
            f"Frozen layer {ref.index} of {ref.repository}, {layer.licence}: the wider it is, the longer a step takes"
        )
        choices.append(Choice(key, f"{name_of(ref)}, layer {ref.index}", about))
    return refs, tuple(choices)
