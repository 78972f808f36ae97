"""What if: the same slice again with something changed in the layer, and what that does to the mask.

Every intervention starts at the recorded bottleneck and runs layer and decoder alone. The network itself is never
changed (``napari_llm4seg.activations.replay``). A large effect says that this part is used by the network for this
slice; a small one that it is not needed here, not that it is useless: others may stand in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_llm4seg.activations.inspection import Answer, Inspection
from napari_llm4seg.activations.replay import Cancel, OnProgress, Replay
from napari_llm4seg.config import LayerRef
from napari_llm4seg.errors import ConfigError, InputError
from napari_llm4seg.metrics import dice
from napari_llm4seg.models.block import LLMBlock
from napari_llm4seg.models.inventory import layer_width, layers_at_hand, name_of, resolve_layer
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import find_pack
from napari_llm4seg.volume import Volume


@dataclass(frozen=True, eq=False)
class Effect:
    """A changed run beside the normal one.

    Attributes
    ----------
    name : what was changed, in words
    answer : Answer
    dice : overlap of all structures together with the normal mask, in [0, 1]; 1 where both are empty
    by_class : the same for each structure
    changed : pixels whose label differs
    mean_change, largest_change : of the probabilities, absolute
    difference : array ([Z,] Y, X), uint8: 0 the same, 1 gained, 2 lost, 3 another structure
    """

    name: str
    answer: Answer
    dice: float
    by_class: dict[str, float]
    changed: int
    mean_change: float
    largest_change: float
    difference: npt.NDArray[np.uint8]

    def row(self) -> dict[str, Any]:
        """Return the figures of a table's row."""
        return {
            "change": self.name,
            "dice": self.dice,
            **({f"dice {name}": value for name, value in self.by_class.items()} if len(self.by_class) > 1 else {}),
            "changed_pixels": self.changed,
            "mean_probability_change": self.mean_change,
            "largest_probability_change": self.largest_change,
        }


DIFFERENCE = ((1, "gained", "#0072B2"), (2, "lost", "#D55E00"), (3, "another structure", "#F0E442"))


def difference_volume(inspection: Inspection, effect: Effect) -> Volume:
    """Return an effect's difference as labels that lie on the scan in the world."""
    volume = inspection.frame.volume(effect.difference, f"{effect.name}: difference", "label")
    return volume.with_data(volume.data, metadata={"classes": DIFFERENCE})


def switch_off(inspection: Inspection, cancel: Cancel | None = None) -> Effect:
    """Return the mask of the adapters alone, without any language-model layer."""
    return _run(inspection, ["layer off (adapters only)"], lambda replay: replay.with_layers([]), cancel)[0]


def randomise(inspection: Inspection, seed: int = 0, cancel: Cancel | None = None) -> Effect:
    """Return the mask with random layers of the same shape in place of the ones that ran."""
    if not inspection.layers:
        raise ConfigError("No layer runs in this network now, so there is none to replace by a random one.")
    layers = [LLMLayer.random(layer.spec, seed + i) for i, layer in enumerate(inspection.layers)]
    return _run(inspection, [f"random layer (seed {seed})"], lambda replay: replay.with_layers(layers), cancel)[0]


def swap(
    inspection: Inspection, source: str | LayerRef, index: int | None = None, cancel: Cancel | None = None
) -> Effect:
    """Return the mask with another layer at hand.

    Parameters
    ----------
    inspection : Inspection
    source : str or LayerRef
        As ``models.inventory.resolve_layer`` takes it: a language model's name, ``hf:ORG/REPO``, ``random:NAME``...;
        or one of ``swappable``.
    index : int, optional
        0-based layer, for a name.

    Raises
    ------
    CheckpointError
        If it is not at hand, with the command that fetches it.
    ConfigError
        If its width is not that of the adapters.
    """
    ref = resolve_layer(source, index) if isinstance(source, str) else source
    layer = find_pack(ref, inspection.predictor.checkpoint.path).build()
    name = f"layer {ref.index} of {name_of(ref)}"
    return _run(inspection, [name], lambda replay: replay.with_layers([layer]), cancel)[0]


