"""A new model's input fits its scan, and it learns what a few slices show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_llm4seg.checkpoint import render_card
from napari_llm4seg.config import FitConfig
from napari_llm4seg.engine.corrections import Correction, Corrections
from napari_llm4seg.engine.scratch import (
    PRESETS,
    SCRATCH,
    blank,
    classes_of,
    from_scratch,
    frozen_layer,
    input_size,
    preprocessing,
    settings_for,
    smallest,
)
from napari_llm4seg.errors import CheckpointError, ConfigError, InputError
from napari_llm4seg.metrics import dice
from napari_llm4seg.predict import Predictor

from .conftest import disc


def slices(image: np.ndarray, n: int = 2) -> Corrections:
    labels = np.zeros(image.shape[1:], np.uint8)
    return Corrections(tuple(Correction(image, labels.copy(), str(i)) for i in range(n)))


def test_ct_is_windowed_pictures_are_left_and_the_rest_is_stretched() -> None:
    rng = np.random.default_rng(0)
    ct = preprocessing(slices(rng.integers(-1024, 900, (1, 40, 60)).astype(np.int16)))
    assert (ct.intensity, ct.window) == ("window", (-160.0, 240.0))
    cut = slices(rng.integers(-1024, 900, (1, 40, 60)).astype(np.int16))
    assert blank(classes_of(["liver"]), cut, layer=None).config.card.modality == "CT"
    said = preprocessing(slices(rng.integers(0, 900, (1, 40, 60)).astype(np.int16)), "CT")
    assert said.intensity == "window"
    mri = preprocessing(slices(rng.integers(0, 900, (1, 40, 60)).astype(np.int16)), "MR")
    assert (mri.intensity, mri.channels) == ("percentile", "grey")
    rgb = preprocessing(slices(rng.integers(0, 255, (3, 40, 60)).astype(np.uint8)))
    assert (rgb.intensity, rgb.channels, len(rgb.mean)) == ("uint8", "rgb", 3)
    assert all(0.4 < mean < 0.6 for mean in rgb.mean)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((101, 122), (112, 128)), ((512, 512), (160, 160)), ((30, 40), (64, 64)), ((512, 256), (160, 80))],
)
def test_sizes_are_what_two_cores_bear(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert input_size(slices(np.zeros((1, *shape), np.uint8))) == size


def test_classes_have_names_values_and_heads() -> None:
    two = classes_of(["liver", " spleen "])
    assert [(spec.value, spec.name) for spec in two] == [(1, "liver"), (2, "spleen")]
    image = slices(np.zeros((1, 32, 32), np.uint8))
    assert blank(two, image).config.model.head == "softmax"
    assert blank(two[:1], image).config.model.head == "sigmoid"
    for wrong in ([], ["a", "a"], [" "]):
        with pytest.raises(ConfigError, match="Name at least one class"):
            classes_of(wrong)
    with pytest.raises(InputError, match="no corrected slice"):
        from_scratch(two, Corrections(()))


def test_islands_far_smaller_than_anything_annotated_are_dropped() -> None:
    some = slices(np.zeros((1, 20, 20), np.uint8))
    assert smallest(classes_of(["a"]), some) == 0
    some.slices[0].labels[:2, :4] = 1
    some.slices[1].labels[:10] = 1
    assert smallest(classes_of(["a"]), some) == pytest.approx(8 / 400 / 4)
    some.slices[0].labels[:] = 255  # not annotated at all
    assert smallest(classes_of(["a"]), some) == 0.01


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where random layers are made, in this test alone."""
    monkeypatch.setenv("LLM4SEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_frozen_layer_is_named_as_people_do(cache: Path) -> None:
    shipped = frozen_layer("smollm2-135m")
    assert shipped is not None
    assert (shipped.repository, shipped.index) == ("HuggingFaceTB/SmolLM2-135M-Instruct", 14)
    assert frozen_layer("smollm2-135m:14") == frozen_layer(shipped) == shipped
    assert frozen_layer("none") is frozen_layer(None) is None
    random = frozen_layer("random")
    assert random is not None
    assert (random.repository, random.index) == ("random/smollm2-135m", 0)
    assert frozen_layer("random:smollm2-135m") == random
    assert frozen_layer("random:3") == frozen_layer("random:smollm2-135m:3")
    assert frozen_layer("random:3") != random
    for wrong, words in (
        ("smollm2-135m:13", "not at hand. Fetch it: llm4seg models fetch smollm2-135m --layer 13"),
        ("smolm", "There is no frozen layer 'smolm'. Give none, random or"),
        ("random:smolm", "no language model 'smolm'"),
    ):
        with pytest.raises(CheckpointError, match=words):
            frozen_layer(wrong)


@pytest.mark.parametrize("backbone", ["cmunext", "unet"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_size_and_backbone_makes_a_network_of_its_own(preset: Any, backbone: Any) -> None:
    image = slices(np.zeros((1, 64, 80), np.uint8))
    made = blank(classes_of(["a"]), image, preset=preset, backbone=backbone, layer=None)
    config = made.config.model.backbone
    assert (config.kind, config.widths) == (backbone, PRESETS[preset]["widths"])
    net = made.build().eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 1, *input_size(image))).shape == (1, 1, *input_size(image))
    assert config.kind in made.config.card.training["new"].values()
    assert settings_for(image, preset).seconds == (300 if preset == "base" else 105)


def test_what_is_no_size_or_backbone_is_said() -> None:
    image = slices(np.zeros((1, 32, 32), np.uint8))
    with pytest.raises(ConfigError, match="size was 'huge'; choose from tiny, small, base"):
        blank(classes_of(["a"]), image, preset="huge")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="backbone was 'dynunet'; choose from cmunext, unet"):
        blank(classes_of(["a"]), image, backbone="dynunet")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backbone", "layer", "words"),
    [
        ("cmunext", "smollm2-135m", "tiny CMUNeXt with frozen layer 14 of smollm2-135m"),
        ("unet", "random", "tiny U-Net with a frozen random layer of smollm2-135m's shape (seed 0)"),
        ("unet", None, "tiny U-Net without a language-model layer"),
    ],
)
def test_a_new_model_finds_discs_it_has_not_seen(backbone: Any, layer: str | None, words: str, cache: Path) -> None:
    def made(seeds: range) -> Corrections:
        pairs = [disc(seed, 64) for seed in seeds]
        return Corrections(tuple(Correction(i[None], m.astype(np.uint8), str(n)) for n, (i, m) in enumerate(pairs)))

    fit = FitConfig.model_validate(SCRATCH.fit.model_dump() | {"epochs": 60, "augment": "paper"})
    config = SCRATCH.model_copy(update={"fit": fit, "seconds": None, "variants": 8})
    what: dict[str, Any] = {"preset": "tiny", "backbone": backbone, "layer": layer}
    done = from_scratch(classes_of(["disc"]), made(range(5)), config, **what, device="cpu", name="discs")
    predictor = Predictor(done.checkpoint, "cpu")
    others = made(range(50, 56)).slices
    assert np.mean([dice(predictor.predict(each.volume).labels[0], each.labels) for each in others]) > 0.6
    card = done.checkpoint.config.card
    assert (done.checkpoint.name, card.training["parent"], done.gate.verdict) == ("discs", None, "not measured")
    assert card.training["new"]["words"] == words
    assert card.training_data == f"5 slices annotated by the person who trained it, {words}"
    assert (done.checkpoint.config.model.block is None) == (layer is None)
    assert words.split()[1].lower().replace("-", "") in render_card(done.checkpoint.config)
