"""Recipes: a whole training run as data, in one YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_llm4seg.config import (
    Card,
    CheckpointConfig,
    FitConfig,
    ModelConfig,
    PredictConfig,
    PreprocessConfig,
    explain,
)
from napari_llm4seg.errors import ConfigError, one_line

# For ``DataConfig.group``.
NEAR_DUPLICATES = "near-duplicates"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DataConfig(_Frozen):
    """Where the pairs lie, relative to the data root (``LLM4SEG_DATA`` or ``--set data.root=...``).

    ``index`` names a CSV with a row per file; ``group`` and ``stratum`` are its columns for near-duplicates, which stay
    in one part of the split, and for the classes to balance. ``group`` "near-duplicates" needs no index: the groups are
    found by the images themselves, see ``engine.duplicates``. ``keep`` leaves out the cases of every other stratum.
    """

    root: str | None = None
    images: str
    masks: str
    index: str | None = None
    file: str = "file"
    group: str | None = None
    stratum: str | None = None
    keep: tuple[str, ...] = ()
    limit: int | None = Field(default=None, ge=6)


class SplitConfig(_Frozen):
    """Fractions of the cases; the rest trains. The test part is never used for choosing anything."""

    seed: int = 0
    val: float = Field(default=0.1, gt=0, lt=0.5)
    test: float = Field(default=0.2, gt=0, lt=0.5)


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
    """Read a recipe and apply ``key=value`` overrides.

    Parameters
    ----------
    path : Path
        YAML file.
    overrides : sequence of str
        Dotted keys, values in YAML, e.g. ``fit.epochs=2`` or ``stages=[]``.

    Raises
    ------
    ConfigError
        One line naming the field.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    # yaml makes dates of what looks like one, and fails on the 13th month with a plain ValueError
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"Recipe '{path}' cannot be read: {one_line(error, 160)}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"Recipe '{path}' holds a {type(raw).__name__}; it needs keys such as data, model, fit.")
    for text in overrides:
        _override(raw, text)
    try:
        recipe = Recipe.model_validate(raw)
        recipe.checkpoint_config(), recipe.runs()
    except ValidationError as error:
        raise explain(error, f"recipe '{path.name}'") from error
    return recipe


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