def swappable(inspection: Inspection) -> list[LayerRef]:
    """Return the layers at hand that fit the adapters, for ``swap``, without the checkpoint's own and random ones."""
    block = getattr(inspection.predictor.net, "block", None)
    if not isinstance(block, LLMBlock):
        return []
    own = set(block.config.layers)
    near = inspection.predictor.checkpoint.path
    there = [each.ref for each in layers_at_hand(near) if not each.ref.repository.startswith("random/")]
    return [ref for ref in dict.fromkeys(there) if ref not in own and layer_width(ref) == block.hidden]


def knock_out(inspection: Inspection, head: int, layer: int = 1, cancel: Cancel | None = None) -> Effect:
    """Return the mask without what one head (from 0) of a layer (from 1) takes in."""
    name = f"without head {head}" + (f" of layer {layer}" if len(inspection.layers) > 1 else "")
    return _run(inspection, [name], lambda replay: replay.without_heads(layer, [head]), cancel)[0]


def block_tokens(inspection: Inspection, tokens: Sequence[int], cancel: Cancel | None = None) -> Effect:
    """Return the mask where no other token may look at these; see ``Replay.with_blocked``.

    ``inspection.tokens.tokens_in(region)`` gives the tokens of a region that was drawn.
    """
    if not tokens:
        raise InputError("The region holds no token; draw it on the recorded slice.")
    name = f"{len(tokens)} token(s) blocked"
    return _run(inspection, [name], lambda replay: replay.with_blocked([tokens]), cancel)[0]


@dataclass(frozen=True, eq=False)
class HeadRow:
    """One head of the table of all.

    Attributes
    ----------
    head, layer : from 0, from 1
    effect : Effect of knocking it out
    entropy : mean over tokens of its entropy's share of the largest possible, in [0, 1]
    """

    head: int
    layer: int
    effect: Effect
    entropy: float

    def row(self) -> dict[str, Any]:
        """Return the figures of the table's row."""
        figures = self.effect.row()
        figures.pop("change")
        return {"layer": self.layer, "head": self.head, **figures, "mean_entropy_share": self.entropy}


def heads_table(
    inspection: Inspection,
    layer: int = 1,
    progress: OnProgress | None = None,
    cancel: Cancel | None = None,
) -> list[HeadRow]:
    """Knock out every head of a layer in turn.

    Parameters
    ----------
    inspection : Inspection
    layer : int
        From 1.
    progress : callable(done, total, message), optional
        In heads.
    cancel : callable -> bool, optional

    Returns
    -------
    list of HeadRow, by head

    Raises
    ------
    Cancelled
    """
    _, shares = inspection.entropy(layer)
    heads = list(range(len(shares)))

    def done(count: int) -> None:
        if progress is not None:
            progress(count, len(heads), f"head {count}/{len(heads)}")

    done(0)
    names = [f"without head {head}" for head in heads]
    effects = _run(inspection, names, lambda replay: replay.without_heads(layer, heads), cancel, done)
    return [
        HeadRow(head, layer, effect, float(shares[head].mean())) for head, effect in zip(heads, effects, strict=True)
    ]


def _run(
    inspection: Inspection,
    names: Sequence[str],
    change: Callable[[Replay], list[Tensor]],
    cancel: Cancel | None,
    done: Callable[[int], object] | None = None,
) -> list[Effect]:
    normal = inspection.normal
    replay = inspection.replay(cancel=cancel)
    with inspection.predictor.network(cancel):
        found = replay.probabilities(change(replay), cancel, done)
    return [
        effect_of(inspection, name, normal, inspection.answer(each)) for name, each in zip(names, found, strict=True)
    ]


def effect_of(inspection: Inspection, name: str, normal: Answer, changed: Answer) -> Effect:
    """Return how one answer differs from the normal one."""
    before, after = normal.labels, changed.labels
    difference = np.zeros(before.shape, dtype=np.uint8)
    difference[(before == 0) & (after != 0)] = 1
    difference[(before != 0) & (after == 0)] = 2
    difference[(before != 0) & (after != 0) & (before != after)] = 3
    off = np.abs(changed.probabilities - normal.probabilities)
    classes = inspection.predictor.checkpoint.config.model.classes
    return Effect(
        name,
        changed,
        dice(before > 0, after > 0),
        {spec.name: dice(before == spec.value, after == spec.value) for spec in classes},
        int(np.count_nonzero(difference)),
        float(off.mean()),
        float(off.max()),
        difference,
    )
