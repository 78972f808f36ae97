"""Configuration of models, preprocessing, prediction and fitting: one source for GUI, command line and YAML.

Everything here is immutable, checked on entry and written as JSON into checkpoints, so a field is only ever added
with a default, never renamed.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from napari_llm4seg.errors import ConfigError
from napari_llm4seg.windows import limits_of_name

Colour = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")]
Positions = Literal["none", "own", "axial", "paper"]
MaskKind = Literal["causal", "full"]
Parts = Literal["adapters", "adapters+decoder", "all"]
Plane = Literal["stored", "axial", "coronal", "sagittal"]

# Okabe-Ito, the colour-blind-safe palette; yellow last because it vanishes on bright ultrasound.
CLASS_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#F0E442")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class Grown(_Frozen):
    """A config that got fields after checkpoints of it were written.

    Those named in ``later`` are left out of the JSON while they hold their defaults, so that an old checkpoint keeps
    its digest and an older program can read a new one that uses none of them.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _leave_defaults_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        unused = {name for name in self.later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in values.items() if name not in unused}


class ClassSpec(_Frozen):
    """One structure a model segments: its label value (1-based), name and "#RRGGBB" colour."""

    value: int = Field(ge=1, le=65535)
    name: str = Field(min_length=1, max_length=80)
    colour: Colour = CLASS_COLOURS[0]


class BackboneConfig(Grown):
    """CNN encoder-decoder.

    ``widths`` are the channels after each encoder stage; every stage after the first halves the image.
    ``depths`` and ``kernels`` are CMUNeXt's (blocks per stage, depthwise kernel size); the others ignore them.
    DynUNet takes strides and kernels for every stage and axis, (y, x) or (z, y, x), from ``axis_strides`` (1 or 2; the
    first stage's are 1) and ``axis_kernels`` (odd); without them each stage after the first halves every axis and
    kernels are 3 wide. ``deep_supervision`` gives its decoder further heads while it trains, as nnU-Net does: at every
    stage but the lowest.
    """

    later: ClassVar[frozenset[str]] = frozenset({"axis_strides", "axis_kernels", "deep_supervision"})

    kind: Literal["cmunext", "unet", "dynunet"] = "cmunext"
    in_channels: int = Field(default=1, ge=1, le=16)
    spatial_dims: Literal[2, 3] = 2
    widths: tuple[int, ...] = (16, 32, 128, 160, 256)
    depths: tuple[int, ...] = (1, 1, 1, 3, 1)
    kernels: tuple[int, ...] = (3, 3, 7, 7, 7)
    axis_strides: tuple[tuple[int, ...], ...] | None = None
    axis_kernels: tuple[tuple[int, ...], ...] | None = None
    deep_supervision: bool = False

    @model_validator(mode="after")
    def _same_stages(self) -> BackboneConfig:
        if not 2 <= len(self.widths) <= 8 or any(width < 1 or width > 4096 for width in self.widths):
            raise ValueError("widths: needs two to eight stages of 1 to 4096 channels each")
        if self.kind == "cmunext":
            if not len(self.widths) == len(self.depths) == len(self.kernels):
                raise ValueError("widths, depths and kernels need one entry per stage")
            if any(kernel % 2 == 0 or not 1 <= kernel <= 31 for kernel in self.kernels):
                raise ValueError("kernels: needs odd sizes from 1 to 31")
            if any(not 1 <= depth <= 64 for depth in self.depths):
                raise ValueError("depths: needs 1 to 64 blocks per stage")
            if self.spatial_dims != 2:
                raise ValueError("cmunext is two-dimensional; use unet or dynunet for volumes")
        return self

    @model_validator(mode="after")
    def _dynunet(self) -> BackboneConfig:
        if self.kind != "dynunet":
            if self.axis_strides is not None or self.axis_kernels is not None or self.deep_supervision:
                raise ValueError(f"axis_strides, axis_kernels and deep_supervision are dynunet's; {self.kind} has none")
            return self
        if len(self.widths) < 3:
            raise ValueError("widths: dynunet needs at least three stages")
        for name, stages in (("axis_strides", self.axis_strides), ("axis_kernels", self.axis_kernels)):
            shape = (len(self.widths), self.spatial_dims)
            if stages is not None and (len(stages), *{len(axes) for axes in stages}) != shape:
                raise ValueError(f"{name}: needs one entry per stage, each of {self.spatial_dims} numbers")
        strides = self.stage_strides()
        if set(strides[0]) != {1} or any(stride not in (1, 2) for axes in strides for stride in axes):
            raise ValueError("axis_strides: needs 1 for every axis of the first stage, then 1 or 2")
        if any(kernel % 2 == 0 or not 1 <= kernel <= 31 for axes in self.axis_kernels or () for kernel in axes):
            raise ValueError("axis_kernels: needs odd sizes from 1 to 31")
        if self.deep_supervision and len(self.widths) < 4:
            raise ValueError("deep_supervision: needs at least four stages, for the lowest decoder stage has no head")
        return self

    def stage_strides(self) -> tuple[tuple[int, ...], ...]:
        """Return the stride of every stage along every axis, (y, x) or (z, y, x)."""
        if self.axis_strides is not None:
            return self.axis_strides
        return tuple((2 if stage else 1,) * self.spatial_dims for stage in range(len(self.widths)))


