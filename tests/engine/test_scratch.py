"""A new model's input fits its scan, and it learns what a few slices show."""

from __future__ import annotations

import numpy as np
import pytest

from napari_llm4seg.config import FitConfig
from napari_llm4seg.engine.corrections import Correction, Corrections
from napari_llm4seg.engine.scratch import SCRATCH, blank, classes_of, from_scratch, input_size, preprocessing, smallest
from napari_llm4seg.errors import ConfigError, InputError
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


def test_a_new_model_finds_discs_it_has_not_seen() -> None:
    def made(seeds: range) -> Corrections:
        pairs = [disc(seed, 64) for seed in seeds]
        return Corrections(tuple(Correction(i[None], m.astype(np.uint8), str(n)) for n, (i, m) in enumerate(pairs)))

    fit = FitConfig.model_validate(SCRATCH.fit.model_dump() | {"epochs": 30, "augment": "paper"})
    config = SCRATCH.model_copy(update={"fit": fit, "seconds": None, "variants": 8})
    done = from_scratch(classes_of(["disc"]), made(range(5)), config, preset="tiny", device="cpu", name="discs")
    predictor = Predictor(done.checkpoint, "cpu")
    others = made(range(50, 56)).slices
    assert np.mean([dice(predictor.predict(each.volume).labels[0], each.labels) for each in others]) > 0.6
    assert done.checkpoint.name == "discs"
    assert done.checkpoint.config.card.training["parent"] is None
    assert done.gate.verdict == "not measured"
