"""Sample scans: what they promise about size, place, values and contrast."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from napari_llm4seg.errors import InputError
from napari_llm4seg.io.samples import REAL_SAMPLES, ct_phantom, real_sample, ultrasound_phantom


@pytest.mark.parametrize("seed", range(4))
def test_ultrasound_phantom(seed: int) -> None:
    image, mask = ultrasound_phantom(seed)
    assert image.data.shape == mask.data.shape == (1, 1, 470, 560)
    assert image.data.dtype == mask.data.dtype == np.uint8
    assert (image.kind, mask.kind, image.unit) == ("intensity", "label", "mm")
    np.testing.assert_array_equal(image.affine, mask.affine)
    assert [name for _, name, _ in mask.metadata["classes"]] == ["lesion"]
    grey, lesion = image.data[0, 0].astype(float), mask.data[0, 0] == 1
    assert 0.02 < lesion.mean() < 0.15
    rows, columns = np.nonzero(lesion)
    around = np.zeros_like(lesion)
    around[rows.min() - 15 : rows.max() + 15, columns.min() - 15 : columns.max() + 15] = True
    # Hypoechoic: much darker than what lies around it at the same depth, by the range of a real image.
    assert grey[around & ~lesion].mean() - grey[lesion].mean() > 30
    # Sound weakens with depth.
    assert grey[-40:].mean() < grey[40:200].mean() - 30


def test_lesion_changes_what_lies_below_it() -> None:
    for seed in (0, 1, 2, 3):
        image, mask = ultrasound_phantom(seed)
        lesion = mask.data[0, 0] == 1
        below = np.zeros_like(lesion)
        bottom = lesion.shape[0] - 1 - np.argmax(lesion[::-1], axis=0)
        middle = int(np.median(np.nonzero(lesion)[1]))
        below[bottom[middle] + 12 : bottom[middle] + 60, middle - 25 : middle + 25] = True
        aside = np.zeros_like(lesion)
        columns = np.flatnonzero(lesion.any(axis=0))
        aside[bottom[middle] + 12 : bottom[middle] + 60] = True
        aside[:, columns[0] - 25 : columns[-1] + 25] = False
        difference = image.data[0, 0][below].mean() - image.data[0, 0][aside].mean()
        assert difference > 0 if seed % 2 else difference < 0


def test_speckle_has_rayleigh_statistics() -> None:
    image, mask = ultrasound_phantom(0)
    inside = image.data[0, 0][mask.data[0, 0] == 1].astype(float)
    # Log-compressed speckle of a few looks spreads over some dB; noise-free or saturated tissue would not.
    decibel = inside * 62 / 255
    assert 2 < decibel.std() < 6


def test_ct_phantom() -> None:
    image, labels = ct_phantom(0)
    assert image.data.shape == labels.data.shape == (1, 40, 128, 128)
    assert image.data.dtype == np.int16
    assert image.spacing == (5.0, 1.5, 1.5)
    names = {value: name for value, name, _ in labels.metadata["classes"]}
    assert set(np.unique(labels.data)) == {0, *names}
    means = {name: image.data[labels.data == value].mean() for value, name in names.items()}
    assert 80 < means["liver"] < 125
    assert 90 < means["spleen"] < 130
    assert means["vertebrae"] > means["aorta"] > means["liver"]
    assert image.data.min() < -950


def test_ct_phantom_stands_as_a_patient_does() -> None:
    _, labels = ct_phantom(0)
    centre = {}
    for value, name, _ in labels.metadata["classes"]:
        index = np.argwhere(labels.data[0] == value).mean(axis=0)
        centre[name] = (labels.affine @ (*index, 1.0))[:3]
    superior, posterior, left = 0, 1, 2
    assert centre["liver"][left] < centre["spleen"][left]
    assert centre["right kidney"][left] < centre["left kidney"][left]
    assert centre["vertebrae"][posterior] > centre["aorta"][posterior] > centre["liver"][posterior]
    assert centre["liver"][superior] > centre["right kidney"][superior]


@pytest.mark.parametrize("make", [ultrasound_phantom, ct_phantom])
def test_seeds(make: object) -> None:
    first, again, other = make(3), make(3), make(4)  # type: ignore[operator]
    np.testing.assert_array_equal(first[0].data, again[0].data)
    np.testing.assert_array_equal(first[1].data, again[1].data)
    assert not np.array_equal(first[0].data, other[0].data)


def test_other_sizes() -> None:
    image, mask = ultrasound_phantom(1, (128, 96))
    assert image.grid == mask.grid == (1, 128, 96)
    assert mask.data.any()
    assert ct_phantom(1, (6, 40, 50))[1].grid == (6, 40, 50)
    with pytest.raises(InputError, match="64 x 64"):
        ultrasound_phantom(0, (20, 500))
    with pytest.raises(InputError, match="4 x 32 x 32"):
        ct_phantom(0, (3, 100, 100))


@pytest.mark.parametrize("name", sorted(REAL_SAMPLES))
def test_real_samples_need_no_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a sample reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    volume = real_sample(name)  # type: ignore[arg-type]
    assert volume.data.min() < volume.data.max()
    assert volume.channels == (3 if name == "ultrasound" else 1)


def test_unknown_sample() -> None:
    with pytest.raises(InputError, match="ct, mr, ultrasound"):
        real_sample("pet")  # type: ignore[arg-type]
