"""Frozen random layers of a language model's shape, the control for what its pre-training is worth."""

from __future__ import annotations

from napari_llm4seg.config import LayerRef
from napari_llm4seg.errors import CheckpointError
from napari_llm4seg.models.inventory import find_layer, layer_cache, one_at_a_time
from napari_llm4seg.models.llm_layer import LLMLayer
from napari_llm4seg.models.packs import LayerPack, write_pack
from napari_llm4seg.models.registry import LANGUAGE_MODELS, RANDOM, Source, known
from napari_llm4seg.models.spec import LayerSpec


def random_pack(name: str, seed: int) -> LayerRef:
    """Return what refers to a frozen random layer of a registry's language model, made where it is not at hand.

    Weights are Xavier-uniform, as in the published control, from torch's CPU generator at ``seed``, which gives the
    same ones on every machine. Its repository is "random/NAME", its revision "seed-N", its index N: several in a row
    differ by their seeds.

    Parameters
    ----------
    name : str
        Of the registry.
    seed : int
        0 or above.

    Raises
    ------
    CheckpointError
        Where the registry has no such model.
    """
    model = LANGUAGE_MODELS.get(name)
    if model is None:
        raise CheckpointError(f"There is no language model {name[:80]!r} for '{RANDOM}'. {known()}")
    if seed < 0:
        raise CheckpointError(f"The seed of a random layer was {seed}; it needs 0 or above.")
    source = Source(RANDOM + name, "random", f"random/{name}", revision=f"seed-{seed}", model=model)
    found = find_layer(source, seed)
    return found.ref if found is not None else make_random_pack(name, seed).ref


def make_random_pack(name: str, seed: int) -> LayerPack:
    """Make the pack that ``random_pack`` speaks of, in place of what may be there."""
    model = LANGUAGE_MODELS[name]
    layer = LLMLayer.random(LayerSpec.from_config(model.config), seed)
    with one_at_a_time(f"random-{name}-seed-{seed}"):
        return write_pack(
            layer_cache() / f"random-{name}-seed-{seed}",
            layer.state_dict(),
            model.config,
            repository=f"random/{name}",
            revision=f"seed-{seed}",
            index=seed,
            licence="none needed",
            note=f"Random control of {name}'s shape: Xavier-uniform weights, zero biases, unit gains, seed {seed}.",
        )
