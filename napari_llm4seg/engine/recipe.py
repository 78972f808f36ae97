"""Recipes: a whole training run as data, in one YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_llm4seg.config import (
    Card,
    CheckpointConfig,
    FitConfig,
    Grown,
    LayerRef,
    ModelConfig,
    PredictConfig,
    PreprocessConfig,
    explain,
)
from napari_llm4seg.errors import ConfigError, one_line
from napari_llm4seg.io.pairs import ANY_NAME
from napari_llm4seg.models.inventory import layer_width, resolve_layer

# For ``DataConfig.group``.
NEAR_DUPLICATES = "near-duplicates"
# The fraction of cases the published figures are made on.
PAPER_TEST = 0.3
# How many files a recipe may stand on, one upon the other.
_DEEPEST = 16


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


NamePattern = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]


class DataConfig(Grown):
    """Where the pairs lie, relative to the data root (``LLM4SEG_DATA`` or ``--set data.root=...``).

    ``index`` names a CSV with a row per file; ``group`` and ``stratum`` are its columns for near-duplicates, which stay
    in one part of the split, and for the classes to balance. ``group`` "near-duplicates" needs no index: the groups are
    found by the images themselves, see ``engine.duplicates``. ``keep`` leaves out the cases of every other stratum.
    ``image_name`` and ``mask_name`` say how the files of a pair are called where their stems differ, with ``{}`` for
    what they share, e.g. "img{}" and "label{}"; see ``io.pairs.find_pairs``.
    """

    later: ClassVar[frozenset[str]] = frozenset({"image_name", "mask_name"})

    root: str | None = None
    images: str
    masks: str
    index: str | None = None
    file: str = "file"
    group: str | None = None
    stratum: str | None = None
    keep: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=6)
    image_name: NamePattern = ANY_NAME
    mask_name: NamePattern = ANY_NAME


class SplitConfig(Grown):
    """Which cases train, choose the epoch (``val``) and are reported (``test``), as fractions; the rest trains.

    ``protocol`` "locked": by near-duplicate group and stratum, and the test part chooses nothing. "paper": at random,
    by default 70/30, and the best epoch is chosen on the very part that is reported, so ``val`` is ``test``; what
    comes out is better than it would be on new images, and is for comparison with figures made likewise.
    """

    later: ClassVar[frozenset[str]] = frozenset({"protocol"})

    protocol: Literal["locked", "paper"] = "locked"
    seed: int = 0
    val: float = Field(default=0.1, gt=0, lt=0.5)
    test: float = Field(default=0.2, gt=0, lt=0.5)

    @model_validator(mode="before")
    @classmethod
    def _reported_is_chosen(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("protocol") != "paper":
            return values
        test = values.get("test", PAPER_TEST)
        if values.get("val", test) != test:
            raise ValueError(
                "val: the protocol 'paper' chooses on the test part itself; leave val out or choose 'locked'"
            )
        return values | {"val": test, "test": test}


class StageConfig(_Frozen):
    """One ``fit``: the network's input size in pixels and the fields of ``fit`` it changes."""

    size: tuple[int, int]
    fit: dict[str, Any] = Field(default_factory=dict)


