from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_llm4seg.config import (
    BackboneConfig,
    BlockConfig,
    Card,
    CheckpointConfig,
    ClassSpec,
    FitConfig,
    LayerRef,
    ModelConfig,
    PredictConfig,
    PreprocessConfig,
    explain,
)

text = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=20)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def configs(draw: st.DrawFn) -> CheckpointConfig:
    stages = draw(st.integers(2, 8))
    kind = draw(st.sampled_from(["cmunext", "unet"] + ["dynunet"] * (stages > 3)))
    dims = 2 if kind == "cmunext" else draw(st.sampled_from([2, 3]))
    backbone = {
        "kind": kind,
        "in_channels": draw(st.sampled_from([1, 3])),
        "spatial_dims": dims,
        "widths": draw(st.lists(st.integers(1, 4096), min_size=stages, max_size=stages)),
        "depths": draw(st.lists(st.integers(1, 64), min_size=stages, max_size=stages)),
        "kernels": draw(st.lists(st.sampled_from([1, 3, 7, 31]), min_size=stages, max_size=stages)),
    }
    if kind == "dynunet":
        axes = st.lists(st.sampled_from([1, 2]), min_size=dims, max_size=dims)
        strides = draw(st.lists(axes, min_size=stages - 1, max_size=stages - 1))
        backbone["axis_strides"] = draw(st.none() | st.just([[1] * dims, *strides]))
        backbone["deep_supervision"] = draw(st.booleans())
    values = draw(st.lists(st.integers(1, 65535), min_size=1, max_size=4, unique=True))
    refs = st.builds(LayerRef, repository=text, revision=text, index=st.integers(0, 99), sha256=hexes)
    block = st.builds(
        BlockConfig,
        layers=st.lists(refs, max_size=3).map(tuple),
        hidden=st.integers(1, 1 << 16),
        positions=st.sampled_from(["none", "own", "axial", "paper"]),
        mask=st.sampled_from(["causal", "full"]),
        gate=st.sampled_from(["none", "residual"]),
        norm=st.booleans(),
        frozen=st.booleans(),
    )
    channels = 1 if backbone["in_channels"] == 1 else 3
    number = st.floats(-1e6, 1e6)
    return CheckpointConfig(
        model=ModelConfig(
            backbone=BackboneConfig.model_validate(backbone),
            block=draw(st.none() | block),
            classes=tuple(ClassSpec(value=value, name=draw(text)) for value in values),
            head=draw(st.sampled_from(["sigmoid", "softmax"])),
        ),
        preprocess=PreprocessConfig(
            size=(draw(st.integers(8, 8192)), draw(st.integers(8, 8192))),
            channels="grey" if channels == 1 else draw(st.sampled_from(["rgb", "bgr"])),
            mean=tuple(draw(st.lists(number, min_size=channels, max_size=channels))),
            sd=tuple(draw(st.lists(st.floats(1e-3, 1e3), min_size=channels, max_size=channels))),
            divide=draw(st.floats(1e-3, 1e3)),
            patch=None if dims == 2 else draw(st.tuples(*[st.integers(4, 1024)] * 3)),
            spacing=None if dims == 2 else draw(st.none() | st.tuples(*[st.floats(0.1, 10)] * 3)),
        ),
        predict=PredictConfig(overlap=draw(st.floats(0, 0.9)), threshold=draw(st.floats(0.01, 0.99))),
        card=Card(name=draw(text), scores={draw(text): draw(number)}),
    )


@given(configs())
def test_json_round_trip(config: CheckpointConfig) -> None:
    for indent in (None, 2):
        assert CheckpointConfig.model_validate_json(config.model_dump_json(indent=indent)) == config
    assert CheckpointConfig.model_validate(json.loads(config.model_dump_json())) == config


