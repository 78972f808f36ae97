"""The plan of the study: which cases, methods, ways of choosing slices and steps, as data in one YAML file.

::

    title: ...
    cases:
      liver: {image: ct.nii.gz, mask: labels.nii.gz, values: {liver: 5}}         # below LLM4SEG_DATA
      hippocampus: {recipe: ../recipes/hippocampus_mri.yaml, number: 0}           # a volume of the recipe's part
      breast: {recipe: ../recipes/breast_ultrasound.yaml, stratum: malignant}     # all its images of that stratum
    methods:
      scratch: {kind: scratch, label: from scratch, preset: tiny, passes: 500, fit: {lr: 0.01}}
      starter: {kind: finetune, label: fine-tuned, model: hippocampus-mri}
      forest: {kind: forest, label: random forest}
    blocks:                                                                       # run in this order
      - {cases: [liver], methods: [scratch], choices: [suggested, uniform], steps: [1, 3, 5], seeds: [0]}

A *cell* is one training: a case, a method, a way of choosing, a seed and a number of corrected slices.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_llm4seg.config import Grown, explain
from napari_llm4seg.errors import ConfigError, one_line

Choice = Literal["suggested", "uniform", "random", "organ"]
NAME = r"^[a-z0-9][a-z0-9_.-]{0,60}$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class CaseConfig(_Frozen):
    """A scan with its label values by class name; or part of a recipe's cases.

    Of a recipe it is volume ``number`` of ``part`` (sorted by name), or all images of ``stratum`` as one set. The
    recipe's locked test part cannot be named.
    """

    image: str | None = None
    mask: str | None = None
    values: dict[str, int] = Field(default_factory=dict)
    recipe: Path | None = None
    part: Literal["train", "val"] = "val"
    number: int | None = Field(default=None, ge=0)
    stratum: str | None = None
    modality: str = ""

    @model_validator(mode="after")
    def _either(self) -> CaseConfig:
        if (self.recipe is None) == (self.image is None):
            raise ValueError("needs either a recipe, or an image with its mask and values")
        if self.image is not None and (self.mask is None or not self.values):
            raise ValueError("image: needs a mask and the values of its classes")
        if self.recipe is not None and (self.number is None) == (self.stratum is None):
            raise ValueError("recipe: needs either the number of a volume or the stratum of a set of images")
        return self


class MethodConfig(Grown):
    """How masks are learnt from corrected slices.

    ``passes`` is how often a slice is shown to the network in all, whatever their number: it sets the epochs, so that
    a result does not depend on how busy the machine is. Without it the method's own epochs count. ``fit`` and ``more``
    change fields of its ``FitConfig`` and ``FinetuneConfig``. ``block`` false takes the language model's block out. Of
    suggested slices it learns from those that the method it ``follows`` came to, so that both learn from the same ones.
    ``suggest`` changes the suggestion's ``Weights``. ``check`` has a fine-tuning cross-checked, too.
    """

    # rows that were made before keep their digest
    later: ClassVar[frozenset[str]] = frozenset({"check"})

    kind: Literal["scratch", "finetune", "forest"]
    label: str = Field(min_length=1, max_length=80)
    model: str | None = None
    block: bool = True
    preset: Literal["tiny", "small", "base"] = "small"
    passes: int | None = Field(default=None, ge=1)
    follows: str | None = None
    suggest: dict[str, Any] = Field(default_factory=dict)
    check: bool = False
    fit: dict[str, Any] = Field(default_factory=dict)
    more: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _starter(self) -> MethodConfig:
        if (self.kind == "finetune") != (self.model is not None):
            raise ValueError("model: fine-tuning needs the checkpoint it begins from, other kinds have none")
        return self


class BlockConfig(_Frozen):
    """Cells that belong together: every combination of what it lists."""

    cases: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    choices: tuple[Choice, ...] = Field(min_length=1)
    steps: tuple[int, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = (0,)

    @model_validator(mode="after")
    def _rising(self) -> BlockConfig:
        if list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1:
            raise ValueError("steps: needs rising numbers of slices from 1 on")
        return self


@dataclass(frozen=True)
class Session:
    """One person's work on one case: rising numbers of corrected slices, a training after each."""

    case: str
    method: str
    choice: Choice
    seed: int
    steps: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.case}/{self.method}/{self.choice}/seed{self.seed}"


class Plan(_Frozen):
    """The whole study; see the module. ``held_out`` are the cases that no choice of the suggestion's was made on."""

    title: str
    cases: dict[str, CaseConfig]
    methods: dict[str, MethodConfig]
    blocks: tuple[BlockConfig, ...]
    held_out: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> Plan:
        import re

        bad = next((name for name in (*self.cases, *self.methods) if not re.match(NAME, name)), None)
        if bad is not None:
            raise ValueError(f"'{bad[:60]}': names need small letters, digits, '-', '_' and '.' only")
        for name, method in self.methods.items():
            if method.follows is not None and method.follows not in self.methods:
                raise ValueError(f"'{name}': follows '{method.follows}', which is no method of the plan")
        for block in self.blocks:
            for names, known, what in ((block.cases, self.cases, "case"), (block.methods, self.methods, "method")):
                strange = sorted(set(names) - set(known))
                if strange:
                    raise ValueError(f"blocks: '{strange[0]}' is no {what} of the plan")
        return self

    def sessions(self) -> list[Session]:
        """Return the sessions in the plan's order, each once, with all the steps that any block asks of it."""
        steps: dict[tuple[str, str, Choice, int], set[int]] = {}
        for block in self.blocks:
            for seed in block.seeds:
                for case in block.cases:
                    for method in block.methods:
                        for choice in block.choices:
                            steps.setdefault((case, method, choice, seed), set()).update(block.steps)
        return [Session(*key, tuple(sorted(numbers))) for key, numbers in steps.items()]

    def digest(self, session: Session) -> str:
        """Return what a row is known by to be of this case and method as the plan has them."""
        settings = self.cases[session.case].model_dump_json() + self.methods[session.method].model_dump_json()
        return hashlib.sha256(settings.encode()).hexdigest()[:12]


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises
    ------
    ConfigError
        One line naming the field.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"Plan '{path}' cannot be read: {one_line(error, 160)}") from error
    try:
        return Plan.model_validate(raw)
    except ValidationError as error:
        raise explain(error, f"plan '{path.name}'") from error