class Recipe(_Frozen):
    """A training run. ``stages`` follow one another on the same weights; without any, one at ``preprocess.size``."""

    data: DataConfig
    split: SplitConfig = SplitConfig()
    model: ModelConfig
    preprocess: PreprocessConfig
    predict: PredictConfig = PredictConfig()
    fit: FitConfig = FitConfig()
    stages: tuple[StageConfig, ...] = ()
    card: Card

    @model_validator(mode="after")
    def _trainable(self) -> Recipe:
        if self.model.backbone.spatial_dims != 2 and self.stages:
            raise ValueError("stages: change the size of slices; a volumetric recipe has its patch and no stages")
        if max(spec.value for spec in self.model.classes) >= 255:
            raise ValueError("model.classes: label values need to be below 255, which marks what was not annotated")
        return self

    def checkpoint_config(self) -> CheckpointConfig:
        """Return the config of the checkpoint this recipe makes.

        Raises
        ------
        ConfigError
            Where preprocessing and backbone do not fit together.
        """
        try:
            return CheckpointConfig(model=self.model, preprocess=self.preprocess, predict=self.predict, card=self.card)
        except ValidationError as error:
            raise explain(error, "recipe") from error

    def runs(self) -> list[tuple[PreprocessConfig, FitConfig]]:
        """Return preprocessing and fit configuration of each stage, in order."""
        if not self.stages:
            return [(self.preprocess, self.fit)]
        return [
            (
                PreprocessConfig.model_validate(self.preprocess.model_dump() | {"size": stage.size}),
                FitConfig.model_validate(self.fit.model_dump() | stage.fit),
            )
            for stage in self.stages
        ]


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, on top of those it names as its ``base``, and apply ``key=value`` overrides.

    ``base`` is a file or a list of files, relative to the recipe; later ones and the recipe itself change what earlier
    ones say, mapping by mapping. ``model.block.layers`` may name layers, ``{llm: NAME, index: 14}``, see
    ``models.inventory.resolve_layer``; the recipe returned holds what they refer to, and ``hidden`` is theirs where
    nothing else is said.

    Parameters
    ----------
    path : Path
        YAML file.
    overrides : sequence of str
        Dotted keys, values in YAML, e.g. ``fit.epochs=2`` or ``stages=[]``.

    Raises
    ------
    ConfigError
        One line naming the field or the file.
    CheckpointError
        Where a layer is not at hand, with the command that fetches it.
    """
    raw = read_raw(path, overrides)
    find_layers(raw, f"recipe '{path.name}'")
    try:
        recipe = Recipe.model_validate(raw)
        recipe.checkpoint_config(), recipe.runs()
    except ValidationError as error:
        raise explain(error, f"recipe '{path.name}'") from error
    return recipe


def read_raw(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return a recipe's settings, bases and overrides applied, before they are checked; see ``load_recipe``."""
    raw = read_settings(path)
    for text in overrides:
        _override(raw, text)
    return raw


def read_settings(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return a recipe's settings as they stand in its file, merged onto those of its bases.

    ``above`` are the files that stand on this one. Raises ConfigError as ``load_recipe`` does.
    """
    of = f", the base of '{above[-1].name}'," if above else ""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    # yaml makes dates of what looks like one, and fails on the 13th month with a plain ValueError
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"Recipe '{path}'{of} cannot be read: {one_line(error, 160)}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"Recipe '{path}'{of} holds a {type(raw).__name__}; it needs keys such as data, model, fit.")
    bases = raw.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        raise ConfigError(f"Recipe '{path}': base needs the name of another recipe's file, or a list of them.")
    merged: dict[str, Any] = {}
    for base in bases:
        below, chain = path.parent / base, (*above, path)
        if below.resolve() in {file.resolve() for file in chain}:
            names = " on ".join(file.name for file in (*chain, below))
            raise ConfigError(f"Recipe '{path}' stands on itself by its base: {names}. Take one of them out.")
        if len(chain) >= _DEEPEST:
            raise ConfigError(f"Recipe '{path}' is base {_DEEPEST} of '{chain[0].name}'; so deep nobody can follow it.")
        merged = _merge(merged, read_settings(below, chain))
    return _merge(merged, raw)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return ``below`` changed by ``above``: mappings key by key, everything else as a whole."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merge(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def find_layers(raw: dict[str, Any], what: str) -> None:
    """Put a ``LayerRef``'s fields in the place of every layer by name, and the layers' width where none is said."""
    model = raw.get("model")
    block = model.get("block") if isinstance(model, dict) else None
    layers = block.get("layers") if isinstance(block, dict) else None
    if not isinstance(block, dict) or not isinstance(layers, list) or not layers:
        return
    refs = [_by_name(layer, f"{what}: model.block.layers.{i}") for i, layer in enumerate(layers)]
    block["layers"] = refs
    named = next((ref for ref in refs if isinstance(ref, LayerRef)), None)
    width = layer_width(named) if named else None
    if width is not None:
        block.setdefault("hidden", width)


def _by_name(layer: Any, where: str) -> Any:
    """Return the layer that ``{llm: NAME, index: N}`` names; anything else as it is."""
    if not isinstance(layer, dict) or "llm" not in layer:
        return layer
    name, index = layer["llm"], layer.get("index")
    if set(layer) - {"llm", "index"} or not isinstance(name, str) or not (index is None or type(index) is int):
        raise ConfigError(
            f"{where}: needs the form {{llm: NAME, index: 14}}, or repository, revision, index and sha256."
        )
    return resolve_layer(name, index)


def _override(raw: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text!r} needs the form key=value, e.g. fit.epochs=2.")
    try:
        parsed = yaml.safe_load(value)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"--set {text[:120]!r}: the value is no YAML.") from error
    *path, last = key.split(".")
    for part in path:
        raw = raw.setdefault(part, {})
        if not isinstance(raw, dict):
            raise ConfigError(f"--set {text!r}: '{part}' is no group of settings.")
    raw[last] = parsed