def test_a_config_of_the_first_version_keeps_loading() -> None:
    """What checkpoints in the world hold: fields may join, none may be renamed or dropped."""
    stored = {
        "format": "napari-llm4seg/1",
        "model": {
            "backbone": {
                "kind": "cmunext",
                "in_channels": 1,
                "spatial_dims": 2,
                "widths": [16, 32, 128, 160, 256],
                "depths": [1, 1, 1, 3, 1],
                "kernels": [3, 3, 7, 7, 7],
            },
            "block": {
                "layers": [{"repository": "a/b", "revision": "main", "index": 14, "sha256": "0" * 64}],
                "hidden": 576,
                "positions": "own",
                "mask": "causal",
                "gate": "none",
                "norm": False,
                "frozen": True,
            },
            "classes": [{"value": 1, "name": "lesion", "colour": "#E69F00"}],
            "head": "sigmoid",
            "preset": "default",
        },
        "preprocess": {
            "size": [256, 256],
            "channels": "grey",
            "intensity": "uint8",
            "window": None,
            "mean": [0.33],
            "sd": [0.22],
            "divide": 1.0,
            "resize": "stretch",
            "antialias": True,
        },
        "predict": {
            "mode": "whole",
            "overlap": 0.5,
            "batch": 4,
            "threshold": 0.5,
            "min_area": 0.0,
            "flips": True,
            "folded": True,
        },
        "card": {
            "name": "breast-ultrasound",
            "modality": "ultrasound",
            "task": "lesion",
            "training_data": "",
            "licence": "",
            "restrictions": "",
            "cite": "",
            "scores": {},
            "training": {},
        },
    }
    config = CheckpointConfig.model_validate(stored)
    dumped = json.loads(config.model_dump_json())
    for part in ("model", "preprocess", "predict", "card"):
        assert stored[part].items() <= dumped[part].items()


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (BackboneConfig, {"widths": [4]}, "two to eight stages"),
        (BackboneConfig, {"widths": [4] * 9, "depths": [1] * 9, "kernels": [3] * 9}, "two to eight stages"),
        (BackboneConfig, {"widths": [4, 5000], "depths": [1, 1], "kernels": [3, 3]}, "1 to 4096"),
        (BackboneConfig, {"widths": [4, 8]}, "one entry per stage"),
        (BackboneConfig, {"widths": [4, 8], "depths": [1, 1], "kernels": [3, 4]}, "odd sizes"),
        (BackboneConfig, {"widths": [4, 8], "depths": [1, 65], "kernels": [3, 3]}, "1 to 64 blocks"),
        (BackboneConfig, {"spatial_dims": 3}, "use unet or dynunet for volumes"),
        (BackboneConfig, {"kind": "unet", "deep_supervision": True}, "unet has none"),
        (BackboneConfig, {"kind": "dynunet", "widths": [4, 8]}, "at least three stages"),
        (BackboneConfig, {"kind": "dynunet", "widths": [4, 8, 9], "deep_supervision": True}, "at least four stages"),
        (BackboneConfig, {"kind": "dynunet", "widths": [4, 8, 9], "axis_strides": [[1, 1]] * 2}, "one entry per stage"),
        (BackboneConfig, {"kind": "dynunet", "widths": [4, 8, 9], "axis_strides": [[1]] * 3}, "each of 2 numbers"),
        (BackboneConfig, {"kind": "dynunet", "widths": [4, 8, 9], "axis_strides": [[2, 2]] * 3}, "the first stage"),
        (BackboneConfig, {"kind": "dynunet", "widths": [4, 8, 9], "axis_kernels": [[3, 2]] * 3}, "odd sizes"),
        (BackboneConfig, {"kind": "vit"}, "cmunext"),
        (BlockConfig, {"layers": [{"repository": "a", "index": 0, "sha256": "0" * 64}] * 33}, "at most 32"),
        (LayerRef, {"repository": "", "index": 0, "sha256": "0" * 64}, "at least 1 character"),
        (LayerRef, {"repository": "a", "index": -1, "sha256": "0" * 64}, "greater than or equal to 0"),
        (ClassSpec, {"value": 0, "name": "background"}, "greater than or equal to 1"),
        (ClassSpec, {"value": 1, "name": "a", "colour": "red"}, "pattern"),
        (ModelConfig, {"classes": []}, "at least one"),
        (ModelConfig, {"classes": [{"value": 1, "name": "a"}, {"value": 1, "name": "b"}]}, "its own label value"),
        (PreprocessConfig, {"size": [4, 256]}, "8 to 8192 pixels"),
        (PreprocessConfig, {"mean": [0.1, 0.2]}, "need 1 values for grey"),
        (PreprocessConfig, {"sd": [0.0]}, "sd above 0"),
        (PreprocessConfig, {"sd": [float("nan")]}, "finite number"),
        (PreprocessConfig, {"mean": [float("inf")]}, "finite number"),
        (PreprocessConfig, {"divide": 0}, "greater than 0"),
        (PreprocessConfig, {"intensity": "window"}, "needed with intensity 'window'"),
        (PreprocessConfig, {"window": [0, 1]}, "only there"),
        (PreprocessConfig, {"intensity": "window", "window": [2, 1]}, "below its high value"),
        (PreprocessConfig, {"patch": [2, 64, 64]}, "4 to 1024 voxels"),
        (PreprocessConfig, {"spacing": [1, 1, 1]}, "need a patch too"),
        (PreprocessConfig, {"intensity": "zscore"}, "need a patch too"),
        (PreprocessConfig, {"patch": [8, 8, 8], "spacing": [1, 0, 1]}, "three steps"),
        (PredictConfig, {"overlap": 1.0}, "less than 0.95"),
        (PredictConfig, {"treshold": 0.4}, "Extra inputs are not permitted"),
        (FitConfig, {"lr": -1}, "greater than 0"),
    ],
)
def test_wrong_values_are_explained_in_one_line(kind: type[Any], fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(fields)
    message = str(explain(caught.value, "recipe"))
    assert words in message
    assert message.startswith("recipe: ")
    assert "\n" not in message


def test_explanations_stay_short_and_printable() -> None:
    nested: Any = 1
    for _ in range(900):
        nested = [nested]
    for name, value in (("bad\nname\x1b[31m", "x" * 10_000), ("n" * 10_000, nested), ("\ud800", "\ud800")):
        with pytest.raises(ValidationError) as caught:
            FitConfig.model_validate({name: value})
        message = str(explain(caught.value, "recipe"))
        assert len(message) < 500
        assert message.isprintable()


def test_channels_must_agree() -> None:
    with pytest.raises(ValidationError, match=r"gives 1 channel\(s\) but the backbone takes 3"):
        CheckpointConfig(
            model=ModelConfig(backbone=BackboneConfig(in_channels=3)),
            preprocess=PreprocessConfig(),
            card=Card(name="a"),
        )


@pytest.mark.parametrize(("dims", "patch"), [(2, (8, 8, 8)), (3, None)])
def test_a_patch_goes_with_a_volumetric_backbone(dims: int, patch: tuple[int, ...] | None) -> None:
    backbone = {"kind": "unet", "spatial_dims": dims}
    with pytest.raises(ValidationError, match="needed with a three-dimensional backbone, and only there"):
        CheckpointConfig.model_validate(
            {"model": {"backbone": backbone}, "preprocess": {"patch": patch}, "card": {"name": "a"}}
        )


def test_fields_that_came_later_are_written_only_where_they_are_used() -> None:
    """An old checkpoint's digest is taken over its config's JSON."""
    assert not {"axis_strides", "axis_kernels", "deep_supervision"} & BackboneConfig().model_dump().keys()
    assert not {"patch", "spacing"} & PreprocessConfig().model_dump(mode="json").keys()
    backbone = BackboneConfig(kind="dynunet", widths=(2, 4, 6, 8), deep_supervision=True)
    assert backbone.model_dump()["deep_supervision"] is True
    assert "axis_strides" not in backbone.model_dump_json()
    assert PreprocessConfig(patch=(8, 8, 8)).model_dump()["patch"] == (8, 8, 8)


def test_configs_do_not_change_after_they_were_checked() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PredictConfig().threshold = 2.0  # type: ignore[misc]
