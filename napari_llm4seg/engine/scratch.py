"""A new model for structures that no checkpoint knows, from a handful of annotated slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from napari_llm4seg.checkpoint import Checkpoint
from napari_llm4seg.config import (
    CLASS_COLOURS,
    BackboneConfig,
    BlockConfig,
    Card,
    CheckpointConfig,
    ClassSpec,
    FinetuneConfig,
    FitConfig,
    LayerRef,
    ModelConfig,
    PredictConfig,
    PreprocessConfig,
)
from napari_llm4seg.engine.corrections import Corrections
from napari_llm4seg.engine.finetune import Finetuned, Finetuner
from napari_llm4seg.errors import CheckpointError, ConfigError
from napari_llm4seg.models.build import build_network
from napari_llm4seg.models.inventory import SHIPPED, layer_width, name_of, resolve_layer
from napari_llm4seg.models.registry import RANDOM, known, parse_source
from napari_llm4seg.preprocess import Preprocessor
from napari_llm4seg.windows import CT_WINDOWS, DEFAULT_CT, is_ct

Preset = Literal["tiny", "small", "base"]
Kind = Literal["cmunext", "unet"]

# The CNN's widths, and the depths and kernels that CMUNeXt has besides. "tiny" and "small" are for a minute or two of
# two cores. With the shipped layer, two images of 160 x 160 pixels and one core, a step took 0.11, 0.16 and 0.41 s with
# CMUNeXt, 0.09, 0.11 and 0.28 s with U-Net in bfloat16 (base: up to 0.87 s in float32); without a layer 0.03 s less.
PRESETS: dict[Preset, dict[str, tuple[int, ...]]] = {
    "tiny": {"widths": (4, 8, 16, 32, 64), "depths": (1, 1, 1, 1, 1), "kernels": (3, 3, 7, 7, 9)},
    "small": {"widths": (8, 16, 32, 64, 128), "depths": (1, 1, 1, 1, 1), "kernels": (3, 3, 7, 7, 9)},
    "base": {"widths": (16, 32, 128, 160, 256), "depths": (1, 1, 1, 3, 1), "kernels": (3, 3, 7, 7, 7)},
}
_KINDS: dict[Kind, str] = {"cmunext": "CMUNeXt", "unet": "U-Net"}
LAYER = SHIPPED
# Longest and shortest side of the network's input in pixels.
_LONGEST, _SHORTEST = 160, 64
_STRIDE = 16

SCRATCH = FinetuneConfig(
    parts="all",
    fit=FitConfig(
        epochs=300, batch=2, lr=1e-2, weight_decay=1e-2, warmup_epochs=3, validate_every=50, ema=0.99, augment="aligned"
    ),
    seconds=105.0,
    variants=64,
    hold_back=0.0,
)
# Of a slice through the network, over all slices: about a minute of two cores.
_PASSES, _FEWEST_EPOCHS = 1500, 60
# "base" may train longer, as each of its steps takes longer.
_BASE_SECONDS = 300.0


def settings_for(slices: Corrections, preset: Preset = "small") -> FinetuneConfig:
    """Return the settings for a new model from these slices: with many of them, each is seen less often.

    Slices of stacks are never flipped, as their sides tell organs apart: on everything that was not annotated of the
    one CT tried, spleen and right kidney had Dice 0.50 and 0.64 with flips, 0.94 and 0.73 without. Images of their own
    are flipped.
    """
    epochs = max(_FEWEST_EPOCHS, round(_PASSES / max(1, len(slices))))
    augment = "strong" if all(each.alone for each in slices.slices) else "aligned"
    fit = SCRATCH.fit.model_copy(update={"epochs": epochs, "augment": augment})
    return SCRATCH.model_copy(update={"fit": fit, "seconds": _BASE_SECONDS if preset == "base" else SCRATCH.seconds})


def classes_of(names: Sequence[str]) -> tuple[ClassSpec, ...]:
    """Return classes of these names with label values from 1 on.

    Raises
    ------
    ConfigError
        If there is none, or a name comes twice.
    """
    names = [name.strip() for name in names if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ConfigError("Name at least one class, each once, such as liver,spleen.")
    colours = CLASS_COLOURS
    return tuple(ClassSpec(value=i + 1, name=name, colour=colours[i % len(colours)]) for i, name in enumerate(names))


def from_scratch(
    classes: Sequence[ClassSpec],
    slices: Corrections,
    config: FinetuneConfig | None = None,
    *,
    preset: Preset = "small",
    backbone: Kind = "cmunext",
    layer: str | LayerRef | None = LAYER,
    modality: str = "",
    name: str = "new model",
    device: str = "auto",
    **more: Any,
) -> Finetuned:
    """Train a new two-dimensional network on annotated slices; ``more`` as for ``Finetuner.train``, the rest as for
    ``untrained``.
    """
    made: dict[str, Any] = {"preset": preset, "backbone": backbone, "layer": layer, "modality": modality, "name": name}
    return untrained(classes, slices, config, **made, device=device).train(slices, **more)


def untrained(
    classes: Sequence[ClassSpec],
    slices: Corrections,
    config: FinetuneConfig | None = None,
    *,
    preset: Preset = "small",
    backbone: Kind = "cmunext",
    layer: str | LayerRef | None = LAYER,
    modality: str = "",
    name: str = "new model",
    device: str = "auto",
) -> Finetuner:
    """Return what trains a new two-dimensional network for scans like ``slices``.

    Parameters
    ----------
    classes : sequence of ClassSpec
    slices : Corrections
    config : FinetuneConfig, optional
        By default ``settings_for`` the slices.
    preset : {"tiny", "small", "base"}
        Size of the CNN.
    backbone : {"cmunext", "unet"}
        Its kind.
    layer : str, LayerRef or None
        The frozen layer, as ``frozen_layer`` takes it; None for a plain CNN.
    modality : str
        Such as "CT"; decides how intensities are mapped, where their range does not.
    name, device
        Of the checkpoint; to compute on.

    Raises
    ------
    CheckpointError
        If the layer is not at hand.
    ConfigError
        If there is no such size or backbone.
    InputError
        If there is no slice.
    """
    slices.needs_some()
    config = config or settings_for(slices, preset)
    made: dict[str, Any] = {"preset": preset, "backbone": backbone, "layer": layer}
    fresh = blank(classes, slices, **made, modality=modality, name=name, seed=config.fit.seed)
    return Finetuner(fresh, config, device, parent=False)


def blank(
    classes: Sequence[ClassSpec],
    slices: Corrections,
    *,
    preset: Preset = "small",
    backbone: Kind = "cmunext",
    layer: str | LayerRef | None = LAYER,
    modality: str = "",
    name: str = "new model",
    seed: int = 0,
) -> Checkpoint:
    """Return an untrained checkpoint made for scans like ``slices``; parameters as for ``from_scratch``."""
    check_choices(preset, backbone)
    preprocess = preprocessing(slices, modality)
    ref = frozen_layer(layer)
    sizes: dict[str, Any] = dict(PRESETS[preset])
    model = ModelConfig(
        backbone=BackboneConfig(kind=backbone, in_channels=preprocess.n_channels, **sizes),
        block=None if ref is None else block_with(ref),
        classes=tuple(classes),
        head="sigmoid" if len(classes) == 1 else "softmax",
    )
    made = in_words(preset, backbone, ref)
    torch.manual_seed(seed)
    card = Card(
        name=name,
        modality=modality or ("CT" if preprocess.intensity == "window" else "unknown"),
        task=", ".join(spec.name for spec in classes),
        training_data=f"{len(slices)} slices annotated by the person who trained it, {made}",
        restrictions="Research use. Not a medical device. Trained on a handful of slices.",
        training={
            "new": {"words": made, "size": preset, "backbone": backbone, "layer": ref.model_dump() if ref else None}
        },
    )
    config = CheckpointConfig(
        model=model, preprocess=preprocess, predict=PredictConfig(min_area=smallest(classes, slices)), card=card
    )
    return Checkpoint(config, dict(build_network(model).trained_tensors()))


def check_choices(preset: str, backbone: str) -> None:
    """Raise ConfigError where there is no such size or backbone for a new model."""
    for what, given, names in (("size", preset, get_args(Preset)), ("backbone", backbone, get_args(Kind))):
        if given not in names:
            raise ConfigError(f"A new model's {what} was '{given[:40]}'; choose from {', '.join(names)}.")


def frozen_layer(layer: str | LayerRef | None) -> LayerRef | None:
    """Return which frozen layer is meant.

    Parameters
    ----------
    layer : str, LayerRef or None
        "none" or None: no language-model block at all. "random": frozen random weights of the shipped layer's shape,
        the control. Else as ``models.inventory.resolve_layer`` takes it. With ":INDEX" where it is not the usual layer,
        or seed.

    Raises
    ------
    CheckpointError
        If the layer is not at hand.
    """
    if layer is None or isinstance(layer, LayerRef):
        return layer
    if layer == "none":
        return None
    name, _, index = layer.rpartition(":")
    if not index.isdecimal():
        name, index = layer, ""
    name = RANDOM + LAYER if name == "random" else name
    if parse_source(name).kind == "local" and not Path(name).exists():
        raise CheckpointError(
            f"There is no frozen layer '{layer[:80]}'. Give none, random or a language model. {known()}"
        )
    return resolve_layer(name, int(index) if index else None)


def block_with(ref: LayerRef) -> BlockConfig:
    """Return the block around a frozen layer that new models have.

    Raises
    ------
    CheckpointError
        If the layer is not at hand.
    """
    width = layer_width(ref)
    if width is None:
        raise CheckpointError(f"Layer {ref.index} of {name_of(ref)} is not at hand any more; choose another one.")
    return BlockConfig(layers=(ref,), hidden=width, mask="full", gate="residual", norm=True)


def in_words(preset: Preset, backbone: Kind, ref: LayerRef | None) -> str:
    """Return what a new model was made of: "small CMUNeXt with frozen layer 14 of smollm2-135m"."""
    with_what = "without a language-model layer"
    if ref is not None and ref.repository.startswith("random/"):
        with_what = f"with a frozen random layer of {ref.repository.removeprefix('random/')}'s shape (seed {ref.index})"
    elif ref is not None:
        with_what = f"with frozen layer {ref.index} of {name_of(ref)}"
    return f"{preset} {_KINDS[backbone]} {with_what}"


def smallest(classes: Sequence[ClassSpec], slices: Corrections) -> float:
    """Return the part of a slice below which islands are dropped: a quarter of the smallest annotated, 1 % at most."""
    parts = []
    for each in slices.slices:
        truth = each.truth(classes)
        parts += [float((truth == spec.value).mean()) for spec in classes if (truth == spec.value).any()]
    return round(min(0.01, min(parts) / 4), 6) if parts else 0.0


def preprocessing(slices: Corrections, modality: str = "") -> PreprocessConfig:
    """Return the preprocessing that fits the slices: CT by its window, 8-bit pictures as they are, else percentiles."""
    first = slices.slices[0].image
    colour = first.shape[0] >= 3
    lowest = float(min(each.image.min() for each in slices.slices))
    fields: dict[str, Any] = {"intensity": "percentile"}
    if not colour and is_ct(modality, lowest):
        fields = {"intensity": "window", "window": CT_WINDOWS[DEFAULT_CT].limits}
    elif first.dtype == np.uint8:
        fields = {"intensity": "uint8"}
    n = 3 if colour else 1
    fields |= {"channels": "rgb" if colour else "grey", "size": input_size(slices)}
    plain = PreprocessConfig.model_validate(fields | {"mean": (0.0,) * n, "sd": (1.0,) * n})
    values = np.stack([Preprocessor(plain).apply(each.volume, [0])[0][0].numpy() for each in slices.slices])
    mean = tuple(round(float(values[:, c].mean()), 3) for c in range(n))
    sd = tuple(max(0.05, round(float(values[:, c].std()), 3)) for c in range(n))
    return PreprocessConfig.model_validate(fields | {"mean": mean, "sd": sd})


def input_size(slices: Corrections) -> tuple[int, int]:
    """Return the network's (height, width): the slices' median one, on multiples of 16 within what two cores bear."""
    height = float(np.median([each.image.shape[1] for each in slices.slices]))
    width = float(np.median([each.image.shape[2] for each in slices.slices]))
    scale = min(1.0, _LONGEST / max(height, width))
    sides = [max(_SHORTEST, _STRIDE * math.ceil(round(side * scale, 3) / _STRIDE)) for side in (height, width)]
    return sides[0], sides[1]