class LayerRef(_Frozen):
    """A frozen decoder layer by where it comes from and what its file digests to."""

    repository: str = Field(min_length=1)
    revision: str = "main"
    index: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class BlockConfig(_Frozen):
    """The language-model block at the bottleneck.

    ``hidden`` is the width of its tokens: the language model's. ``layers`` empty means adapters only; the default
    width is that of SmolLM2, so that this control has the same trainable weights. ``frozen`` False trains the layer
    too (the published "(T)" variants). ``gate`` "residual" adds the block to its input through a scalar that starts
    at 0; "none" is as published. ``norm`` puts a layer normalisation before the first adapter.
    """

    layers: tuple[LayerRef, ...] = Field(default=(), max_length=32)
    hidden: int = Field(default=576, ge=1, le=1 << 16)
    positions: Positions = "own"
    mask: MaskKind = "causal"
    gate: Literal["none", "residual"] = "none"
    norm: bool = False
    frozen: bool = True


class ModelConfig(_Frozen):
    """A whole network. ``head`` "sigmoid": one channel per class; "softmax": background first, then the classes."""

    backbone: BackboneConfig = BackboneConfig()
    block: BlockConfig | None = None
    classes: tuple[ClassSpec, ...] = (ClassSpec(value=1, name="lesion"),)
    head: Literal["sigmoid", "softmax"] = "sigmoid"
    preset: str = "default"

    @property
    def out_channels(self) -> int:
        return len(self.classes) + (self.head == "softmax")

    @model_validator(mode="after")
    def _distinct(self) -> ModelConfig:
        if not self.classes:
            raise ValueError("classes: needs at least one")
        if len({spec.value for spec in self.classes}) != len(self.classes):
            raise ValueError("classes: every class needs its own label value")
        return self


class PreprocessConfig(Grown):
    """From a slice, or a volume, to the network's input.

    ``size`` is the network's (height, width) for whole-image prediction and the patch for tiles.
    ``intensity`` maps each slice to [0, 1]: "minmax"; "percentile" (0.5 and 99.5); "uint8" divides 8-bit values by
    255, leaves [0, 1] as it is and falls back to min-max for wider ranges; "window" clips to ``window`` (low, high)
    in the scan's own values, or of the name of a CT window (``napari_llm4seg.windows``; its numbers are kept). Then
    ``mean`` and ``sd`` per channel, then a division by ``divide``.
    ``resize``: "stretch" fills the square as the published code does; "pad" keeps the aspect ratio.
    ``antialias`` smooths while shrinking.

    A three-dimensional network takes ``patch`` (depth, height, width) in voxels instead of ``size``, from a volume that
    was turned upright, resampled to ``spacing`` (z, y, x) in mm where that is given, and mapped by ``intensity`` as a
    whole. There, "zscore" subtracts the volume's mean and divides by its standard deviation.
    """

    later: ClassVar[frozenset[str]] = frozenset({"patch", "spacing"})

    size: tuple[int, int] = (256, 256)
    channels: Literal["grey", "rgb", "bgr"] = "grey"
    intensity: Literal["minmax", "percentile", "uint8", "window", "zscore"] = "uint8"
    window: tuple[float, float] | None = None
    mean: tuple[float, ...] = (0.5,)
    sd: tuple[float, ...] = (0.25,)
    divide: float = Field(default=1.0, gt=0)
    resize: Literal["stretch", "pad"] = "stretch"
    antialias: bool = True
    patch: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None

    @field_validator("window", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return limits_of_name(value) if isinstance(value, str) else value

    @property
    def n_channels(self) -> int:
        return 1 if self.channels == "grey" else 3

    @model_validator(mode="after")
    def _consistent(self) -> PreprocessConfig:
        if any(not 8 <= side <= 8192 for side in self.size):
            raise ValueError("size: needs a height and width of 8 to 8192 pixels")
        if len(self.mean) != self.n_channels or len(self.sd) != self.n_channels or min(self.sd) <= 0:
            raise ValueError(f"mean and sd: need {self.n_channels} values for {self.channels}, sd above 0")
        if (self.intensity == "window") != (self.window is not None):
            raise ValueError("window: needed with intensity 'window', and only there")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError("window: its low value must lie below its high value")
        return self

    @model_validator(mode="after")
    def _volumetric(self) -> PreprocessConfig:
        if self.patch is None:
            if self.spacing is not None:
                raise ValueError("spacing: is for three-dimensional networks, which need a patch too")
            if self.intensity == "zscore":
                raise ValueError("intensity: zscore is for three-dimensional networks, which need a patch too")
            return self
        if any(not 4 <= side <= 1024 for side in self.patch):
            raise ValueError("patch: needs a depth, height and width of 4 to 1024 voxels")
        if self.spacing is not None and any(not 1e-6 <= step <= 1000 for step in self.spacing):
            raise ValueError("spacing: needs three steps (z, y, x) in mm, each from 1e-6 to 1000")
        return self


class PredictConfig(Grown):
    """How a trained network is run over a scan.

    ``mode`` "whole" resizes each slice to the network's size; "tiles" runs overlapping patches at the scan's own
    resolution (``overlap`` as a fraction of the patch) blended with Gaussian weights; volumes always run in such
    patches, whatever the mode. ``flips`` averages the left-right mirrored slice or volume too, at twice the time.
    ``threshold`` applies to sigmoid heads. Islands below ``min_area`` (fraction of the slice's pixels or the volume's
    voxels) are dropped. ``largest`` keeps, once all slices are done, only the largest connected piece of every class in
    the whole scan; slices that are handed out before have them all. ``axis`` is how a two-dimensional network's slices
    are cut: as they are "stored" (the scan's first axis), or "axial", "coronal" or "sagittal" by the scan's affine
    (``napari_llm4seg.planes``).
    """

    later: ClassVar[frozenset[str]] = frozenset({"axis", "largest"})

    mode: Literal["whole", "tiles"] = "whole"
    overlap: float = Field(default=0.5, ge=0, lt=0.95)
    batch: int = Field(default=4, ge=1, le=256)
    threshold: float = Field(default=0.5, gt=0, lt=1)
    min_area: float = Field(default=0.0, ge=0, lt=1)
    flips: bool = False
    folded: bool = True
    axis: Plane = "stored"
    largest: bool = False


class FitConfig(Grown):
    """One training run; the meaning of each field is that of the optimisers and schedules in torch.

    ``batch`` is that of an optimiser step, over all processes. ``precision`` "bf16" and "fp16" are mixed; fp16 scales
    the loss and needs CUDA. ``ema`` is the decay of a moving average of the weights. ``patience`` ends the run when
    that many epochs went by without a better validation. ``patches_per_volume`` are those of each volume in one epoch;
    images come once. ``seconds`` ends the run that long after its first step, the schedule falling with the time gone
    where that is further on than the epochs; what comes out then depends on the machine's speed.
    """

    later: ClassVar[frozenset[str]] = frozenset({"patience", "patches_per_volume", "seconds"})

    epochs: int = Field(default=100, ge=1)
    batch: int = Field(default=8, ge=1)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-2, ge=0)
    schedule: Literal["poly", "cosine", "constant"] = "cosine"
    warmup_epochs: float = Field(default=2, ge=0)
    clip: float | None = Field(default=1.0, gt=0)
    precision: Literal["32", "bf16", "fp16"] = "32"
    bce_weight: float = Field(default=0.5, ge=0)
    dice_weight: float = Field(default=1.0, ge=0)
    dice_batch: bool = True
    ema: float | None = Field(default=None, gt=0, lt=1)
    augment: Literal["none", "paper", "strong", "aligned"] = "strong"
    validate_every: int = Field(default=1, ge=1)
    patience: int | None = Field(default=None, ge=1)
    patches_per_volume: int = Field(default=1, ge=1, le=1000)
    seconds: float | None = Field(default=None, gt=0)
    seed: int = 0


class FinetuneConfig(Grown):
    """Training on a person's corrections.

    ``parts`` is what trains, see ``LLM4SegNet.train_only``. ``fit.epochs`` counts passes over the corrected slices,
    each time in the next of ``variants`` fixed augmented variants; ``seconds`` is the time for it all, judging before
    and after included: training ends when what is left is needed for that, with the best weights so far. ``replay``
    earlier corrections come for each new one. ``hold_back`` is the fraction of corrected slices that never train and
    judge the result; slices within ``gap`` of them do neither. ``cache_mb`` is the room for a frozen encoder's
    features. With these ``window`` is the part of each side that is decoded in a step, drawn around what is annotated;
    a half takes a quarter of the time. ``mixed`` computes in bfloat16 where the device has it and the network is
    two-dimensional, whatever ``fit.precision`` says: twice as fast, and the losses differ in the fourth digit.
    """

    parts: Parts = "adapters+decoder"
    fit: FitConfig = FitConfig(
        epochs=40, batch=5, lr=3e-4, schedule="constant", warmup_epochs=1, weight_decay=1e-4, validate_every=4
    )
    seconds: float | None = Field(default=15.0, gt=0)
    variants: int = Field(default=8, ge=1, le=64)
    replay: float = Field(default=0.5, ge=0, le=10)
    hold_back: float = Field(default=0.2, ge=0, lt=1)
    gap: int = Field(default=1, ge=0, le=100)
    cache_mb: float = Field(default=768, ge=0)
    window: float = Field(default=0.5, gt=0, le=1)
    mixed: bool = True

    @classmethod
    def quick(cls, parts: Parts = "adapters+decoder") -> FinetuneConfig:
        """Return the settings for a person who waits: for ``parts`` as long as two cores need to learn something."""
        return cls(parts=parts, seconds={"adapters": 7.0, "adapters+decoder": 15.0, "all": 45.0}[parts])


class Card(_Frozen):
    """What a person must know before trusting a checkpoint. ``scores`` hold measured figures and how they came."""

    name: str
    modality: str = "unknown"
    task: str = ""
    training_data: str = ""
    licence: str = ""
    restrictions: str = ""
    cite: str = ""
    scores: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)


class CheckpointConfig(_Frozen):
    """``config.json`` of a checkpoint."""

    format: Literal["napari-llm4seg/1"] = "napari-llm4seg/1"
    model: ModelConfig
    preprocess: PreprocessConfig
    predict: PredictConfig = PredictConfig()
    card: Card

    @model_validator(mode="after")
    def _channels_agree(self) -> CheckpointConfig:
        needed = self.model.backbone.in_channels
        if self.preprocess.n_channels != needed:
            raise ValueError(
                f"preprocess gives {self.preprocess.n_channels} channel(s) but the backbone takes {needed}"
            )
        if (self.preprocess.patch is not None) != (self.model.backbone.spatial_dims == 3):
            raise ValueError("preprocess.patch: needed with a three-dimensional backbone, and only there")
        return self


def explain(error: ValidationError, what: str) -> ConfigError:
    """Turn a pydantic error into one line: which field, what came, what is needed."""
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ConfigError(f"{what}: {explain_all(error)[0]}{more}.")


def explain_all(error: ValidationError, model: type[BaseModel] | None = None) -> list[str]:
    """Turn a pydantic error into a line, without a full stop, per objection.

    Parameters
    ----------
    error : ValidationError
    model : type of BaseModel, optional
        What was validated: with it a wrong key is answered with the nearest right one.
    """
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "it"
        value = item.get("input")
        # a container's own text may be long, or nested too deeply to be written out
        came = f"a {type(value).__name__}" if isinstance(value, (dict, list, tuple)) else repr(str(value)[:60])
        # the names come from the file: whatever they hold, the message stays one printable line
        text = f"{_printable(where)[:120]}: {_printable(item['msg'])[:200]}, got {came}"
        if item["type"] == "extra_forbidden" and model is not None:
            text = f"{_printable(where)[:120]}: there is no such setting{_instead(model, item['loc'])}"
        lines.append(text)
    return lines


def _instead(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Return the words that name the nearest right key, or all where none is near."""
    known: list[Any] = [model]
    for part in loc[:-1]:
        if isinstance(part, str):
            fields = [each.model_fields[part].annotation for each in known if part in each.model_fields]
            known = [each for field in fields for each in _models_in(field)]
    names = sorted({name for each in known for name in each.model_fields})
    near = difflib.get_close_matches(str(loc[-1]), names, 1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(names)}"


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a field's annotation speaks of, also inside unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [each for part in get_args(annotation) for each in _models_in(part)]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
